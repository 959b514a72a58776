"""Whether results look like real faces of the target group: distances of sets of features, and how sharp they are.

All sets that are compared with each other have one size, because the Frechet distance is biased by it. The distance of
two halves of the real faces is the floor: as close as faces of that group are to each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from facegen.faces.mask import crop_mask
from facegen.faces.template import AlignmentTemplate
from facegen.metrics.features import BATCH
from facegen.metrics.frechet import fid
from facegen.metrics.kernel import kid

SMALLEST = 4  # faces on a side: with fewer the distance says nothing
SHARPNESS_SIDE = 128  # at which sharpness is measured: finer detail tells of the camera
SUBSETS = 20  # for the kernel distance; sets are small enough to be used nearly whole


@dataclass(frozen=True)
class Realism:
    """Frechet and kernel distance of results and real faces, and of real and real; NaN where there are too few."""

    frechet: float
    kernel: float
    real_frechet: float
    real_kernel: float
    count: int


def realism_scores(
    results: Sequence[torch.Tensor], reals: Sequence[torch.Tensor], *, seed: int = 0
) -> tuple[Realism, list[Realism]]:
    """Compare features of results with those of real faces of the same group.

    Args:
        results: Features of the results of each target, `[N, D]`.
        reals: Features of real faces of each target's group, `[M, D]`; in one order for all systems that are compared.
        seed: Seeds the draws.

    Returns:
        Over all targets (their sets joined, so that each target weighs as much among results as among reals), and
        for each.
    """
    random = np.random.default_rng(seed)
    chosen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for result, real in zip(results, reals, strict=True):
        size = min(len(result), len(real) // 2)
        order = torch.from_numpy(random.permutation(len(real)))
        people = torch.from_numpy(random.permutation(len(result))[:size])
        chosen.append((result[people], real[order[:size]], real[order[size : 2 * size]]))
    result, real, other = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    return _compare(result, real, other, seed), [_compare(*sets, seed) for sets in chosen]


def scale_unit_features(features: torch.Tensor) -> torch.Tensor:
    """Features `[..., D]` of length 1 at length √D, where their numbers are about 1.

    The kernel distance is made for such numbers: at length 1 its kernel would hardly depend on the cosine.
    """
    return features * features.shape[-1] ** 0.5


@torch.no_grad()
def sharpness(images: torch.Tensor, template: AlignmentTemplate) -> np.ndarray:
    """How much fine detail faces have: the root mean square of the Laplacian of their lightness, on the face `[N]`.

    Args:
        images: uint8 `[N, 3, H, H]`, aligned to `template`.
    """
    side = SHARPNESS_SIDE
    mask = torch.from_numpy(crop_mask((side, side), template)[1:-1, 1:-1, 0])
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None]
    found = []
    for part in images.split(BATCH):
        gray = part.float().mean(dim=1, keepdim=True)
        sized = functional.interpolate(gray, (side, side), mode="bicubic", antialias=True)
        edges = functional.conv2d(sized, kernel)[:, 0]
        found.append(((edges.square() * mask).sum(dim=(1, 2)) / mask.sum()).sqrt())
    return torch.cat(found).double().numpy()


def _compare(result: torch.Tensor, real: torch.Tensor, other: torch.Tensor, seed: int) -> Realism:
    size = len(result)
    if size < SMALLEST:
        return Realism(math.nan, math.nan, math.nan, math.nan, size)
    return Realism(
        fid(real, result),
        kid(real, result, subsets=SUBSETS, seed=seed),
        fid(real, other),
        kid(real, other, subsets=SUBSETS, seed=seed),
        size,
    )
