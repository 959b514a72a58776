"""Upsample, pad, filter and downsample images with finite impulse response filters.

One call does four things to every channel of `x`, along y and x: put `up - 1` zeros behind each sample, pad (or crop,
where padding is negative), correlate with the filter, keep every `down`-th sample. No zero is ever stored: upsampling
is a transposed convolution, downsampling a strided one, and a 1-D filter runs along x, then along y.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from torch_utils.ops import compiled
from torch_utils.ops.convolution import being_traced, is_bfloat16_on_cpu, takes_first_derivatives

# From this many taps on a 1-D filter stays separable by default: two passes of n taps beat one of n * n.
SEPARABLE_TAPS = 8


def setup_filter(
    f: torch.Tensor | np.ndarray | Sequence | float | None,
    device: torch.device | str | None = None,
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> torch.Tensor:
    """Build a filter for the functions of this module.

    Args:
        f: Taps: a scalar, a list, a 1-D or 2-D array; None is the identity.
        device: Where the result lives; None is where `f` is, or torch's default device.
        normalize: Divide by the sum, so that a constant picture keeps its value.
        flip_filter: Store the filter flipped.
        gain: Factor on the whole picture; a separable filter carries its square root in each pass.
        separable: Keep a 1-D filter 1-D. None decides by length.

    Returns:
        float32 `[taps_y, taps_x]`, or `[taps]` when separable.

    Raises:
        ValueError: `f` is empty or has more than two dimensions, or is 2-D and `separable` is asked for.
    """
    taps = torch.as_tensor(1 if f is None else f, dtype=torch.float32, device=device)
    if taps.ndim > 2 or taps.numel() == 0:
        raise ValueError(f"a filter has 1 or 2 dimensions and at least one tap, got shape {list(taps.shape)}")
    if taps.ndim == 0:
        taps = taps[None]
    if separable is None:
        separable = taps.ndim == 1 and taps.numel() >= SEPARABLE_TAPS
    if separable and taps.ndim == 2:
        raise ValueError("a 2-D filter cannot be kept separable: give its 1-D taps")
    if taps.ndim == 1 and not separable:
        taps = torch.outer(taps, taps)
    if normalize:
        taps = taps / taps.sum()
    if flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    return taps * gain ** (taps.ndim / 2)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Upsample, pad, filter and downsample `x`; differentiable any number of times with respect to `x`.

    Args:
        x: `[N, C, H, W]`.
        f: Filter of `setup_filter`, or None for the identity.
        up, down: Integer factors, one for both axes or `[x, y]`.
        padding: Of the upsampled picture: one number, `[x, y]` or `[x_before, x_after, y_before, y_after]`.
        flip_filter: False convolves, True correlates.
        gain: Factor on the result.
        impl: `ref` for plain PyTorch; `cuda` for the compiled kernel on a GPU where it can be built, plain PyTorch
            elsewhere.

    Returns:
        `[N, C, (H * up + pad - taps) // down + 1, (W * up + pad - taps) // down + 1]`.

    Raises:
        ValueError: a factor below 1, a padding of another length, or a picture smaller than the filter.
    """
    if impl not in ("ref", "cuda"):
        raise ValueError(f"unknown impl {impl!r}: choose 'ref' or 'cuda'")
    up_x, up_y = _pair(up, "up")
    down_x, down_y = _pair(down, "down")
    pad_x, pad_y = _parse_padding(padding)

    if f is None:
        f = torch.ones([1, 1], device=x.device)
    if impl == "cuda" and x.is_cuda and not compiled.being_exported() and compiled.usable(x):
        return _compiled(x, f, (up_x, up_y), (down_x, down_y), pad_x, pad_y, flip_filter, gain)
    # Not rounded before the picture's type asks for it: filters are float32, and the kernel scales them in float64 for
    # a picture of float64.
    f = f.to(torch.promote_types(f.dtype, x.dtype)) * gain ** (f.ndim / 2)
    if not flip_filter:
        f = f.flip(list(range(f.ndim)))
    f = f.to(x.dtype)
    if f.ndim == 2:
        return _filter(x, f, (up_y, up_x), (down_y, down_x), pad_y, pad_x)
    x = _filter(x, f[None, :], (1, up_x), (1, down_x), (0, 0), pad_x)
    return _filter(x, f[:, None], (up_y, 1), (down_y, 1), pad_y, (0, 0))


