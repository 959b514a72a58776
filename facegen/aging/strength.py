"""How much of the change makes a face look the target age."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from facegen.networks.age_estimator import AgeEstimator

LEAST, MOST = 0.0, 2.0  # beyond, old faces get dark and pale patches
LOOKS = 4  # of the age estimator at every face and age: each takes as long as drawing the face
CLOSE = 2.0  # years that are as good as the age itself: half of the estimator's error
SEEN_AT_ONCE = 64  # pictures that the age estimator sees in one batch


class Change(Protocol):
    """What a method changes in one face at some ages, given by their index; everything is in levels.

    Attributes:
        seen: the aligned face.
        most: the largest strength that is tried.
        understood: 0..1, as `FaceChange.understood`.
    """

    seen: Image.Image
    most: float
    understood: float

    def added(self, index: int, strength: float) -> np.ndarray:
        """What is added to the photo, float32 `[H, W, 3]`, not yet masked."""

    def added_to_seen(self, index: int, strength: float) -> np.ndarray:
        """What that adds to `seen`, at the age estimator's pixels: float32 `[S, S, 3]`."""


def least_strengths(
    estimator: AgeEstimator, face: torch.Tensor, change: Change, targets: torch.Tensor
) -> tuple[list[float], list[float]]:
    """Find for each age the least of its change with which a face looks it, and how old the face then looks.

    Args:
        face: `change.seen` as the estimator takes it, float `[1, 3, S, S]` in -1..1.
        targets: years `[A]`, on the face's device.
    """

    def read(strengths: torch.Tensor) -> torch.Tensor:
        looks = torch.full_like(strengths, math.nan)
        pictures = [
            change.added_to_seen(index, part) for index, part in enumerate(strengths[0].tolist()) if part == part
        ]
        if pictures:
            pasted = face + torch.from_numpy(np.stack(pictures)).to(face.device).permute(0, 3, 1, 2) / 127.5
            seen = [estimator.predict(some) for some in pasted.clamp(-1, 1).split(SEEN_AT_ONCE)]
            looks[~strengths.isnan()] = torch.cat(seen)
        return looks

    strengths, looks = solve_strengths(read, estimator.predict(face), targets, change.most)
    return [round(value, 3) for value in strengths[0].tolist()], looks[0].tolist()


def solve_strengths(
    read: Callable[[torch.Tensor], torch.Tensor], own: torch.Tensor, targets: torch.Tensor, most: float = MOST
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find for each face and age the least strength at which the face looks the age.

    The age that a face looks moves toward the target as the strength grows, so each look halves, roughly, where the
    answer lies: the next one is where a straight line between its two ends meets the target, but never close to an end.

    Args:
        read: the ages `[N, A]` that the faces look at strengths `[N, A]`; NaN for NaN, where no look is needed.
        own: the ages `[N]` that the faces look as they are.
        targets: years `[A]`.
        most: the largest strength.

    Returns:
        The strengths `[N, A]`, `most` where that is not enough, and the ages `[N, A]` that the faces then look.
    """
    way = targets[None] - own[:, None]
    direction = way.sign()

    def missing(ages: torch.Tensor) -> torch.Tensor:
        """How many years are missing; none or less where a face looks the age."""
        return (targets[None] - ages) * direction - CLOSE

    as_it_is = way.abs() <= CLOSE
    low, high = torch.full_like(way, LEAST), torch.full_like(way, most)
    at_low, ages = way.abs() - CLOSE, read(high.masked_fill(as_it_is, torch.nan))
    at_high = missing(ages)
    enough = at_high <= 0  # and where it is not, or the face is as it should be, there is nothing to look for
    for _ in range(LOOKS - 1):
        share = (at_low / (at_low - at_high).clamp(min=1e-3)).clamp(0.2, 0.8)
        middle = (low + share * (high - low)).masked_fill(~enough, torch.nan)
        seen = read(middle)
        found = missing(seen)
        there = found <= 0
        high, at_high = torch.where(there, middle, high), torch.where(there, found, at_high)
        ages = torch.where(there, seen, ages)
        low, at_low = torch.where(there, low, middle), torch.where(there, at_low, found)
    return torch.where(as_it_is, LEAST, high), torch.where(as_it_is, own[:, None].expand_as(ages), ages)
