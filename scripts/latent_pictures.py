"""Draw the pictures of docs/latents.md with the weights in the package, by the commands that stand there.

.venv/bin/python scripts/latent_pictures.py            # all, into docs/images
.venv/bin/python scripts/latent_pictures.py walk mix   # some
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image

from facegen.figures.grids import image_grid
from facegen.images import open_photo, save_picture
from facegen.weights.load import load_generator
from facegen.weights.locate import shipped_file

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIDE = 96  # pixels of a face in a row of frames
COLUMNS = 10
PHOTO = get_sample_data("grace_hopper.jpg", asfileobj=False)

# name -> (the command's words, the file or files of its folder that are shown)
PICTURES = {
    "generate": ("generate --seeds 0-4 --age 5:95:15 --grid", "grid.png"),
    "walk": ("walk --seeds 2 --age 5:95 --frames 40 --video none", "frames/frame*.png"),
    "circle": (
        "walk --interpolation circularloop --random-seed 1 --age 40 --frames 40 --video none",
        "frames/frame*.png",
    ),
    "truncation": (
        "walk --process truncation --seeds 2 --age 40 --start -1 --stop 1.5 --increment 0.0625 --video none",
        "frames/frame*.png",
    ),
    "mix": ("mix --rows 0-3 --row-age 75 --cols 8-11 --col-age 20", "grid.png"),
    "directions": ("directions apply FACTOR --index 0-3 --seeds 5 --age 40", "*.png"),
    "project": (
        f"project --target {PHOTO} --distance lite --space w+ --start encoder --num-steps 100 --then-ages 5:85:20",
        "ages.png",
    ),
    "digress": (
        "digress --seed 1 --age 30 --radius-large 60 --step1 0.05 --step2 0.025 --video none",
        "frames/frame*.png",
    ),
    "size": ("generate --seeds 2,5 --age 40 --size WIDE", "seed*.png"),
}


def facegen(words: str, *more: str) -> None:
    subprocess.run([sys.executable, "-m", "facegen", *words.split(), *more], check=True, stdout=subprocess.DEVNULL)


def picture_of(name: str, folder: Path) -> Image.Image:
    """Run a picture's command, and lay its files out: frames as a row of some of them."""
    words, pattern = PICTURES[name]
    if "FACTOR" in words:
        facegen(f"directions find --layers coarse --out {folder}/factor.pt")
        words = words.replace("FACTOR", f"{folder}/factor.pt")
    if "WIDE" in words:
        side = load_generator(shipped_file("generator"))[0].img_resolution
        words = words.replace("WIDE", f"{2 * side}-{side}")
    facegen(words, "--outdir", str(folder / "out"))
    paths = sorted((folder / "out").glob(pattern))
    if len(paths) == 1:
        return open_photo(paths[0])
    chosen = [paths[round(index * (len(paths) - 1) / (COLUMNS - 1))] for index in range(min(COLUMNS, len(paths)))]
    pictures = [open_photo(path) for path in (paths if len(paths) <= COLUMNS else chosen)]
    sized = [x.resize((SIDE * x.width // x.height, SIDE), Image.Resampling.LANCZOS) for x in pictures]
    return image_grid([np.asarray(x) for x in sized], len(sized))


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PICTURES)))
def main(names: tuple[str, ...]) -> None:
    """Draw the pictures of docs/latents.md."""
    for name in names or PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            click.echo(save_picture(picture_of(name, Path(folder)), IMAGES / f"latents-{name}.jpg"))


if __name__ == "__main__":
    main()
