"""The pictures of a generator's run: grids of generated and of real faces, a column for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from facegen.data.archive import FaceArchive
from facegen.figures import grids
from facegen.networks.generator import Generator

GRID_ROWS = 8


def grid_latents(G: Generator, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return z and c of the fakes grid: one z per row, one class per column (ten free columns without classes)."""
    columns = G.c_dim or 10
    generator = torch.Generator().manual_seed(seed)
    if G.c_dim:
        z = torch.randn([GRID_ROWS, G.z_dim], generator=generator).repeat_interleave(columns, dim=0)
        c = torch.eye(columns).repeat(GRID_ROWS, 1)
    else:
        z = torch.randn([GRID_ROWS * columns, G.z_dim], generator=generator)
        c = torch.zeros([len(z), 0])
    return z, c


def save_fakes(G: Generator, latents: tuple[torch.Tensor, torch.Tensor], archive: FaceArchive, path: Path) -> None:
    """Write the grid of generated faces: columns are classes, rows keep z, noise is constant."""
    device = next(G.parameters()).device
    pictures = []
    with torch.no_grad():
        for z, c in zip(*(part.to(device).split(16) for part in latents), strict=True):
            pictures.append(grids.to_pixels(G(z, c, noise_mode="const")))
    columns = G.c_dim or 10
    grids.save_image_grid(np.concatenate(pictures), path, columns, column_labels=archive.class_names or None)


def save_reals(archive: FaceArchive, path: Path, seed: int, even: str | None = None) -> None:
    """Write a grid of real faces, a column per class; what a class lacks stays gray.

    Down a column the values of the attribute `even` take turns for as long as they last; unknown ones come last.
    """
    values = None if even is None else archive.attribute(even)
    random = np.random.default_rng(seed)
    columns = archive.c_dim or 10
    empty = np.full([archive.channels, archive.resolution, archive.resolution], 128, np.uint8)
    pictures = [empty] * (GRID_ROWS * columns)
    for column in range(columns):
        members = np.flatnonzero(archive.labels == (column if archive.c_dim else -1))
        chosen = random.permutation(members).tolist()
        if values is not None:
            chosen = _take_turns(chosen, values)
        for row, index in enumerate(chosen[:GRID_ROWS]):
            pictures[row * columns + column] = archive.image(index)
    grid = np.stack(pictures).transpose(0, 2, 3, 1)
    grids.save_image_grid(grid, path, columns, column_labels=archive.class_names or None)


def _take_turns(indices: list[int], values: Sequence[str | None]) -> list[int]:
    """Order pictures so that the first of each value come first, then the second ones; unknown ones last."""
    seen: Counter[str | None] = Counter()
    turns = []
    for index in indices:
        value = values[index]
        turns.append((value is None, seen[value], value or "", index))
        seen[value] += 1
    return [index for *_, index in sorted(turns)]
