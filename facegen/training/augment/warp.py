"""Affine warps of images without aliasing (Karras et al. 2020b, appendix B): 2x up, bilinear, 2x down.

The images are extended by reflection, upsampled 2x with the sym6 wavelet filter, sampled bilinearly where the
transform points, and downsampled with the same filter. Sample j of the 2x grid lies at pixel j / 2, so that the
even samples lie on pixels. The filter is orthogonal: going up and down again gives the image back.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from facegen.beside import upfirdn2d
from facegen.device import to_device

# Low-pass filter of the sym6 wavelet, scaled to sum 1. Tap CENTER lies on the pixel.
SYM6 = tuple(
    tap / math.sqrt(2)
    for tap in (
        0.015404109327027373,
        0.0034907120842174702,
        -0.11799011114819057,
        -0.048311742585633,
        0.4910559419267466,
        0.787641141030194,
        0.3379294217276218,
        -0.07263752278646252,
        -0.021060292512300564,
        0.04472490177066578,
        0.0017677118642428036,
        -0.007800708325034148,
    )
)
CENTER = 5
REACH = 6  # pixels that the filters of both directions need beyond the warped picture

# Up to this size a matrix product per axis beats the convolution, though most of the matrix is 0.
DENSE_LIMIT = 256


def warp(images: torch.Tensor, inverse: torch.Tensor, *, dense: bool | None = None) -> torch.Tensor:
    """Warp each image by an affine transform about the image's center.

    Args:
        images: float `[N, C, H, W]`; at least 2x2. Twice differentiable with respect to them.
        inverse: `[N, 3, 3]` on the CPU: takes pixel coordinates (x right, y down, origin in the center) of the
            result to those of the source. No gradient flows to it.
        dense: resample with dense matrices (True), with `upfirdn2d` (False), or choose by size (None).

    Returns:
        `[N, C, H, W]`. Where the transform looks beyond the reflected border, at most one picture away, it is 0.
    """
    height, width = images.shape[2:]
    margins = reflection_margins(inverse, width, height)
    linear, offset = (
        to_device(part, images.device, images.dtype) for part in pointing(inverse, width, height, margins)
    )
    return warp_by(images, linear, offset, margins, dense=dense)


def warp_by(
    images: torch.Tensor,
    linear: torch.Tensor,
    offset: torch.Tensor,
    margins: tuple[int, int, int, int],
    *,
    dense: bool | None = None,
) -> torch.Tensor:
    """Warp images as `warp` does, by what `pointing` returned, of the images' device and type."""
    height, width = images.shape[2:]
    left, top, right, bottom = margins
    if dense is None:
        dense = max(height, width) <= DENSE_LIMIT
    points = _sampling_points(linear, offset, images)
    if dense:
        device = images.device
        up_y, up_x = _upsampling_matrix(height, top, bottom, device), _upsampling_matrix(width, left, right, device)
        down_y, down_x = _downsampling_matrix(height, device), _downsampling_matrix(width, device)
        images = _along_axes(images, up_y, up_x)
        images = _BilinearSampling.apply(images, points)
        return _along_axes(images, down_y, down_x)
    taps = _taps(images.device)[1:-1].to(images.dtype)
    images = F.pad(images, [left, right, top, bottom], mode="reflect")
    images = upfirdn2d.upsample2d(images, taps, up=2)
    images = _BilinearSampling.apply(images, points)
    return upfirdn2d.upfirdn2d(images, taps, down=2, flip_filter=True)


def reflection_margins(inverse: torch.Tensor, width: int, height: int) -> tuple[int, int, int, int]:
    """Pixels (left, top, right, bottom) of reflected border that the transforms of a batch need.

    They reach the corners of every warped picture, plus the filters' taps, but not beyond one reflection.
    """
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=inverse.dtype)
    signs = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=inverse.dtype)
    corners = (signs * half) @ inverse[:, :2, :2].mT + inverse[:, None, :2, 2]
    low, high = corners.amin(dim=(0, 1)), corners.amax(dim=(0, 1))
    needed = torch.cat([-low - half, high - half]) + REACH
    limit = torch.tensor([width - 1, height - 1] * 2)
    left, top, right, bottom = needed.ceil().long().clamp(min=0).minimum(limit).tolist()
    return left, top, right, bottom


