"""Perceptual path length (Karras et al. 2019, "A Style-Based Generator Architecture", section 4.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from facegen.networks.generator import Generator

EPSILON = 1e-4
LARGEST_PICTURE = 256  # larger ones are averaged down, since the distance was learned on small pictures

# From two stacks of pictures, float32 `[N, 3, H, W]` in -1..1, to their squared perceptual distances `[N]`.
Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def path_lengths(
    generator: Generator, z: torch.Tensor, c: torch.Tensor, distance: Distance, *, epsilon: float = EPSILON
) -> torch.Tensor:
    """Return d(G(w), G(w')) / epsilon^2 `[N]`: w' is `epsilon` of the way from w to another w.

    Args:
        generator: In evaluation mode; computes in float32 with the noise in its `noise_const`.
        z: `[2N, z_dim]`: the first half are the starts, the second where the paths lead.
        c: `[N, c_dim]`: a path stays within its class.
        distance: See `Distance`.
        epsilon: Length of the step as a share of the path.
    """
    w = generator.mapping(z, torch.cat([c, c]))
    start, end = w.chunk(2)
    images = generator.synthesis(torch.cat([start, start.lerp(end, epsilon)]), noise_mode="const", force_fp32=True)
    while images.shape[-1] > LARGEST_PICTURE:
        images = F.avg_pool2d(images, 2)
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    return distance(*images.chunk(2)) / epsilon**2


def renew_noise(generator: Generator) -> None:
    """Draw the constant noise of all layers: every batch of paths sees another, both ends of a path the same."""
    for name, buffer in generator.named_buffers():
        if name.endswith("noise_const"):
            buffer.normal_()


def mean_path_length(lengths: torch.Tensor) -> float:
    """Return the mean of `[N]` path lengths without the lowest and the highest hundredth."""
    lengths = lengths.to(torch.float64).cpu()
    low = torch.quantile(lengths, 0.01, interpolation="lower")
    high = torch.quantile(lengths, 0.99, interpolation="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())
