"""Aging as a step in w: how far apart the age groups lie in the latent space, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

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
        holds: What steps can leave alone that they would carry along, such as `sex`: see `hold`.
    """

    normals: torch.Tensor
    directions: torch.Tensor

    def __init__(self, c_dim: int, num_ws: int, w_dim: int, ages: Sequence[float], holds: Sequence[str] = ()) -> None:
        super().__init__()
        ages = [float(age) for age in ages]
        growing = all(one < other for one, other in pairwise(ages))
        if len(ages) != c_dim or not growing or not all(map(math.isfinite, ages)):
            raise FacegenError(f"an age shift needs {c_dim} growing ages, one for each group, got {ages}")
        self.init_kwargs: dict[str, Any] = {"c_dim": c_dim, "num_ws": num_ws, "w_dim": w_dim, "ages": ages}
        if holds:  # earlier versions know no such argument
            self.init_kwargs["holds"] = list(holds)
        self.c_dim, self.num_ws, self.w_dim, self.ages, self.holds = c_dim, num_ws, w_dim, ages, list(holds)
        self.table = nn.Parameter(torch.zeros(c_dim, num_ws, w_dim))
        if holds:
            self.register_buffer("normals", torch.zeros(len(holds), w_dim))
            self.register_buffer("directions", torch.zeros(len(holds), w_dim))

    def holding(self, name: str, normal: torch.Tensor, direction: torch.Tensor) -> AgeShift:
        """Return this shift, able to hold one thing more.

        Among people of one age, what is to be held grows along `direction` `[w_dim]` and is separated by the plane
        whose `normal` `[w_dim]` is given (`facegen.training.encoder.sex_direction` finds both).
        """
        shift = AgeShift(self.c_dim, self.num_ws, self.w_dim, self.ages, [*self.holds, name]).to(self.table.device)
        with torch.no_grad():
            shift.table.copy_(self.table)
            old = len(self.holds)
            if old:
                shift.normals[:old], shift.directions[:old] = self.normals, self.directions
            shift.normals[old], shift.directions[old] = normal, direction
        return shift.requires_grad_(self.table.requires_grad)

    def hold(self, steps: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """Return steps `[..., w_dim]` in w without what they would change of the things to hold.

        What a step goes along a thing's normal is taken out of it along the thing's direction: the subspace projection
        of Shen et al. 2020, section 3.2, which takes it out along the normal, and so moves faces to where there are
        fewer.

        Args:
            steps: differences of two w.
            names: some of `holds`.
        """
        for index, name in enumerate(self.holds):
            if name in names:
                normal, direction = self.normals[index], self.directions[index]
                if not (along := normal @ direction) > 0:
                    raise FacegenError(
                        f"this age shift does not say how to hold the {name}: its directions are damaged"
                    )
                steps = steps - (steps @ normal / along)[..., None] * direction
        return steps

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
