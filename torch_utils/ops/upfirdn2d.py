"""Upsample, pad, filter and downsample images with finite impulse response filters.

One call does four things to every channel of `x`, along y and x: put `up - 1` zeros behind each sample, pad (or crop,
where padding is negative), convolve with the filter, keep every `down`-th sample. A 1-D filter runs along x, then
along y.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from . import compiled, reference
from .reference import Pair

# From this many taps on, a 1-D filter stays separable by default: two passes of n taps beat one of n * n.
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
    # On the CPU by default: within `torch.device("meta")` the arithmetic below would import
    # torch._dynamo, which takes seconds.
    taps = torch.as_tensor(1 if f is None else f, dtype=torch.float32, device=device or "cpu")
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
        padding: Padding of the upsampled picture: one number, `[x, y]` or `[x_before, x_after, y_before, y_after]`.
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
    up, down = _pair(up, "up"), _pair(down, "down")
    pad_x, pad_y = parse_padding(padding)
    if f is None:
        f = torch.ones([1, 1], device=x.device)
    is_compiled = impl == "cuda" and x.is_cuda and not compiled.being_exported() and compiled.usable(x)
    compute = compiled.upfirdn2d if is_compiled else reference.upfirdn2d
    return compute(x, f, up, down, [*pad_x, *pad_y], flip_filter, gain)


def filter2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Filter `x` and keep its size; `padding` is added to what keeps it. Arguments as in `upfirdn2d`."""
    return upfirdn2d(x, f, 1, 1, _centering_padding(f, padding), flip_filter, gain, impl)


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
    padding = _centering_padding(f, padding, up=(up_x, up_y))
    return upfirdn2d(x, f, up, 1, padding, flip_filter, gain * up_x * up_y, impl)


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
    padding = _centering_padding(f, padding, down=_pair(down, "down"))
    return upfirdn2d(x, f, 1, down, padding, flip_filter, gain, impl)


def filter_size(f: torch.Tensor | None) -> Pair:
    """Return the number of taps along x and y."""
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


def parse_padding(padding: int | Sequence[int]) -> tuple[Pair, Pair]:
    """Return the padding (before, after) of x and of y from one, two or four numbers, as `upfirdn2d` takes them."""
    if isinstance(padding, int):
        padding = [padding] * 2
    if len(padding) == 2:
        padding = [padding[0], padding[0], padding[1], padding[1]]
    if len(padding) != 4:
        raise ValueError(f"padding is one, two or four numbers, got {list(padding)}")
    return (padding[0], padding[1]), (padding[2], padding[3])


def centered_padding(taps: int, padding: Pair, up: int = 1, down: int = 1) -> Pair:
    """Return the padding of one axis that keeps the picture centered and its size `up / down` times as large.

    Upsampling alone shifts by half the stride more than filtering does, downsampling by half the stride less.
    """
    before, after = padding
    if up > 1:
        return before + (taps + up - 1) // 2, after + (taps - up) // 2
    return before + (taps - down + 1) // 2, after + (taps - down) // 2


def _centering_padding(
    f: torch.Tensor | None, padding: int | Sequence[int], up: Pair = (1, 1), down: Pair = (1, 1)
) -> list[int]:
    """Return `padding`, as `upfirdn2d` takes it, with what keeps the picture centered on top."""
    taps, pads = filter_size(f), parse_padding(padding)
    return [pad for axis in (0, 1) for pad in centered_padding(taps[axis], pads[axis], up[axis], down[axis])]


def _pair(value: int | Sequence[int], name: str) -> Pair:
    x, y = (value, value) if isinstance(value, int) else value
    if x < 1 or y < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return x, y
