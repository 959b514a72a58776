"""The Frechet distance of two sets of features (Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule")."""

from __future__ import annotations

import torch

CHUNK = 8192  # features that are widened to float64 at a time


def fid(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Return the Frechet distance between Gaussians fitted to `[N, D]` and `[M, D]` features; 0 is best.

    Biased upwards for few pictures: compare only numbers of equally many. Needs at least two of each.
    """
    return frechet_distance(*moments(real), *moments(fake))


def moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean `[D]` and unbiased covariance `[D, D]` of `[N, D]`, in float64 on the same device."""
    mean = features.mean(dim=0, dtype=torch.float64)
    total = torch.zeros([len(mean), len(mean)], dtype=torch.float64, device=features.device)
    for part in features.split(CHUNK):
        centered = part.to(torch.float64) - mean
        total += centered.T @ centered
    return mean, total / (len(features) - 1)


def frechet_distance(
    mean1: torch.Tensor, covariance1: torch.Tensor, mean2: torch.Tensor, covariance2: torch.Tensor
) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two Gaussians, equation 6."""
    # C1 C2 and C1^(1/2) C2 C1^(1/2) have the same eigenvalues; the second is symmetric, so they come out real even
    # where fewer pictures than features make both singular.
    values, vectors = torch.linalg.eigh(covariance1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = torch.linalg.eigvalsh(root @ covariance2 @ root)
    overlap = product.clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + covariance1.trace() + covariance2.trace() - 2 * overlap
    return max(float(distance), 0.0)  # rounding takes equal sets a little below 0
