"""`bias_act` and `upfirdn2d` in plain PyTorch: what the compiled operations are measured against, and stand in for.

Every argument is explicit here; `bias_act.py` and `upfirdn2d.py` give them defaults, check them, and choose between
this and the compiled operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from .convolution import being_traced, is_bfloat16_on_cpu, takes_first_derivatives

Pair = tuple[int, int]  # one number for each axis, or before and after


# --- bias_act -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activation:
    """An activation, and the defaults of its slope parameter and of the gain that follows it."""

    function: Callable[[torch.Tensor, float], torch.Tensor]
    alpha: float = 0.0
    gain: float = 1.0


# A gain of sqrt(2) restores the second moment that a rectifier halves (He et al. 2015).
activation_funcs: dict[str, Activation] = {
    "linear": Activation(lambda x, alpha: x),
    "relu": Activation(lambda x, alpha: F.relu(x), gain=math.sqrt(2)),
    "lrelu": Activation(F.leaky_relu, alpha=0.2, gain=math.sqrt(2)),
    "tanh": Activation(lambda x, alpha: torch.tanh(x)),
    "sigmoid": Activation(lambda x, alpha: torch.sigmoid(x)),
    "elu": Activation(lambda x, alpha: F.elu(x)),
    "selu": Activation(lambda x, alpha: F.selu(x)),
    "softplus": Activation(lambda x, alpha: F.softplus(x)),
    "swish": Activation(lambda x, alpha: x * torch.sigmoid(x), gain=math.sqrt(2)),
}


def bias_act(
    x: torch.Tensor, b: torch.Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None
) -> torch.Tensor:
    """Compute `clamp(gain * act(x + b))`; arguments as in `torch_utils.ops.bias_act.bias_act`."""
    if b is not None:
        return activate_(add_bias(x, b, dim), act, alpha, gain, clamp)
    return _scale_and_clamp(activation_funcs[act].function(x, alpha), gain, clamp)


def activate_(x: torch.Tensor, act: str, alpha: float, gain: float, clamp: float | None) -> torch.Tensor:
    """Compute `clamp(gain * act(x))`, overwriting `x` where that saves a pass over memory."""
    # The sign of the result tells the branch that was taken only while the slope is positive.
    in_place = act == "lrelu" and alpha > 0
    x = F.leaky_relu_(x, alpha) if in_place else activation_funcs[act].function(x, alpha)
    return _scale_and_clamp(x, gain, clamp)


def add_bias(x: torch.Tensor, b: torch.Tensor | None, dim: int) -> torch.Tensor:
    """Return `x` with the bias `[x.shape[dim]]` added along `dim`."""
    return x if b is None else x + b.reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])


def _scale_and_clamp(x: torch.Tensor, gain: float, clamp: float | None) -> torch.Tensor:
    if gain != 1:
        x = x * gain
    if clamp is not None and not _is_known_within(x, clamp):
        x = x.clamp(-clamp, clamp)
    return x


def _is_known_within(x: torch.Tensor, limit: float) -> bool:
    """Look whether all of `x` lies within +-`limit`, where a look is cheaper than the limit and its derivative.

    That is on the CPU; a look would let the CPU wait for a GPU.
    """
    if x.device.type != "cpu" or not x.requires_grad or being_traced() or x.numel() == 0:
        return False
    return bool(x.detach().abs().amax() <= limit)


# --- upfirdn2d ------------------------------------------------------------------------------------------------------


def upfirdn2d(
    x: torch.Tensor, f: torch.Tensor, up: Pair, down: Pair, padding: Sequence[int], flip: bool, gain: float
) -> torch.Tensor:
    """Upsample, pad, filter and downsample `x`; differentiable any number of times with respect to `x`.

    No zero of the upsampled picture is ever stored: upsampling is a transposed convolution, downsampling a strided one.

    Args:
        x: `[N, C, H, W]`.
        f: `[taps_y, taps_x]`, or `[taps]`, which runs along x, then along y.
        up, down: x and y.
        padding: x before, x after, y before, y after.
        flip: False convolves, True correlates.
        gain: Factor on the result.
    """
    # The filter keeps its precision (float32) until it has the picture's type, as in the kernel.
    f = f.to(torch.promote_types(f.dtype, x.dtype)) * gain ** (f.ndim / 2)
    if not flip:
        f = f.flip(list(range(f.ndim)))
    f = f.to(x.dtype)
    (up_x, up_y), (down_x, down_y) = up, down
    pad_x, pad_y = (padding[0], padding[1]), (padding[2], padding[3])
    if f.ndim == 2:
        return _filter(x, f, (up_y, up_x), (down_y, down_x), pad_y, pad_x)
    x = _filter(x, f[None, :], (1, up_x), (1, down_x), (0, 0), pad_x)
    return _filter(x, f[:, None], (up_y, 1), (down_y, 1), pad_y, (0, 0))


def gradient_padding(taps: int, size: int, grad_size: int, up: int, down: int, before: int) -> Pair:
    """Return the padding of one axis for the filter that takes gradients back.

    The filter is a linear map of the picture, and the map that takes gradients back is a filter of the same kind.
    Output i reads upsampled sample i * down + k - before for tap k. Read the other way round: sample j * up gets tap k
    of output (j * up + before - k) / down, which is correlation with the flipped filter, `up` and `down` exchanged.
    """
    start = taps - 1 - before
    total = (size - 1) * up + taps  # as many samples as make `size` outputs, `up` apart
    return start, total - grad_size * down - start


def check_size(x: torch.Tensor, taps: Pair, up: Pair, pad_y: Sequence[int], pad_x: Sequence[int]) -> None:
    """Raise ValueError for a picture smaller than the filter; taps and factors in y, x order."""
    size_y, size_x = _output_sizes(x, taps, up, pad_y, pad_x)
    if size_y < 1 or size_x < 1:
        raise ValueError(f"a picture of {list(x.shape[2:])} is too small for {taps[0]} x {taps[1]} taps")


def _output_sizes(x: torch.Tensor, taps: Pair, up: Pair, pad_y: Sequence[int], pad_x: Sequence[int]) -> Pair:
    """Return height and width of the filter's output, before downsampling."""
    return x.shape[2] * up[0] + sum(pad_y) - taps[0] + 1, x.shape[3] * up[1] + sum(pad_x) - taps[1] + 1


