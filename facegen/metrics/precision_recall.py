"""Precision and recall of a generator (Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric ...")."""

from __future__ import annotations

import torch

CHUNK = 4096  # rows and columns of the table of distances that are in memory at a time


def precision_recall(
    real: torch.Tensor, fake: torch.Tensor, *, neighbors: int = 3, chunk: int = CHUNK
) -> tuple[float, float]:
    """Return the share of fakes within the manifold of the reals, and of reals within that of the fakes.

    Args:
        real, fake: Features `[N, D]` and `[M, D]`, more than `neighbors` of each.
        neighbors: A set's manifold is the union of balls around its points, each reaching to its k-th neighbor.
        chunk: How many points are compared with how many at a time.
    """
    real_radii = neighbor_distances(real, neighbors, chunk)
    fake_radii = neighbor_distances(fake, neighbors, chunk)
    precision = covered(fake, real, real_radii, chunk).double().mean()
    recall = covered(real, fake, fake_radii, chunk).double().mean()
    return float(precision), float(recall)


def neighbor_distances(points: torch.Tensor, neighbors: int, chunk: int = CHUNK) -> torch.Tensor:
    """Return the distance `[N]` of each of `[N, D]` points to its k-th nearest other point, k being `neighbors`."""
    found = []
    for rows in points.split(chunk):
        nearest = torch.empty([len(rows), 0], dtype=points.dtype, device=points.device)
        for columns in points.split(chunk):
            nearest = torch.cat([nearest, torch.cdist(rows, columns)], dim=1)
            # One more than asked for: the nearest to every point is itself.
            nearest = nearest.topk(min(neighbors + 1, nearest.shape[1]), dim=1, largest=False).values
        found.append(nearest[:, neighbors])
    return torch.cat(found)


def covered(points: torch.Tensor, centers: torch.Tensor, radii: torch.Tensor, chunk: int = CHUNK) -> torch.Tensor:
    """Return for each of `[N, D]` points whether a ball around one of `[M, D]` centers, radii `[M]`, holds it."""
    held = []
    for rows in points.split(chunk):
        inside = torch.zeros(len(rows), dtype=torch.bool, device=points.device)
        for columns, reach in zip(centers.split(chunk), radii.split(chunk), strict=True):
            inside |= (torch.cdist(rows, columns) <= reach).any(dim=1)
        held.append(inside)
    return torch.cat(held)
