"""Convolutions whose derivatives of any order are convolutions and weight gradients of the first order's kind.

PyTorch takes the second derivative of a convolution through convolutions with channels and batch exchanged and kernels
as large as the picture, which are several times slower; path length regularization and R1 consist of them.

In bfloat16 on the CPU only first derivatives are taken, so ordinary convolutions are PyTorch's own there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from . import winograd

_thread = threading.local()


class _Geometry(NamedTuple):
    """The settings of a convolution; pairs are y, x."""

    stride: int
    padding: tuple[int, int]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, int] = (0, 0)

    def reversed(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> _Geometry:
        """Return the convolution with the same `w` that takes the gradient of the result `y` to that of `x`."""
        if self.transposed:
            return self._replace(transposed=False, output_padding=(0, 0))
        reached = [(y.shape[2 + i] - 1) * self.stride - 2 * self.padding[i] + w.shape[2 + i] for i in (0, 1)]
        return self._replace(transposed=True, output_padding=(x.shape[2] - reached[0], x.shape[3] - reached[1]))


def conv2d(
    x: torch.Tensor,
    w: torch.Tensor,
    b: torch.Tensor | None = None,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> torch.Tensor:
    """Compute `torch.nn.functional.conv2d`, differentiable any number of times at the same price; padding is y, x."""
    if being_traced() or takes_first_derivatives():
        return F.conv2d(x, w, b, stride, padding, groups=groups)
    if is_bfloat16_on_cpu(x):
        return F.conv2d(x, _in_layout_of(x, w), b, stride, padding, groups=groups)
    return _Convolution.apply(x, _in_layout_of(x, w), b, _Geometry(stride, padding, groups))


def conv_transpose2d(x: torch.Tensor, w: torch.Tensor, stride: int = 1, groups: int = 1) -> torch.Tensor:
    """Compute `torch.nn.functional.conv_transpose2d`, differentiable any number of times at the same price."""
    if being_traced() or takes_first_derivatives():
        return F.conv_transpose2d(x, w, None, stride, groups=groups)
    return _Convolution.apply(x, _in_layout_of(x, w), None, _Geometry(stride, (0, 0), groups, transposed=True))


@contextlib.contextmanager
def first_derivatives() -> Iterator[None]:
    """In this context convolutions and filters are PyTorch's own: quicker to call, slower from second derivatives on.

    It pays where batches are so small that calls cost as much as arithmetic. It holds for the thread that enters it.
    """
    before = takes_first_derivatives()
    _thread.first = True
    try:
        yield
    finally:
        _thread.first = before


def takes_first_derivatives() -> bool:
    """Tell whether this is in the context `first_derivatives`."""
    return getattr(_thread, "first", False)


def is_bfloat16_on_cpu(x: torch.Tensor) -> bool:
    """Tell whether `x` is bfloat16 on the CPU, where some of oneDNN's operations are slow."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu"


def being_traced() -> bool:
    """Tell whether the operations are being recorded (torch.export, torch.jit.trace, torch.compile).

    A record should hold PyTorch's own operations, which others know how to run; its derivatives are not needed.
    """
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, geometry: _Geometry
    ) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        return _convolve(x, w, b, geometry)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, w = ctx.saved_tensors
        geometry = ctx.geometry
        grad_x = grad_w = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_x = _Convolution.apply(grad, w, None, geometry.reversed(x, grad, w))
        if ctx.needs_input_grad[1]:
            grad_w = _WeightGradient.apply(x, grad, w.shape, geometry)
        if ctx.needs_input_grad[2]:
            grad_b = grad.sum(dim=[0, 2, 3])
        return grad_x, grad_w, grad_b, None


class _WeightGradient(torch.autograd.Function):
    """Linear in `x` and in `grad`, as the convolution is linear in `x` and in the weights."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, grad: torch.Tensor, shape: torch.Size, geometry: _Geometry) -> torch.Tensor:
        ctx.save_for_backward(x, grad)
        ctx.geometry = geometry
        return _weight_gradient(x, grad, shape, geometry)

    @staticmethod
    def backward(ctx: Any, w: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, grad = ctx.saved_tensors
        geometry = ctx.geometry
        grad_x = grad_grad = None
        if ctx.needs_input_grad[0]:
            grad_x = _Convolution.apply(grad, w, None, geometry.reversed(x, grad, w))
        if ctx.needs_input_grad[1]:
            grad_grad = _Convolution.apply(x, w, None, geometry)
        return grad_x, grad_grad, None, None


def _convolve(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, geometry: _Geometry) -> torch.Tensor:
    if _winograd_pays(x, w.shape, geometry):
        y = winograd.convolve(x, w, geometry.transposed)
        return y if b is None else y.add_(b[:, None, None])
    stride, padding, groups, transposed, output_padding = geometry
    if transposed and is_bfloat16_on_cpu(x):
        return _transposed_as_gradient(x, w, geometry)  # without a bias
    if transposed:
        return F.conv_transpose2d(x, w, b, stride, padding, output_padding, groups)
    return F.conv2d(x, w, b, stride, padding, groups=groups)


def _transposed_as_gradient(x: torch.Tensor, w: torch.Tensor, geometry: _Geometry) -> torch.Tensor:
    """Compute a transposed convolution as the gradient that an ordinary one gives to its picture.

    In bfloat16 on the CPU oneDNN's is up to 1.6 times as fast in this form, for the same numbers.
    """
    stride, padding, groups, _, output_padding = geometry
    sides = [(x.shape[2 + i] - 1) * stride - 2 * padding[i] + w.shape[2 + i] + output_padding[i] for i in (0, 1)]
    # Only its shape counts, but in another layout it would be copied.
    picture = torch.empty(
        len(x), groups * w.shape[1], *sides, dtype=x.dtype, device=x.device, memory_format=_layout_of(x)
    )
    y, _, _ = torch.ops.aten.convolution_backward(
        x, picture, w, None, [stride] * 2, padding, [1, 1], False, [0, 0], groups, [True, False, False]
    )
    return y


def _weight_gradient(x: torch.Tensor, grad: torch.Tensor, shape: torch.Size, geometry: _Geometry) -> torch.Tensor:
    if _winograd_pays(x, shape, geometry):
        # Transposed, a convolution takes to `x` what otherwise it takes from there.
        return winograd.weight_gradient(grad, x) if geometry.transposed else winograd.weight_gradient(x, grad)
    w = x.new_empty([1]).expand(shape)  # only its shape counts
    stride, padding, groups, transposed, output_padding = geometry
    _, grad_w, _ = torch.ops.aten.convolution_backward(
        grad, x, w, None, [stride] * 2, padding, [1, 1], transposed, output_padding, groups, [False, True, False]
    )
    return grad_w


def _winograd_pays(x: torch.Tensor, shape: torch.Size, geometry: _Geometry) -> bool:
    same_size = shape[2:] == (3, 3) and geometry[:3] == (1, (1, 1), 1)
    return same_size and winograd.pays(x, shape[0], shape[1])


def _in_layout_of(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return `w` in the layout of `x`, so that it is converted once for the convolution and for its gradient."""
    return w.contiguous(memory_format=_layout_of(x))


def _layout_of(x: torch.Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
