"""Style mixing (Karras et al. 2019, section 3.1): some layers from one face, the others from another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from facegen.aging.edit import layer_indices
from facegen.errors import FacegenError
from facegen.figures.grids import image_grid
from facegen.latents.files import read_latents
from facegen.latents.generate import Picture, pictures_of_seeds, save_each, tile_of
from facegen.latents.labels import Label
from facegen.latents.space import LatentSpace
from facegen.photos.mark import Mark
from facegen.photos.save import save_marked
from facegen.text import in_ranges

MAX_PICTURES = 10_000  # of one sheet
COARSE = 0.4  # share of the layers that come from the columns by default: 7 of 18, as in the paper


def usual_styles(num_ws: int) -> list[int]:
    """The layers that come from a column by default: the lowest 40 %, 0 to 3 of 10."""
    return list(range(max(1, round(COARSE * num_ws))))


def mix_styles(ws: torch.Tensor, styles: torch.Tensor, layers: str | Sequence[int] | None = None) -> torch.Tensor:
    """Return ws `[..., num_ws, w_dim]` with some layers from `styles`, which is broadcast.

    Args:
        layers: as `layer_indices` takes them; None for the lowest 40 %.

    Example:
        >>> import facegen
        >>> space = facegen.LatentSpace.open()
        >>> ws = space.from_seeds([1, 2, 3, 4, 5], space.classes.of_age(30))
        >>> rows, columns = ws[:2], ws[2:]
        >>> mixed = facegen.mix_styles(rows[:, None], columns[None], "coarse")  # [rows, columns, num_ws, w_dim]
        >>> mixed.shape == (2, 3, *ws.shape[1:])
        True
    """
    num_ws = ws.shape[-2]
    taken = torch.zeros([num_ws, 1], dtype=torch.bool, device=ws.device)
    taken[usual_styles(num_ws) if layers is None else layer_indices(layers, num_ws)] = True
    return torch.where(taken, styles, ws)


def check_count(rows: int, columns: int) -> None:
    """Raise a FacegenError if so many rows and columns are too many pictures."""
    if rows * columns > MAX_PICTURES:
        raise FacegenError(
            f"{rows:,} rows and {columns:,} columns are more than {MAX_PICTURES:,} pictures: draw fewer at a time"
        )


def faces_to_mix(
    space: LatentSpace,
    seeds: Sequence[int],
    labels: Sequence[Label],
    files: Sequence[str | os.PathLike[str]],
    *,
    named: bool,
    first: int = 0,
) -> list[Picture]:
    """The faces of rows or columns: every seed with every label, then the latents in files.

    These are truncated toward the mean of all classes.

    Args:
        named: the labels are part of the names, since rows and columns have several.
        first: the number of the first latent from a file.
    """
    faces = []
    for face in pictures_of_seeds(space, seeds, labels):
        label = f"_{face.column}" * (named and bool(face.column))
        faces.append(replace(face, name=f"{face.seed}{label}"))
    if files:
        ws = space.truncate(read_latents(files, space.generator).ws)
        faces += [Picture(f"proj{number:02d}", w, f"proj{number:02d}") for number, w in enumerate(ws, first)]
    return faces


def save_mixtures(
    space: LatentSpace,
    rows: Sequence[Picture],
    columns: Sequence[Picture],
    layers: Sequence[int],
    outdir: str | os.PathLike[str],
) -> Iterator[Path]:
    """Draw every row with the layers of every column; yields the path of every file.

    Writes `85-85.png` for each face, `85-55.png` for row 85 with column 55, and `grid.png` with all of them.

    Raises a FacegenError for too many, see `check_count`.
    """
    check_count(len(rows), len(columns))
    originals = {face.name: face for face in (*rows, *columns)}
    pictures = [replace(face, name=_file_name(face, face)) for face in originals.values()]
    pictures += [_mixture(row, column, layers) for row in rows for column in columns if row.name != column.name]
    count = (len(rows) + 1) * (len(columns) + 1)
    tiles: dict[str, np.ndarray] = {}
    for picture, (path, pixels) in zip(pictures, save_each(space, pictures, outdir), strict=True):
        tiles[picture.name] = tile_of(pixels, count)
        yield path
    sheet = [np.zeros_like(next(iter(tiles.values()))), *(tiles[_file_name(face, face)] for face in columns)]
    for row in rows:
        sheet += [tiles[_file_name(row, face)] for face in (row, *columns)]
    captions = ["", *map(_caption, columns)], ["", *map(_caption, rows)]
    grid = image_grid(sheet, len(columns) + 1, column_labels=captions[0], row_labels=captions[1])
    yield save_marked(grid, Path(outdir) / "grid.png", Mark(generated=True, made="a grid of mixed faces"))


def _mixture(row: Picture, column: Picture, layers: Sequence[int]) -> Picture:
    made = f"{row.row} {row.column}".strip(), f"with layers {in_ranges(layers)} of {column.row} {column.column}"
    return Picture(_file_name(row, column), mix_styles(row.w, column.w, layers), *made)


def _file_name(row: Picture, column: Picture) -> str:
    return f"{row.name}-{column.name}"


def _caption(face: Picture) -> str:
    return face.name.replace("_", " ", 1)
