"""Walks from key to key, through z, w, classes and ages: the w of every frame, computed as frames are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from facegen.errors import FacegenError
from facegen.latents.labels import Classes, Label
from facegen.latents.mapping import map_latents
from facegen.latents.options import MAX_FRAMES
from facegen.latents.space import LatentSpace
from facegen.latents.walks.easing import EASINGS

PARALLEL = 1e-4  # sine of the angle below which two vectors have no great circle of their own


@dataclass(frozen=True)
class Places:
    """Where the frames of a walk lie: each `amount` of the way from the key `start` to the key `end`, tensors `[N]`."""

    start: torch.Tensor
    end: torch.Tensor
    amount: torch.Tensor

    def __len__(self) -> int:
        return len(self.amount)

    def __getitem__(self, frames: slice) -> Places:
        return Places(self.start[frames], self.end[frames], self.amount[frames])


def places_between(keys: int, frames: int, *, loop: bool = False, easing: str = "linear") -> Places:
    """Return the places of a walk through keys, `frames` frames for every step from a key to the next.

    Every step begins with its key, and the last one of an open walk ends with the last key. A loop goes on from there
    to the first key, and ends one frame before it.

    Raises a FacegenError for fewer than two keys or frames, and for too many frames.
    """
    steps = keys if loop else keys - 1
    if keys < 2 or frames < 2:
        raise FacegenError(f"a walk needs at least two keys and two frames, got {keys} and {frames}")
    if steps * frames > MAX_FRAMES:
        raise FacegenError(f"{steps} steps of {frames} frames are more than {MAX_FRAMES:,} frames: use fewer")
    times = np.tile(np.arange(frames) / frames, steps)
    if not loop:
        times[-frames:] = np.linspace(0, 1, frames)
    start = torch.arange(steps).repeat_interleave(frames)
    return Places(start, (start + 1) % keys, torch.from_numpy(EASINGS[easing](times)).float())


def staying(frames: int) -> Places:
    """Return the places of frames that all show the first key."""
    first = torch.zeros([frames], dtype=torch.long)
    return Places(first, first, torch.zeros([frames]))


def psi_steps(start: float, stop: float, increment: float) -> torch.Tensor:
    """Return the truncations `[N]` from start to stop, both included, where the increment leads there exactly.

    Only the size of the increment counts: it leads down where stop lies below start. Raises a FacegenError for an
    increment of 0, and for too many steps.
    """
    if not (increment != 0 and all(map(math.isfinite, (start, stop, increment)))):
        raise FacegenError(f"truncation from {start} to {stop} never reaches the end in steps of {increment}")
    steps = abs((stop - start) / increment) + 1e-6  # counted, not summed: 0.1 has no exact float
    if not steps < MAX_FRAMES:
        raise FacegenError(f"truncation from {start} to {stop} in steps of {increment} is more than {MAX_FRAMES:,}")
    step = math.copysign(increment, stop - start)
    return torch.tensor([round(start + index * step, 9) for index in range(int(steps) + 1)])


def between(keys: torch.Tensor, places: Places, *, slerps: bool = False) -> torch.Tensor:
    """Return what lies at the places between keys `[K, ...]`: `[N, ...]`, on straight lines or great circles."""
    start, end = (keys[index.to(keys.device)] for index in (places.start, places.end))
    amount = places.amount.to(keys).reshape(-1, *[1] * (keys.ndim - 1))
    return slerp(start, end, amount) if slerps else start.lerp(end, amount)


def slerp(start: torch.Tensor, end: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Go from vectors to others on great circles (Shoemake 1985), along the last dimension.

    Lengths go in a straight line, and so do vectors that lie on one line, which have no great circle.
    """
    lengths = [vector.norm(dim=-1, keepdim=True) for vector in (start, end)]
    one, other = (vector / length.clamp(min=1e-12) for vector, length in zip((start, end), lengths, strict=True))
    angle = (one * other).sum(dim=-1, keepdim=True).clamp(-1, 1).acos()
    direction = ((1 - amount) * angle).sin() * one + (amount * angle).sin() * other
    curved = direction / angle.sin().clamp(min=PARALLEL) * lengths[0].lerp(lengths[1], amount)
    has_circle = (angle.sin() >= PARALLEL) & (lengths[0] * lengths[1] > 0)
    return torch.where(has_circle, curved, start.lerp(end, amount))


def labels_between(classes: Classes, labels: Sequence[Label], places: Places) -> torch.Tensor:
    """Return the labels of frames between labels, `[N, c_dim]`: between two ages through the years, else straight."""
    ages = [label.age for label in labels if label.age is not None]
    if ages and len(ages) == len(labels):
        return classes.weights_of(between(torch.tensor(ages), places))
    return between(torch.stack([label.weights for label in labels]), places)


def ws_of_z(
    space: LatentSpace, z: torch.Tensor, labels: torch.Tensor, psi: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """The w `[num_ws, w_dim]` of every frame of a walk in z.

    Args:
        z: `[N, z_dim]`.
        labels: `[N, c_dim]`.
        psi: truncation of each frame, `[N]`; None for the space's.
    """
    for rows in _batches(len(z), space):
        yield from space.from_z(z[rows], labels[rows], None if psi is None else psi[rows])


def ws_of_labels(
    space: LatentSpace, z: torch.Tensor, labels: torch.Tensor, psi: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """As `ws_of_z`, of one z `[1, z_dim]` in classes that change: it is mapped once for each class."""
    used = labels.any(dim=0).nonzero().flatten()
    ws = map_latents(space.generator, z.expand(len(used), -1), torch.eye(labels.shape[1])[used])
    for rows in _batches(len(labels), space):
        mixed = torch.einsum("nc,clw->nlw", labels[rows][:, used].to(ws), ws)
        yield from space.truncation(mixed, labels[rows], None if psi is None else psi[rows])


def ws_between(
    space: LatentSpace,
    keys: torch.Tensor,
    labels: Sequence[Label | None],
    places: Places,
    *,
    slerps: bool = False,
    psi: torch.Tensor | None = None,
) -> Iterator[torch.Tensor]:
    """The w `[num_ws, w_dim]` of every frame of a walk in w; great circles go around the mean, layer by layer.

    Args:
        keys: not truncated, `[K, num_ws, w_dim]`.
        labels: of each key; None for a latent that is of no class.
        psi: truncation of each frame, `[N]`; None for the space's.
    """
    keys = keys.to(space.device)
    truncates = psi is not None or space.truncation.psi != 1
    means = space.means(labels) if slerps or truncates else keys.new_zeros([len(keys), space.generator.w_dim])
    offsets = keys - means[:, None]
    for rows in _batches(len(places), space):
        mean = between(means, places[rows])
        ws = between(offsets, places[rows], slerps=slerps) + mean[:, None]
        yield from space.truncation.toward(mean, ws, None if psi is None else psi[rows])


def _batches(total: int, space: LatentSpace) -> Iterator[slice]:
    for first in range(0, total, space.drawing.batch):
        yield slice(first, first + space.drawing.batch)