def filter2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Filter `x` and keep its size; `padding` is added to what keeps it. Arguments as in `upfirdn2d`."""
    return _resample2d(x, f, 1, 1, padding, flip_filter, gain, impl)


def upsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Upsample `x` to `up` times its size; `padding` is added to what keeps it. Arguments as in `upfirdn2d`."""
    up_x, up_y = _pair(up, "up")
    return _resample2d(x, f, up, 1, padding, flip_filter, gain * up_x * up_y, impl)


def downsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    down: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Downsample `x` to `1 / down` of its size; `padding` is added to what keeps it. Arguments as in `upfirdn2d`."""
    return _resample2d(x, f, 1, down, padding, flip_filter, gain, impl)


def filter_size(f: torch.Tensor | None) -> tuple[int, int]:
    """Return the number of taps along x and y."""
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


def centred_padding(taps: int, padding: tuple[int, int], up: int = 1, down: int = 1) -> tuple[int, int]:
    """Return the padding of one axis that keeps the picture centred and its size `up / down` times as large.

    Upsampling alone shifts by half the stride more than filtering does, downsampling by half the stride less.
    """
    before, after = padding
    if up > 1:
        return before + (taps + up - 1) // 2, after + (taps - up) // 2
    return before + (taps - down + 1) // 2, after + (taps - down) // 2


def _resample2d(x, f, up, down, padding, flip_filter, gain, impl):
    taps_x, taps_y = filter_size(f)
    (up_x, up_y), (down_x, down_y) = _pair(up, "up"), _pair(down, "down")
    pad_x, pad_y = _parse_padding(padding)
    padding = [*centred_padding(taps_x, pad_x, up_x, down_x), *centred_padding(taps_y, pad_y, up_y, down_y)]
    return upfirdn2d(x, f, up, down, padding, flip_filter, gain, impl)


def _pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    x, y = (value, value) if isinstance(value, int) else value
    if x < 1 or y < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return x, y


def _parse_padding(padding: int | Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(padding, int):
        padding = [padding] * 2
    if len(padding) == 2:
        padding = [padding[0], padding[0], padding[1], padding[1]]
    if len(padding) != 4:
        raise ValueError(f"padding is one, two or four numbers, got {list(padding)}")
    return (padding[0], padding[1]), (padding[2], padding[3])


def _compiled(
    x: torch.Tensor,
    f: torch.Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    pad_x: tuple[int, int],
    pad_y: tuple[int, int],
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    """Do the work of `upfirdn2d` with the compiled operation; factors in x, y order."""
    _check_size(x, (f.shape[0], f.shape[-1]), up[::-1], pad_y, pad_x)
    operation = compiled.upfirdn2d
    if f.ndim == 2:
        return operation(x, f, up, down, [*pad_x, *pad_y], flip_filter, gain)
    x = operation(x, f[None, :], [up[0], 1], [down[0], 1], [*pad_x, 0, 0], flip_filter, gain)
    return operation(x, f[:, None], [1, up[1]], [1, down[1]], [0, 0, *pad_y], flip_filter, 1.0)


def _check_size(
    x: torch.Tensor, taps: tuple[int, int], up: tuple[int, int], pad_y: tuple[int, int], pad_x: tuple[int, int]
) -> None:
    """Refuse a picture smaller than the filter; taps and factors in y, x order."""
    size_y = x.shape[2] * up[0] + sum(pad_y) - taps[0] + 1
    size_x = x.shape[3] * up[1] + sum(pad_x) - taps[1] + 1
    if size_y < 1 or size_x < 1:
        raise ValueError(f"a picture of {list(x.shape[2:])} is too small for {taps[0]} x {taps[1]} taps")


def _filter(
    x: torch.Tensor,
    f: torch.Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    pad_y: tuple[int, int],
    pad_x: tuple[int, int],
) -> torch.Tensor:
    """Correlate every channel of `x`, upsampled and padded, with the 2-D filter `f`; factors in y, x order."""
    _check_size(x, f.shape, up, pad_y, pad_x)
    if being_traced() or takes_first_derivatives():
        return _convolve_channels(x, f, up, down, pad_y, pad_x)
    return _Filter.apply(x, f, up, down, pad_y, pad_x)


class _Filter(torch.autograd.Function):
    """The filter as a linear map of `x` whose gradient is a filter of the same kind, so derivatives never end.

    PyTorch's own second derivative of a grouped convolution loops over the groups, here the channels.
    """

    @staticmethod
    def forward(ctx, x, f, up, down, pad_y, pad_x):
        ctx.save_for_backward(f)
        ctx.geometry = up, down, pad_y, pad_x, x.shape
        return _convolve_channels(x, f, up, down, pad_y, pad_x)

    @staticmethod
    def backward(ctx, gradient):
        (f,) = ctx.saved_tensors
        up, down, pad_y, pad_x, shape = ctx.geometry
        # Output i reads upsampled sample i * down + k - before for tap k. Read the other way round: sample j * up gets
        # tap k of output (j * up + before - k) / down, which is correlation with the flipped filter.
        padding = []
        for axis, (before, _) in enumerate((pad_y, pad_x)):
            taps, size, grad_size = f.shape[axis], shape[2 + axis], gradient.shape[2 + axis]
            start = taps - 1 - before
            # so many samples that `size` outputs, `up` apart, come out
            total = (size - 1) * up[axis] + taps
            padding.append((start, total - grad_size * down[axis] - start))
        return _Filter.apply(gradient, f.flip([0, 1]), down, up, *padding), None, None, None, None, None


def _convolve_channels(
    x: torch.Tensor,
    f: torch.Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    pad_y: tuple[int, int],
    pad_x: tuple[int, int],
) -> torch.Tensor:
    """Do the work of `_filter` with PyTorch's depthwise convolutions."""
    channels, taps_y, taps_x = x.shape[1], *f.shape
    if up != (1, 1) and is_bfloat16_on_cpu(x):
        # oneDNN has no depthwise transposed convolution in bfloat16; what stands in takes 20 times float32's time.
        return _convolve_channels(x.float(), f.float(), up, down, pad_y, pad_x).to(x.dtype)
    if channels == 1:
        # One channel is in both layouts. Told by the strides that it is channels last, PyTorch's bfloat16 convolution
        # on the CPU is wrong and reads what is not its own; seen flat and back, the strides say contiguous.
        x = x.flatten().view(x.shape)
    if up == (1, 1):
        x, inner = _pad(x, pad_x, pad_y, deferred=True)
        return F.conv2d(x, f.expand(channels, 1, -1, -1), stride=down, padding=inner, groups=channels)
    # A transposed convolution of stride `up` gives the full convolution of the upsampled picture with the flipped
    # filter; what the wanted padding does not reach is cropped, what it adds is zero.
    size_y = x.shape[2] * up[0] + sum(pad_y) - taps_y + 1
    size_x = x.shape[3] * up[1] + sum(pad_x) - taps_x + 1
    before_y, before_x = pad_y[0] - taps_y + 1, pad_x[0] - taps_x + 1
    after_y = size_y - before_y - ((x.shape[2] - 1) * up[0] + taps_y)
    after_x = size_x - before_x - ((x.shape[3] - 1) * up[1] + taps_x)
    # Cropping equally on both sides is free: it is what the padding of a transposed convolution means.
    crop_y, crop_x = max(min(-before_y, -after_y), 0), max(min(-before_x, -after_x), 0)
    w = f.flip([0, 1]).expand(channels, 1, -1, -1)
    x = F.conv_transpose2d(x, w, stride=up, padding=(crop_y, crop_x), groups=channels)
    x, _ = _pad(x, (before_x + crop_x, after_x + crop_x), (before_y + crop_y, after_y + crop_y))
    return x[:, :, :: down[0], :: down[1]] if down != (1, 1) else x


def _pad(
    x: torch.Tensor, pad_x: tuple[int, int], pad_y: tuple[int, int], deferred: bool = False
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Pad or crop `x`; with `deferred`, leave padding that is equal on both sides to the convolution that follows."""
    inner = [0, 0]
    if deferred:
        for i, (before, after) in enumerate((pad_y, pad_x)):
            inner[i] = max(min(before, after), 0)
    pads = [pad_x[0] - inner[1], pad_x[1] - inner[1], pad_y[0] - inner[0], pad_y[1] - inner[0]]
    return (F.pad(x, pads) if any(pads) else x), (inner[0], inner[1])
