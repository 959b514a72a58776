"""Draw how a photo gets another age, as SVG for light and for dark pages: docs/images/architecture-{light,dark}.svg.

    python scripts/architecture_picture.py

The pictures in it are real: the face that matplotlib ships (Grace Hopper; US Navy, public domain), the weights of the
package. The same weights draw the same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cbook import get_sample_data
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from facegen import AgeTransfer, Edit, open_original, paste_results

OUT = Path(__file__).parents[1] / "docs" / "images"
AGE = 25
SHOWN = (100, 50, 420, 370)  # this part of the photo
MIDDLE, ABOVE, BELOW = 22.0, 33.0, 11.0  # heights of the three rows
WIDTH, HEIGHT = 146.0, 45.0


@dataclass(frozen=True)
class Colors:
    """The colors of one variant."""

    text: str
    line: str
    network: str
    edge: str


THEMES = {
    "light": Colors(text="#1f2328", line="#57606a", network="#e3edfb", edge="#3b6fb6"),
    "dark": Colors(text="#e6edf3", line="#9aa4af", network="#1d2f4a", edge="#7fa9e6"),
}


@dataclass(frozen=True)
class Pictures:
    """What the picture shows of one photo: pictures, two w+ `[num_ws, w_dim]`, and the age in the photo."""

    photo: Image.Image
    face: Image.Image
    reconstruction: Image.Image
    aged: Image.Image
    result: Image.Image
    w: np.ndarray
    moved: np.ndarray
    age: float


def make_pictures() -> Pictures:
    """Age the face in the sample photo."""
    transfer = AgeTransfer.from_files()
    photo = open_original(get_sample_data("grace_hopper.jpg", asfileobj=False)).image
    [result] = transfer.age_faces(photo, ages=[AGE])
    [(_, pasted)] = paste_results(photo, [result], template=transfer.template)
    latents, own = torch.from_numpy(result.latent)[None], torch.tensor([result.input_age])
    with torch.no_grad():
        start = transfer.latent_ages.place(latents, own)
        step = transfer.latent_ages.steps(latents, own, torch.tensor([float(AGE)]), Edit())[:, 0]
    return Pictures(
        photo=photo.crop(SHOWN),
        face=result.input,
        reconstruction=result.reconstruction,
        aged=result.aged[0].image,
        result=pasted.crop(SHOWN),
        w=start[0].numpy(),
        moved=(start + step)[0].numpy(),
        age=result.input_age,
    )


def show(axes: Axes, picture: Image.Image, x: float, y: float, side: float) -> None:
    """Put a picture around a point, at no more pixels than are seen."""
    small = picture.resize((min(picture.width, 128),) * 2, Image.Resampling.LANCZOS)
    box = (x - side / 2, x + side / 2, y - side / 2, y + side / 2)
    axes.imshow(np.asarray(small.convert("RGB")), extent=box, interpolation="none")


def show_w(axes: Axes, w: np.ndarray, x: float, y: float, side: float) -> None:
    """Show a part of a w+ as colors: a row for each layer."""
    box = (x - side / 2, x + side / 2, y - side / 2, y + side / 2)
    axes.imshow(w[:, : w.shape[0] * 2], extent=box, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto", interpolation="none")


def network(axes: Axes, text: str, x: float, y: float, height: float, colors: Colors) -> None:
    """Draw a network as a box."""
    corner = (x - 7, y - height / 2)
    look = {"facecolor": colors.network, "edgecolor": colors.edge, "linewidth": 1.4}
    axes.add_patch(FancyBboxPatch(corner, 14, height, boxstyle="round,pad=0,rounding_size=1.2", **look))
    axes.text(x, y, text, color=colors.text, ha="center", va="center", fontsize=11, weight="bold")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colors: Colors) -> None:
    """Draw an arrow from one point to another."""
    look = {"arrowstyle": "-|>", "color": colors.line, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops={**look, "mutation_scale": 12})


def say(axes: Axes, text: str, x: float, y: float, colors: Colors, **how: object) -> None:
    """Write a caption, its upper middle at a point."""
    axes.text(x, y, text, **{"color": colors.text, "ha": "center", "va": "top", "fontsize": 9.5, **how})


def draw(pictures: Pictures, colors: Colors, path: Path) -> None:
    """Draw one variant and write it."""
    figure = plt.figure(figsize=(WIDTH / 10, HEIGHT / 10))
    axes = figure.add_axes((0, 0, 1, 1))
    draw_the_way_in(axes, pictures, colors)
    draw_the_way_out(axes, pictures, colors)
    axes.set(xlim=(0, WIDTH), ylim=(2, HEIGHT + 2), aspect="equal")
    axes.set_axis_off()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def draw_the_way_in(axes: Axes, pictures: Pictures, colors: Colors) -> None:
    """Photo, face, encoder and age estimator, w+ and its step."""
    show(axes, pictures.photo, 9, MIDDLE, 16)
    say(axes, "photo", 9, MIDDLE - 8.7, colors)
    arrow(axes, (17.6, MIDDLE), (23.4, MIDDLE), colors)
    say(axes, "find,\nalign", 20.4, MIDDLE + 5.6, colors)
    show(axes, pictures.face, 29, MIDDLE, 10)
    say(axes, "face", 29, MIDDLE - 5.7, colors)
    for y, name in ((ABOVE, "encoder"), (BELOW, "age\nestimator")):
        arrow(axes, (34.6, MIDDLE + np.sign(y - MIDDLE)), (40.4, y - np.sign(y - MIDDLE) * 3), colors)
        network(axes, name, 48, y, 8.5, colors)
    arrow(axes, (55.6, ABOVE), (61.4, ABOVE), colors)
    show_w(axes, pictures.w, 67, ABOVE, 10)
    say(axes, "w+, a row for each layer", 67, ABOVE + 8, colors)
    arrow(axes, (55.6, BELOW + 2), (66.2, MIDDLE), colors)
    say(axes, f"looks {pictures.age:.0f}", 57.5, MIDDLE - 2.2, colors)
    show_w(axes, pictures.moved, 67, BELOW, 10)
    arrow(axes, (67, ABOVE - 5.6), (67, BELOW + 5.6), colors)
    say(axes, f"a step in w:\n{pictures.age:.0f} to {AGE}", 68.2, MIDDLE + 2, colors, ha="left")
    say(axes, f"w+ at {AGE}", 67, BELOW - 5.7, colors)


def draw_the_way_out(axes: Axes, pictures: Pictures, colors: Colors) -> None:
    """Generator, its two drawings, their difference, and the photo at the other age."""
    network(axes, "generator", 91, MIDDLE, 30, colors)
    rows = ((ABOVE, pictures.reconstruction, "reconstruction"), (BELOW, pictures.aged, f"the same at {AGE}"))
    for y, picture, name in rows:
        arrow(axes, (72.6, y), (83.4, y), colors)
        arrow(axes, (98.6, y), (104.4, y), colors)
        show(axes, picture, 110, y, 10)
        say(axes, name, 110, y + 8 if y > MIDDLE else y - 5.7, colors)
    arrow(axes, (110, ABOVE - 5.6), (110, MIDDLE + 1.8), colors)
    arrow(axes, (110, BELOW + 5.6), (110, MIDDLE - 1.8), colors)
    axes.text(110, MIDDLE, "−", color=colors.text, ha="center", va="center", fontsize=16, weight="bold")
    arrow(axes, (112, MIDDLE), (127.4, MIDDLE), colors)
    say(axes, "change ×\nstrength", 119.5, MIDDLE + 5.6, colors)
    show(axes, pictures.result, 136, MIDDLE, 16)
    say(axes, f"photo at {AGE}", 136, MIDDLE - 8.7, colors)
    top = HEIGHT - 2.2
    axes.plot([9, 9, 136], [MIDDLE + 8.6, top, top], color=colors.line, linewidth=1.4, solid_joinstyle="round")
    arrow(axes, (136, top), (136, MIDDLE + 8.6), colors)
    say(axes, "all of the photo that does not change", 29, top - 0.8, colors)


def main() -> None:
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "facegen", "font.family": "DejaVu Sans"})
    pictures = make_pictures()
    for name, colors in THEMES.items():
        draw(pictures, colors, OUT / f"architecture-{name}.svg")


if __name__ == "__main__":
    main()
