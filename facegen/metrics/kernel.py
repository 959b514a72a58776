"""The kernel distance of two sets of features (Binkowski et al. 2018, "Demystifying MMD GANs")."""

from __future__ import annotations

import torch

SUBSETS, SUBSET_SIZE = 100, 1000


def kid(
    real: torch.Tensor, fake: torch.Tensor, *, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = 0
) -> float:
    """Return the mean squared MMD over random subsets of `[N, D]` and `[M, D]` features; 0 is best.

    Unbiased at any number of pictures, so it may come out below 0. Subsets hold `size` of each, fewer where there are
    fewer; needs at least two of each.
    """
    random = torch.Generator().manual_seed(seed)
    size = min(size, len(real), len(fake))
    total = 0.0
    for _ in range(subsets):
        x = real[torch.randperm(len(real), generator=random)[:size].to(real.device)]
        y = fake[torch.randperm(len(fake), generator=random)[:size].to(fake.device)]
        total += float(squared_mmd(x, y))
    return total / subsets


def squared_mmd(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the unbiased squared MMD of `[n, D]` and `[m, D]` under the polynomial kernel, equation 4."""
    x, y = x.to(torch.float64), y.to(torch.float64)
    within_x, within_y = polynomial(x, x), polynomial(y, y)
    n, m = len(x), len(y)
    return (
        (within_x.sum() - within_x.trace()) / (n * (n - 1))
        + (within_y.sum() - within_y.trace()) / (m * (m - 1))
        - 2 * polynomial(x, y).mean()
    )


def polynomial(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the kernel (x . y / D + 1)^3 of every pair: `[n, D]`, `[m, D]` -> `[n, m]`."""
    return (x @ y.T / x.shape[1] + 1) ** 3
