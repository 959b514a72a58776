"""Perceptual path length (Karras et al. 2019, "A Style-Based Generator Architecture", section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from facegen.metrics.names import Paths
from facegen.networks.generator import Generator

EPSILON = 1e-4
LARGEST_PICTURE = 256  # larger ones are averaged down, since the distance was learned on small pictures

# From two stacks of pictures, float32 `[N, 3, H, W]` in -1..1, to their squared perceptual distances `[N]`.
Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def path_lengths(
    generator: Generator,
    z: torch.Tensor,
    c: torch.Tensor,
    distance: Distance,
    *,
    t: torch.Tensor,
    paths: Paths = Paths(),  # noqa: B008, it is frozen
    epsilon: float = EPSILON,
) -> torch.Tensor:
    """Return d(G(a), G(b)) / epsilon^2 `[N]`: between two latents, a is `t` of the way and b `epsilon` further.

    Args:
        generator: In evaluation mode; computes in float32 with the noise in its `noise_const`.
        z: `[2N, z_dim]`: the first half are the starts, the second where the paths lead.
        c: `[N, c_dim]`: a path stays within its class.
        distance: See `Distance`.
        t: `[N]`, from 0 to 1.
        paths: In which space they lead, and where the pictures are looked at.
        epsilon: Length of the step as a share of the path.
    """
    labels = torch.cat([c, c])
    if paths.space == "z":
        start, end = z.chunk(2)
        w = generator.mapping(torch.cat([slerp(start, end, t), slerp(start, end, t + epsilon)]), labels)
    else:
        start, end = generator.mapping(z, labels).chunk(2)
        t = t.to(start.dtype).view(-1, *[1] * (start.ndim - 1))
        w = torch.cat([start.lerp(end, t), start.lerp(end, t + epsilon)])
    images = generator.synthesis(w, noise_mode="const", force_fp32=True)
    size = images.shape[-1]
    if paths.crop:
        images = images[:, :, size * 3 // 8 : size * 7 // 8, size // 4 : size * 3 // 4]
    for _ in range(int(math.log2(max(size / LARGEST_PICTURE, 1)))):
        images = F.avg_pool2d(images, 2)
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    return distance(*images.chunk(2)) / epsilon**2


def slerp(start: torch.Tensor, end: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the points `[N, D]`, on the unit sphere, that are `t` `[N]` of the arc from the one to the other."""
    start, end = F.normalize(start, dim=-1), F.normalize(end, dim=-1)
    cosine = (start * end).sum(dim=-1, keepdim=True)
    across = F.normalize(end - cosine * start, dim=-1)
    angle = t[:, None] * cosine.clamp(-1, 1).acos()
    return start * angle.cos() + across * angle.sin()


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
