"""Random changes to training faces that leave the age alone, so that few pictures go a long way."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

SHIFT = 0.08  # share of the side, at most
ROTATION = math.radians(12)
SCALE = 0.12  # in the logarithm of the size, at most
BRIGHTNESS, CONTRAST = 0.3, 0.3
COLOR_DROP = 0.1  # share of pictures turned gray
COARSE = 0.3  # share of pictures that lose fine detail, as generated faces and small faces in photos do
NOISE = 0.04  # standard deviation, at most, in a picture of -1..1
ERASING = 0.4  # share of pictures with a rectangle missing


def distort(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return randomly changed copies of faces `[N, 3, S, S]` in -1..1.

    Mirrored, shifted, turned and scaled; brighter or darker, of more or less contrast, some without color; some
    blurred, all a little noisy, some with a gray rectangle (random erasing: Zhong et al. 2017).

    Args:
        random: A generator on the CPU; the same state gives the same result.
    """
    count, device = len(images), images.device

    def draw(*shape: int) -> torch.Tensor:
        """Uniform in 0..1."""
        return torch.rand(*shape, generator=random).to(device)

    images = _warp(images, draw(count, 5))
    tone = draw(count, 5)[:, :, None, None, None]
    images = torch.where(tone[:, 0] < COLOR_DROP, images.mean(dim=1, keepdim=True), images)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * (1 + CONTRAST * (2 * tone[:, 1] - 1)) + mean + BRIGHTNESS * (2 * tone[:, 2] - 1)
    images = torch.where(tone[:, 3] < COARSE, _coarse(images, 0.4 + 0.4 * float(draw(1))), images)
    noise = torch.randn(images.shape, generator=random).to(device)
    images = (images + NOISE * tone[:, 4] * noise).clamp(-1, 1)
    return _erase(images, draw(count, 5))


def _warp(images: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """Mirror, shift, turn and scale by five chances in 0..1 for each picture; what comes from outside is mirrored."""
    mirror = torch.where(chance[:, 0] < 0.5, -1.0, 1.0)
    shift = (2 * chance[:, 1:3] - 1) * 2 * SHIFT  # a grid is 2 wide
    angle = (2 * chance[:, 3] - 1) * ROTATION
    size = torch.exp((2 * chance[:, 4] - 1) * SCALE)
    cos, sin = size * angle.cos(), size * angle.sin()
    matrix = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _coarse(images: torch.Tensor, share: float) -> torch.Tensor:
    """Pictures reduced to a share of their side and back."""
    side = images.shape[-1]
    small = functional.interpolate(images, max(1, round(side * share)), mode="bilinear", antialias=True)
    return functional.interpolate(small, side, mode="bilinear", align_corners=False)


def _erase(images: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """Put a gray rectangle of 10 to 45 percent of each side into some of the pictures."""
    side = images.shape[-1]
    pixel = (torch.arange(side, device=images.device) + 0.5) / side
    size = 0.1 + 0.35 * chance[:, 1:3, None]
    start = chance[:, 3:5, None] * (1 - size)
    inside = (pixel >= start) & (pixel < start + size)  # [N, 2, S]
    hole = inside[:, 0, :, None] & inside[:, 1, None, :] & (chance[:, 0, None, None] < ERASING)
    return images.masked_fill(hole[:, None], 0.0)
