"""Faces moved along directions: sheets of pictures, and videos from one end to the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facegen.aging.edit import layer_indices
from facegen.errors import FacegenError
from facegen.figures.grids import image_grid
from facegen.latents.directions.files import Factor
from facegen.latents.directions.find import spread
from facegen.latents.frames import save_frames
from facegen.latents.generate import Picture, tile_of
from facegen.latents.mixing import mix_styles
from facegen.latents.options import MovingOptions, VideoOptions
from facegen.latents.seeds import latents_of_seeds
from facegen.latents.space import LatentSpace
from facegen.photos.mark import Mark
from facegen.photos.save import save_marked
from facegen.text import in_ranges, shown

MAX_FRAMES = 100_000  # of a video
MAX_NAME = 40  # letters of the directions in a file's name


def move(
    ws: torch.Tensor,
    direction: torch.Tensor,
    amount: float | torch.Tensor = 1.0,
    layers: str | Sequence[int] | None = None,
) -> torch.Tensor:
    """Return ws `[..., num_ws, w_dim]` moved along a direction `[w_dim]`.

    Args:
        amount: how many lengths of the direction, below 0 the other way; a tensor has one for each w, `[...]`.
        layers: what moves, see `layer_indices`; None for all.
    """
    moves = torch.zeros([ws.shape[-2], 1], device=ws.device)
    moves[layer_indices(layers, ws.shape[-2])] = 1
    amounts = torch.as_tensor(amount, dtype=ws.dtype, device=ws.device)[..., None, None]
    return ws + amounts * moves * direction.to(ws)


class Mover:
    """Moves faces along the directions of a file.

    Args:
        space: whose faces.
        factor: the directions, see `read_factor`.
        index: which of them; empty for all.
        options: how far and in which layers.

    Attributes:
        index: the directions that are asked for, by number.

    Raises:
        FacegenError: no such directions or layers, directions of another network, or no z that could be moved.
    """

    def __init__(
        self, space: LatentSpace, factor: Factor, index: Sequence[int] = (), options: MovingOptions | None = None
    ) -> None:
        generator, self.options = space.generator, options or MovingOptions()
        w_dim, count = factor.vectors.shape
        if w_dim != generator.w_dim:
            raise FacegenError(f"these are directions in a w of {w_dim}, but this network's has {generator.w_dim}")
        self.index = list(index) or list(range(count))
        if max(self.index) >= count:
            raise FacegenError(f"there is no direction {max(self.index)}: the file has {count}, 0 to {count - 1}")
        layers = factor.layers if self.options.layers is None else self.options.layers
        self.layers = layer_indices(layers, generator.num_ws)
        self.space, self.vectors = space, factor.vectors.to(space.device)
        if self.options.space == "z":
            if generator.z_dim != generator.w_dim:
                raise FacegenError(
                    f"a direction in w does not fit z: this network's z has {generator.z_dim} numbers, its w "
                    f"{generator.w_dim}; take --space w"
                )
        else:  # the z of a seed have a spread of 1 in every direction
            self.vectors = self.vectors * spread(generator, self.vectors)

    def moved(self, face: Picture, index: int, degree: float) -> torch.Tensor:
        """The w `[num_ws, w_dim]` of a face moved along a direction; a degree is a standard deviation of all faces."""
        direction = self.vectors[:, index]
        if self.options.space == "w":
            return move(face.w, direction, degree, self.layers)
        if face.seed is None or face.label is None:
            raise FacegenError(f"{face.name} has no z to move: use --space w")
        z = torch.from_numpy(latents_of_seeds([face.seed], self.space.generator.z_dim)).to(direction)
        moved = self.space.from_z(z + degree * direction, face.label.weights[None])[0]
        return mix_styles(face.w, moved, self.layers)

    def file_name(self, face: Picture) -> str:
        """`seed-85_index-0-4_degree-2`, short for any number of directions."""
        written = in_ranges(self.index)
        if len(written) > MAX_NAME:
            written = f"{self.index[0]}-{self.index[-1]}-of-{len(self.index)}"
        return f"{face.name}_index-{written}_degree-{self.options.degree:g}"

    def amounts(self) -> list[float]:
        """The degrees of a video's frames: from minus over 0 to plus, both ends among them, in equal steps."""
        degree = self.options.degree
        steps = max(1, round(min(degree / self.options.vid_increment, MAX_FRAMES)))
        if 2 * steps + 1 > MAX_FRAMES:
            raise FacegenError(f"a video can have at most {MAX_FRAMES:,} frames: use a larger --vid-increment")
        return [degree * step / steps for step in range(-steps, steps + 1)]


def save_sheet(mover: Mover, face: Picture, outdir: str | os.PathLike[str], photo: np.ndarray | None = None) -> Path:
    """Write a sheet with a row for each direction: the face moved back, as it is, and moved forth; return its path.

    Args:
        photo: uint8 `[H, W, 3]`, what the face was made from; it begins every row.
    """
    degree, count = mover.options.degree, (3 if photo is None else 4) * len(mover.index)

    def every() -> Iterator[torch.Tensor]:
        yield face.w
        for index in mover.index:
            yield mover.moved(face, index, -degree)
            yield mover.moved(face, index, degree)

    bar = tqdm(
        mover.space.draw(every()),
        desc=shown(face.name, 40),
        total=1 + 2 * len(mover.index),
        unit="picture",
        disable=None,
    )
    still, *moved = [tile_of(pixels, count) for pixels in bar]
    before = [] if photo is None else [tile_of(photo, count)]
    rows = [[*before, back, still, forth] for back, forth in zip(moved[::2], moved[1::2], strict=True)]
    captions = [*["photo"] * len(before), f"-{degree:g}", "0" if photo is None else "generated", f"+{degree:g}"]
    sheet = image_grid(
        [tile for row in rows for tile in row],
        len(captions),
        column_labels=captions,
        row_labels=[str(index) for index in mover.index],
    )
    made = f"{face.row} {face.column}".strip() + f", moved along directions {in_ranges(mover.index)}"
    return save_marked(sheet, Path(outdir) / f"{mover.file_name(face)}.png", Mark(generated=True, made=made))


def save_videos(mover: Mover, face: Picture, outdir: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a video of a face for each direction, `seed-85/index-0/...`; yields the paths of videos and frames."""
    options, amounts = VideoOptions(fps=mover.options.fps), mover.amounts()
    for index in mover.index:
        frames = mover.space.draw(mover.moved(face, index, amount) for amount in amounts)
        name = f"{face.name}_index-{index}_degree-{mover.options.degree:g}"
        made = f"{face.row} {face.column}".strip() + f", moved along direction {index}"
        yield from save_frames(frames, len(amounts), Path(outdir) / face.name / f"index-{index}", name, options, made)
