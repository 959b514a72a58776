"""Convolution that also resamples: filter and convolve in the order that costs least."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .convolution import conv2d, conv_transpose2d
from .upfirdn2d import centered_padding, filter_size, parse_padding, upfirdn2d


def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
    b: torch.Tensor | None = None,
) -> torch.Tensor:
    """Upsample `x` by `up`, convolve with `w`, downsample by `down`, low-pass filtered by `f`.

    Args:
        x: `[N, C_in, H, W]`.
        w: `[C_out, C_in / groups, kernel_y, kernel_x]`.
        f: Low-pass filter of `setup_filter`; used only where `up` or `down` is above 1.
        up, down: Integer factors.
        padding: Padding of the upsampled picture, as in `upfirdn2d`; `kernel // 2` keeps the size times `up / down`.
        groups: Groups of the convolution.
        flip_weight: True correlates with `w` (what PyTorch calls convolution), False convolves.
        flip_filter: True correlates with `f`, False convolves.
        b: Bias `[C_out]`, added to the result; it costs nothing where a convolution comes last.

    Returns:
        `[N, C_out, H_out, W_out]`.
    """
    kernel_y, kernel_x = w.shape[2:]
    taps_x, taps_y = filter_size(f)
    pad_x, pad_y = parse_padding(padding)
    pad_x = _resampling_padding(taps_x, pad_x, up, down)
    pad_y = _resampling_padding(taps_y, pad_y, up, down)

    if up == 1 and down == 1:
        return _convolve(x, w, groups, flip_weight, pad_x, pad_y, b=b)

    if up == 1:
        if kernel_y == kernel_x == 1:  # Filtering commutes with a pointwise convolution: do it on fewer pixels.
            x = upfirdn2d(x, f, down=down, padding=[*pad_x, *pad_y], flip_filter=flip_filter)
            return _convolve(x, w, groups, flip_weight, b=b)
        x = upfirdn2d(x, f, padding=[*pad_x, *pad_y], flip_filter=flip_filter)
        return _convolve(x, w, groups, flip_weight, stride=down, b=b)

    if kernel_y == kernel_x == 1 and down == 1:
        x = _convolve(x, w, groups, flip_weight)
        x = upfirdn2d(x, f, up=up, padding=[*pad_x, *pad_y], gain=up**2, flip_filter=flip_filter)
        return x if b is None else x + b[:, None, None]

    # Upsample and convolve at once: a transposed convolution never touches the zeros between samples. It returns the
    # full convolution, `kernel - 1` larger on each side than the valid one that the padding is counted from.
    x = _transposed(x, w, up, groups, flip_weight)
    pad_x = pad_x[0] - kernel_x + 1, pad_x[1] - kernel_x + up
    pad_y = pad_y[0] - kernel_y + 1, pad_y[1] - kernel_y + up
    x = upfirdn2d(x, f, padding=[*pad_x, *pad_y], gain=up**2, flip_filter=flip_filter)
    if down > 1:
        x = upfirdn2d(x, f, down=down, flip_filter=flip_filter)
    return x if b is None else x + b[:, None, None]


def _resampling_padding(taps: int, padding: tuple[int, int], up: int, down: int) -> tuple[int, int]:
    """Add what keeps one axis centered through the low-pass filter, on the way up and on the way down."""
    if up > 1:
        padding = centered_padding(taps, padding, up=up)
    if down > 1:
        padding = centered_padding(taps, padding, down=down)
    return padding


def _convolve(
    x: torch.Tensor,
    w: torch.Tensor,
    groups: int,
    flip_weight: bool,
    pad_x: tuple[int, int] = (0, 0),
    pad_y: tuple[int, int] = (0, 0),
    stride: int = 1,
    b: torch.Tensor | None = None,
) -> torch.Tensor:
    if not flip_weight and w.shape[2:] != (1, 1):
        w = w.flip([2, 3])
    if pad_x[0] != pad_x[1] or pad_y[0] != pad_y[1] or min(pad_x[0], pad_y[0]) < 0:
        x, pad_x, pad_y = F.pad(x, [*pad_x, *pad_y]), (0, 0), (0, 0)
    return conv2d(x, w, b, stride, (pad_y[0], pad_x[0]), groups)


def _transposed(x: torch.Tensor, w: torch.Tensor, up: int, groups: int, flip_weight: bool) -> torch.Tensor:
    """Full convolution of the zero-stuffed `x`; PyTorch's transposed convolution flips, so correlation flips back."""
    if flip_weight:
        w = w.flip([2, 3])
    out_channels, in_per_group, *kernel = w.shape
    w = w.reshape(groups, out_channels // groups, in_per_group, *kernel).transpose(1, 2)
    w = w.reshape(groups * in_per_group, out_channels // groups, *kernel)
    return conv_transpose2d(x, w, up, groups)
