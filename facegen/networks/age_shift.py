"""Aging as a step in w: how far apart the age groups lie in the latent space, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from facegen.errors import FacegenError


def soft_labels(ages: torch.Tensor, middles: Sequence[float]) -> torch.Tensor:
    """Return the label of ages `[N]` in years: `[N, len(middles)]`, one-hot at the middle age of a group.

    Between two middles the label is shared by both in proportion; before the first and after the last it stays.
    """
    known = torch.tensor(middles, dtype=torch.float32, device=ages.device)
    if len(middles) == 1:
        return torch.ones([len(ages), 1], dtype=torch.float32, device=ages.device)
    ages = ages.float().clamp(known[0], known[-1]).contiguous()
    above = torch.searchsorted(known, ages).clamp(min=1)
    share = (ages - known[above - 1]) / (known[above] - known[above - 1])
    labels = torch.zeros([len(ages), len(middles)], dtype=torch.float32, device=ages.device)
    labels.scatter_(1, above[:, None], share[:, None])
    return labels.scatter_add_(1, above[:, None] - 1, 1 - share[:, None])


class AgeShift(nn.Module):
    """Moves latents `w` from one age to another and leaves what else they say of a face alone.

    Every age group has a place in w, `table[group]`; a face goes from one age to another by the difference of the two
    places. Between the middle ages of two groups the place is interpolated, so age is continuous; before the first and
    after the last it stays. A difference of group means as a direction of editing is an old idea (Radford et al. 2016,
    section 6.3); training can refine the table (see `facegen.training.encoder.recipes`).

    Args:
        c_dim: Number of age groups.
        num_ws: Layers of the generator that take a w.
        w_dim: Length of w.
        ages: The middle age of every group in years, growing.
    """

    def __init__(self, c_dim: int, num_ws: int, w_dim: int, ages: Sequence[float]) -> None:
        super().__init__()
        ages = [float(age) for age in ages]
        growing = all(one < other for one, other in pairwise(ages))
        if len(ages) != c_dim or not growing or not all(map(math.isfinite, ages)):
            raise FacegenError(f"an age shift needs {c_dim} growing ages, one for each group, got {ages}")
        self.init_kwargs = {"c_dim": c_dim, "num_ws": num_ws, "w_dim": w_dim, "ages": ages}
        self.c_dim, self.num_ws, self.w_dim, self.ages = c_dim, num_ws, w_dim, ages
        self.table = nn.Parameter(torch.zeros(c_dim, num_ws, w_dim))

    def place(self, ages: torch.Tensor) -> torch.Tensor:
        """Where ages `[N]` in years lie: `[N, num_ws, w_dim]`."""
        return torch.einsum("ng,gld->nld", soft_labels(ages, self.ages), self.table)

    def forward(self, ws: torch.Tensor, from_ages: torch.Tensor, to_ages: torch.Tensor) -> torch.Tensor:
        """Latents `[N, num_ws, w_dim]` of faces of `from_ages` `[N]`, moved to `to_ages` `[N]` (years)."""
        return ws + self.place(to_ages) - self.place(from_ages)


def group_mean_shift(means: torch.Tensor, num_ws: int, ages: Sequence[float]) -> AgeShift:
    """The shift by the difference of the groups' mean w, `means` `[c_dim, w_dim]` (`latents.decode.group_means`)."""
    shift = AgeShift(len(means), num_ws, means.shape[1], ages).to(means.device)
    with torch.no_grad():
        shift.table.copy_((means - means.mean(dim=0))[:, None, :].expand(-1, num_ws, -1))
    return shift.requires_grad_(False)
