"""How much of the change a face takes until it looks the age that was asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch

LEAST, MOST = 0.0, 2.0  # beyond, old faces get dark and pale patches
LOOKS = 4  # of the age estimator at every face and age: each takes as long as drawing the face
CLOSE = 2.0  # years that are as good as the age itself: half of the estimator's error


def solve_strengths(
    read: Callable[[torch.Tensor], torch.Tensor], own: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find for each face and age the least strength at which the face looks the age.

    The age that a face looks moves toward the target as the strength grows, so each look halves, roughly, where the
    answer lies: the next one is where a straight line between its two ends meets the target, but never close to an end.

    Args:
        read: the ages `[N, A]` that the faces look at strengths `[N, A]`; NaN for NaN, where no look is needed.
        own: the ages `[N]` that the faces look as they are.
        targets: years `[A]`.

    Returns:
        The strengths `[N, A]`, MOST where that is not enough, and the ages `[N, A]` that the faces then look.
    """
    way = targets[None] - own[:, None]
    direction = way.sign()

    def missing(ages: torch.Tensor) -> torch.Tensor:
        """How many years are missing; none or less where a face looks the age."""
        return (targets[None] - ages) * direction - CLOSE

    as_it_is = way.abs() <= CLOSE
    low, high = torch.full_like(way, LEAST), torch.full_like(way, MOST)
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
