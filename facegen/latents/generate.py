"""Pictures from seeds and from files of latents, and the files that they become."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from facegen.errors import FacegenError
from facegen.figures.grids import MIN_TILE, image_grid
from facegen.files import write_json
from facegen.latents.files import read_latents, save_latents
from facegen.latents.labels import Label
from facegen.latents.seeds import latents_of_seeds
from facegen.latents.space import LatentSpace
from facegen.photos.mark import Mark
from facegen.photos.save import save_marked

GRID_TILE = 256  # pixels of a side of a picture in a grid, at most
MAX_PICTURES = 100_000  # of one run: their w wait in memory
SHEET_PIXELS = 64_000_000  # of all pictures on a sheet, as long as they are larger than MIN_TILE


@dataclass(frozen=True)
class Picture:
    """A picture to draw.

    name: of its file, `seed0007-21-30`.
    w: `[num_ws, w_dim]`.
    row, column: what a grid calls its row and its column; without classes the column has no name.
    seed, label: what it is of; a latent from a file has no seed, and need not have a label.
    """

    name: str
    w: torch.Tensor
    row: str
    column: str = ""
    seed: int | None = None
    label: Label | None = None


@dataclass
class Wanted:
    """What is written beside the pictures.

    grid: `grid.png`, a row for each seed and a column for each class.
    latents: `latents.npz`, see `facegen.latents.files`.
    labels: `dataset.json`, the pictures' classes as training archives have them.
    """

    grid: bool = False
    latents: bool = False
    labels: bool = False


def pictures_of_seeds(space: LatentSpace, seeds: Sequence[int], labels: Sequence[Label]) -> Iterator[Picture]:
    """Every seed with every label, seed by seed; the names of several labels are part of the pictures' names.

    Raises a FacegenError for too many.
    """
    if len(seeds) * len(labels) > MAX_PICTURES:
        raise FacegenError(
            f"{len(seeds):,} seeds of {len(labels):,} classes or ages are more than {MAX_PICTURES:,} pictures: "
            "draw fewer at a time"
        )
    weights = torch.stack([label.weights for label in labels])
    for seed in seeds:
        z = torch.from_numpy(latents_of_seeds([seed], space.generator.z_dim))
        for label, w in zip(labels, space.from_z(z.expand(len(labels), -1), weights), strict=True):
            name = f"seed{seed:04d}" + f"-{label.name}" * (len(labels) > 1)
            yield Picture(name, w, f"seed {seed}", label.name, seed, label)


def pictures_of_files(
    space: LatentSpace, paths: Sequence[str | os.PathLike[str]], label: Label | None = None
) -> Iterator[Picture]:
    """The latents in files or folders: `proj00`, ...; truncated toward the label's mean, else that of all classes."""
    latents = read_latents(paths, space.generator)
    ws = space.truncate(latents.ws, label)
    for name, w in zip(latents.names, ws, strict=True):
        yield Picture(name, w, name, label=label)


def save_pictures(
    space: LatentSpace, pictures: Sequence[Picture], outdir: str | os.PathLike[str], wanted: Wanted | None = None
) -> Iterator[Path]:
    """Draw pictures and write each as a PNG, then what else is wanted; yields the path of every file.

    Args:
        pictures: row by row, rows of one length where a grid is wanted.
    """
    wanted, outdir, tiles = wanted or Wanted(), Path(outdir), []
    for path, pixels in save_each(space, pictures, outdir):
        yield path
        if wanted.grid:
            tiles.append(tile_of(pixels, len(pictures)))
    if wanted.grid:
        yield save_marked(grid_of(pictures, tiles), outdir / "grid.png", Mark(generated=True, made="a grid"))
    if wanted.latents:
        yield save_latents(outdir / "latents.npz", torch.stack([x.w for x in pictures]), **_origin(space, pictures))
    if wanted.labels:
        write_json(outdir / "dataset.json", {"labels": [[f"{x.name}.png", class_of(x)] for x in pictures]})
        yield outdir / "dataset.json"


def save_each(
    space: LatentSpace, pictures: Sequence[Picture], outdir: str | os.PathLike[str]
) -> Iterator[tuple[Path, np.ndarray]]:
    """Draw pictures and write each as a PNG; yields the path and the pixels of each."""
    drawn = space.draw(picture.w for picture in pictures)
    for picture, pixels in zip(tqdm(pictures, desc="drawing", unit="picture", disable=None), drawn, strict=True):
        mark = Mark(generated=True, made=f"{picture.row} {picture.column}".strip())
        yield save_marked(as_image(pixels), Path(outdir) / f"{picture.name}.png", mark), pixels


def as_image(pixels: np.ndarray) -> Image.Image:
    """A picture `[H, W, C]` as Pillow has it; one channel is gray."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def tile_of(pixels: np.ndarray, count: int) -> np.ndarray:
    """A picture `[H, W, C]` as small as a sheet of `count` pictures shows it, in RGB: all of them wait in memory."""
    side = max(MIN_TILE, min(GRID_TILE, math.isqrt(SHEET_PIXELS // count)))
    image = as_image(pixels).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def grid_of(pictures: Sequence[Picture], tiles: Sequence[np.ndarray]) -> Image.Image:
    """The pictures on one sheet, rows and columns with their names; tiles are those of `tile_of`."""
    rows = list(dict.fromkeys(picture.row for picture in pictures))
    columns = list(dict.fromkeys(picture.column for picture in pictures))
    return image_grid(tiles, len(columns), row_labels=rows, column_labels=columns if any(columns) else None)


def _origin(space: LatentSpace, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
    """What `latents.npz` says of where the w came from."""
    seeds = [picture.seed for picture in pictures if picture.seed is not None]
    if len(seeds) < len(pictures):
        return {}
    names = {"classes": np.array([picture.column for picture in pictures])} if space.classes.c_dim else {}
    return {"z": latents_of_seeds(seeds, space.generator.z_dim), "seeds": np.array(seeds), **names}


def class_of(picture: Picture) -> int:
    """The number of a picture's class; of an age between two groups, the one that it has more of.

    Raises a FacegenError for a picture without a class.
    """
    if picture.label is None or len(picture.label.weights) == 0:
        raise FacegenError(f"{picture.name} has no class, so there are no labels to write: leave out --labels-json")
    return int(picture.label.weights.argmax())