def widest_margins(width: int, height: int) -> tuple[int, int, int, int]:
    """The margins that serve every transform: one whole reflection."""
    return width - 1, height - 1, width - 1, height - 1


def pointing(
    inverse: torch.Tensor, width: int, height: int, margins: tuple[int, int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where in the upsampled source, in the units of grid_sample, a pixel of the result lies.

    Returns:
        `[N, 2, 2]` and `[N, 2]`: the first times the pixel's place from the center, plus the second.
    """
    left, top, right, bottom = margins
    # grid_sample wants sample j as (2 j + 1) / samples - 1, and sample j is pixel j / 2.
    samples = inverse.new_tensor([2 * (width + left + right), 2 * (height + top + bottom)])
    origin = inverse.new_tensor([(width - 1) / 2 + left, (height - 1) / 2 + top])
    return inverse[:, :2, :2] * 4 / samples[:, None], (4 * (inverse[:, :2, 2] + origin) + 1) / samples - 1


def _sampling_points(linear: torch.Tensor, offset: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """`[N, 2H + 10, 2W + 10, 2]` for grid_sample: where the result's 2x samples lie in the upsampled source."""
    height, width = images.shape[2:]
    x, y = (  # the samples that the downsampling filter covers, in pixels from the center
        torch.arange(-CENTER, 2 * length + CENTER, dtype=images.dtype, device=images.device) / 2 - (length - 1) / 2
        for length in (width, height)
    )
    columns = linear[:, None, :, 0] * x[:, None]
    rows = linear[:, None, :, 1] * y[:, None] + offset[:, None]
    return columns[:, None] + rows[:, :, None]


def _upsampling_matrix(length: int, before: int, after: int, device: torch.device) -> torch.Tensor:
    """`[2 * (before + length + after), length]`: reflect, then upsample 2x (gain 2)."""
    padded = before + length + after
    tap = CENTER + torch.arange(2 * padded, device=device)[:, None] - 2 * torch.arange(padded, device=device)
    matrix = 2 * _taps_at(tap)
    folded = matrix[:, before : before + length].clone()
    folded[:, 1 : before + 1] += matrix[:, :before].flip(1)
    folded[:, length - 1 - after : length - 1] += matrix[:, before + length :].flip(1)
    return folded


def _downsampling_matrix(length: int, device: torch.device) -> torch.Tensor:
    """`[length, 2 * length + 10]`: the 2x samples around a row of pixels, from -5 on, to the pixels."""
    samples, pixels = (torch.arange(count, device=device) for count in (2 * length + 2 * CENTER, length))
    return _taps_at(samples - 2 * pixels[:, None])


def _taps_at(index: torch.Tensor) -> torch.Tensor:
    return _taps(index.device)[(index + 1).clamp(0, len(SYM6) + 1)]


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # tensors made in inference mode would poison the cache for training
def _taps(device: torch.device) -> torch.Tensor:
    """The filter between two zeros, float64 `[14]`, copied to each device once."""
    return torch.tensor([0.0, *SYM6, 0.0], dtype=torch.float64, device=device)


def _along_axes(images: torch.Tensor, vertical: torch.Tensor, horizontal: torch.Tensor) -> torch.Tensor:
    """Apply one matrix along the height and one along the width of `[N, C, H, W]`."""
    return vertical.to(images) @ (images @ horizontal.T.to(images))


class _BilinearSampling(torch.autograd.Function):
    """`grid_sample` (bilinear, zeros outside) that is linear in the image, to any order of differentiation."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(points)
        ctx.size = images.shape
        return F.grid_sample(images, points, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (points,) = ctx.saved_tensors
        return _BilinearSpreading.apply(grad, points, ctx.size), None


class _BilinearSpreading(torch.autograd.Function):
    """The adjoint of `_BilinearSampling`: adds every sample to the pixels around its point."""

    @staticmethod
    def forward(ctx: Any, samples: torch.Tensor, points: torch.Tensor, size: torch.Size) -> torch.Tensor:
        ctx.save_for_backward(points)
        # The images only give their size here: their values matter to the gradient of the points alone.
        images = samples.new_empty(size)
        bilinear, zeros = 0, 0
        spread, _ = torch.ops.aten.grid_sampler_2d_backward(
            samples, images, points, bilinear, zeros, False, (True, False)
        )
        return spread

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (points,) = ctx.saved_tensors
        return _BilinearSampling.apply(grad, points), None, None