def _filter(x: torch.Tensor, f: torch.Tensor, up: Pair, down: Pair, pad_y: Pair, pad_x: Pair) -> torch.Tensor:
    """Correlate every channel of `x`, upsampled and padded, with the 2-D filter `f`; factors in y, x order."""
    check_size(x, (f.shape[0], f.shape[1]), up, pad_y, pad_x)
    if being_traced() or takes_first_derivatives():
        return _convolve_channels(x, f, up, down, pad_y, pad_x)
    return _Filter.apply(x, f, up, down, pad_y, pad_x)


class _Filter(torch.autograd.Function):
    """The filter, whose gradient is a filter of the same kind, so derivatives never end.

    PyTorch's own second derivative of a grouped convolution loops over the groups, here the channels.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, f: torch.Tensor, up: Pair, down: Pair, pad_y: Pair, pad_x: Pair
    ) -> torch.Tensor:
        ctx.save_for_backward(f)
        ctx.geometry = up, down, pad_y, pad_x, x.shape
        return _convolve_channels(x, f, up, down, pad_y, pad_x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (f,) = ctx.saved_tensors
        up, down, pad_y, pad_x, shape = ctx.geometry
        padding = [
            gradient_padding(f.shape[i], shape[2 + i], gradient.shape[2 + i], up[i], down[i], before)
            for i, before in enumerate((pad_y[0], pad_x[0]))
        ]
        return _Filter.apply(gradient, f.flip([0, 1]), down, up, *padding), None, None, None, None, None


def _convolve_channels(
    x: torch.Tensor, f: torch.Tensor, up: Pair, down: Pair, pad_y: Pair, pad_x: Pair
) -> torch.Tensor:
    """Do the work of `_filter` with PyTorch's depthwise convolutions."""
    channels, taps = x.shape[1], (f.shape[0], f.shape[1])
    if up != (1, 1) and is_bfloat16_on_cpu(x):
        # oneDNN has no depthwise transposed convolution in bfloat16; its substitute takes 20 times float32's time.
        return _convolve_channels(x.float(), f.float(), up, down, pad_y, pad_x).to(x.dtype)
    if channels == 1:
        # One channel is in both layouts. Told by the strides that it is channels last, PyTorch's bfloat16 convolution
        # on the CPU is wrong and reads what is not its own; seen flat and back, the strides say contiguous.
        x = x.flatten().view(x.shape)
    if up == (1, 1):
        # The convolution itself pads, where padding is equal on both sides.
        inner_y, inner_x = max(min(pad_y), 0), max(min(pad_x), 0)
        x = _pad(x, pad_y, pad_x, -inner_y, -inner_x)
        return F.conv2d(x, f.expand(channels, 1, -1, -1), stride=down, padding=(inner_y, inner_x), groups=channels)
    # A transposed convolution of stride `up` gives the full convolution of the upsampled picture with the flipped
    # filter; what the wanted padding does not reach is cropped, what it adds is zero.
    size_y, size_x = _output_sizes(x, taps, up, pad_y, pad_x)
    before_y, before_x = pad_y[0] - taps[0] + 1, pad_x[0] - taps[1] + 1
    after_y = size_y - before_y - ((x.shape[2] - 1) * up[0] + taps[0])
    after_x = size_x - before_x - ((x.shape[3] - 1) * up[1] + taps[1])
    # Cropping equally on both sides is free: it is what the padding of a transposed convolution means.
    crop_y, crop_x = max(min(-before_y, -after_y), 0), max(min(-before_x, -after_x), 0)
    w = f.flip([0, 1]).expand(channels, 1, -1, -1)
    x = F.conv_transpose2d(x, w, stride=up, padding=(crop_y, crop_x), groups=channels)
    x = _pad(x, (before_y, after_y), (before_x, after_x), crop_y, crop_x)
    return x[:, :, :: down[0], :: down[1]] if down != (1, 1) else x


def _pad(x: torch.Tensor, pad_y: Pair, pad_x: Pair, extra_y: int, extra_x: int) -> torch.Tensor:
    """Pad `x`, or crop it where padding is negative; `extra` is added to both sides."""
    pads = [pad_x[0] + extra_x, pad_x[1] + extra_x, pad_y[0] + extra_y, pad_y[1] + extra_y]
    return F.pad(x, pads) if any(pads) else x
