"""The compiled operations as PyTorch sees them: the shape of what they return, their derivatives, what the CPU does.

On the CPU they are plain PyTorch (`reference.py`). The files in cuda/ add the CUDA kernels when
`custom_ops` has built them. Call the functions of `bias_act` and `upfirdn2d`, which choose.

Derivatives are registered with PyTorch, for torch.compile, and once more as `torch.autograd.Function`: what PyTorch
makes of registered ones costs some 20 microseconds more a call, and a training step has hundreds of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .. import custom_ops
from . import library, reference
from .reference import Pair

TYPES = frozenset([torch.float16, torch.bfloat16, torch.float32, torch.float64])
# Their derivative is a constant on either side of 0; the sign of the result tells which.
PIECEWISE_LINEAR = ("linear", "relu", "lrelu")
MAX_ORDER = 2  # highest derivative that bias_act_grad computes

_Gradients = tuple[torch.Tensor | None, ...]


def usable(x: torch.Tensor, *others: torch.Tensor | None) -> bool:
    """Tell whether the compiled operations can work on tensors; build them when they are wanted the first time.

    `others` have to be on the device of `x`, in its type.
    """
    if not x.is_cuda or x.dtype not in TYPES:
        return False
    fit = all(other is None or (other.device == x.device and other.dtype == x.dtype) for other in others)
    return fit and custom_ops.ready()


def being_exported() -> bool:
    """Tell whether what is called now is recorded for others, who do not have these operations."""
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # PyTorch 2.6 has no is_exporting
    return torch.jit.is_tracing() or exporting()


def bias_act(x: torch.Tensor, *others: Any) -> torch.Tensor:
    """Call the compiled `bias_act` with the arguments of `reference.bias_act`."""
    call = torch.ops.torch_utils.bias_act if torch.compiler.is_compiling() else _BiasAct.apply
    return call(x, *others)


def upfirdn2d(
    x: torch.Tensor, f: torch.Tensor, up: Pair, down: Pair, padding: Sequence[int], flip: bool, gain: float
) -> torch.Tensor:
    """Call the compiled `upfirdn2d`, for a 1-D filter twice; arguments as in `reference.upfirdn2d`."""
    reference.check_size(x, (f.shape[0], f.shape[-1]), (up[1], up[0]), padding[2:], padding[:2])
    call = torch.ops.torch_utils.upfirdn2d if torch.compiler.is_compiling() else _Upfirdn2d.apply
    if f.ndim == 2:
        return call(x, f, up, down, padding, flip, gain)
    x = call(x, f[None, :], [up[0], 1], [down[0], 1], [*padding[:2], 0, 0], flip, gain)
    return call(x, f[:, None], [1, up[1]], [1, down[1]], [0, 0, *padding[2:]], flip, 1.0)


def _forward(operation: Callable[..., torch.Tensor], setup: Callable[..., None]) -> staticmethod:
    """The forward pass of a Function. Not a Function with `setup_context`: that is as slow as what is registered."""

    def forward(ctx: Any, *inputs: object) -> torch.Tensor:
        # Nobody need ask once more whether there is something to differentiate.
        with torch._C._AutoDispatchBelowAutograd():
            output = operation(*inputs)
        setup(ctx, inputs, output)
        return output

    return staticmethod(forward)


# --- bias_act -------------------------------------------------------------------------------------------------------

# bias_act(x, b, dim, act, alpha, gain, clamp) = clamp(gain * act(x + b));
# bias_act_grad(g, x, b, ..., order) = g * the derivative of that order with respect to x + b. With from_output, x is
# the result instead, which saves keeping the input: the layer behind keeps the result anyway.


def _sum_to_bias(grad: torch.Tensor, dim: int) -> torch.Tensor:
    return grad.sum([i for i in range(grad.ndim) if i != dim % grad.ndim])


def _bias_act_cpu(x: torch.Tensor, *others: Any) -> torch.Tensor:
    return torch.empty_like(x).copy_(reference.bias_act(x, *others))


def _bias_act_grad_cpu(g: torch.Tensor, x: torch.Tensor, b: torch.Tensor | None, *others: Any) -> torch.Tensor:
    dim, act, alpha, gain, clamp, from_output, order = others
    if from_output:
        edge = None if clamp is None else torch.tensor(clamp, dtype=x.dtype)
        clamped = torch.zeros_like(x, dtype=torch.bool) if edge is None else x.abs() >= edge
        factor = DERIVATIVES[act][0](x if gain >= 0 else -x, alpha)
    else:
        total = reference.add_bias(x, b, dim)
        clamped = _is_clamped(total, act, alpha, gain, clamp)
        factor = DERIVATIVES[act][order - 1](total, alpha)
    return torch.empty_like(x).copy_((g * gain * factor).masked_fill(clamped, 0))


def _is_clamped(total: torch.Tensor, act: str, alpha: float, gain: float, clamp: float | None) -> torch.Tensor:
    if clamp is None:
        return torch.zeros_like(total, dtype=torch.bool)
    return (reference.activation_funcs[act].function(total, alpha) * gain).abs() > clamp


def _logistic(polynomial: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """A function of x that is s * (1 - s) * polynomial(s), where s is the logistic function of x."""

    def function(x: torch.Tensor, alpha: float) -> torch.Tensor:
        s = x.sigmoid()
        return s * (1 - s) * polynomial(s)

    return function


def _exponential(above: float, scale: float, factor: float) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """A function of x that is `above` for positive x and scale * factor * exp(x) below.

    At 0 it agrees with PyTorch: the first derivative is the one from below, the higher ones (0 above) are 0.
    """
    return lambda x, alpha: torch.where(x > 0 if above else x >= 0, above, scale * factor * x.clamp(max=0).exp())


def _zero(x: torch.Tensor, alpha: float) -> torch.Tensor:
    return torch.zeros_like(x)


_SELU = 1.0507009873554804934, 1.6732632423543772848  # scale and alpha: Klambauer et al. 2017, equation 14

# First, second and third derivative of every activation, as functions of x and alpha.
DERIVATIVES: dict[str, tuple[Callable[[torch.Tensor, float], torch.Tensor], ...]] = {
    "linear": (lambda x, alpha: torch.ones_like(x), _zero, _zero),
    "relu": (lambda x, alpha: (x > 0).to(x.dtype), _zero, _zero),
    "lrelu": (lambda x, alpha: torch.where(x > 0, 1.0, alpha).to(x.dtype), _zero, _zero),
    "tanh": (
        lambda x, alpha: 1 - x.tanh() ** 2,
        lambda x, alpha: -2 * x.tanh() * (1 - x.tanh() ** 2),
        lambda x, alpha: (6 * x.tanh() ** 2 - 2) * (1 - x.tanh() ** 2),
    ),
    "sigmoid": (
        _logistic(torch.ones_like),
        _logistic(lambda s: 1 - 2 * s),
        _logistic(lambda s: 1 - 6 * s + 6 * s**2),
    ),
    "elu": (_exponential(1.0, 1, 1), _exponential(0.0, 1, 1), _exponential(0.0, 1, 1)),
    "selu": (_exponential(_SELU[0], *_SELU), _exponential(0.0, *_SELU), _exponential(0.0, *_SELU)),
    "softplus": (lambda x, alpha: x.sigmoid(), _logistic(torch.ones_like), _logistic(lambda s: 1 - 2 * s)),
    # x * s(x): by the product rule, x times one derivative of s and a multiple of the one below.
    "swish": (
        lambda x, alpha: x.sigmoid() * (1 + x * (1 - x.sigmoid())),
        lambda x, alpha: _logistic(lambda s: 2 + x * (1 - 2 * s))(x, alpha),
        lambda x, alpha: _logistic(lambda s: 3 * (1 - 2 * s) + x * (1 - 6 * s + 6 * s**2))(x, alpha),
    ),
}


def _bias_act_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, b, dim, act, alpha, gain, clamp = inputs
    # The sign of the result tells the branch that was taken only while the slope is positive.
    ctx.from_output = act in ("linear", "relu") or (act == "lrelu" and alpha > 0)
    ctx.linear = act == "linear" and clamp is None
    ctx.options = dim, act, alpha, gain, clamp
    if ctx.linear:
        ctx.save_for_backward()
    elif ctx.from_output:
        ctx.save_for_backward(output, None)
    else:
        ctx.save_for_backward(x, b)


def _bias_act_backward(ctx: Any, grad: torch.Tensor) -> _Gradients:
    dim, _, _, gain, _ = ctx.options
    grad_x = grad_b = None
    if ctx.linear:
        grad_x = grad * gain if gain != 1 else grad
    else:
        x, b = ctx.saved_tensors
        grad_x = _BiasActGrad.apply(grad, x, b, *ctx.options, ctx.from_output, 1)
    if ctx.needs_input_grad[1]:
        grad_b = _sum_to_bias(grad_x, dim)
    return grad_x, grad_b, None, None, None, None, None


def _bias_act_grad_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    g, x, b, *options, from_output, order = inputs
    ctx.options, ctx.from_output, ctx.order = options, from_output, order
    ctx.save_for_backward(None if options[1] in PIECEWISE_LINEAR else g, x, b)


def _bias_act_grad_backward(ctx: Any, grad: torch.Tensor) -> _Gradients:
    g, x, b = ctx.saved_tensors
    dim, act, alpha, gain, clamp = ctx.options
    grad_g = grad_x = grad_b = None
    if ctx.needs_input_grad[0]:
        grad_g = _BiasActGrad.apply(grad, x, b, *ctx.options, ctx.from_output, ctx.order)
    if act not in PIECEWISE_LINEAR and (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
        if ctx.order < MAX_ORDER:
            grad_x = _BiasActGrad.apply(grad * g, x, b, *ctx.options, False, ctx.order + 1)
        else:  # made of PyTorch's operations, which can be differentiated on and on
            total = reference.add_bias(x, b, dim)
            factor = DERIVATIVES[act][ctx.order](total, alpha)
            grad_x = (grad * g * gain * factor).masked_fill(_is_clamped(total, act, alpha, gain, clamp), 0)
        if ctx.needs_input_grad[2]:
            grad_b = _sum_to_bias(grad_x, dim)
    return grad_g, grad_x, grad_b, None, None, None, None, None, None, None


class _BiasAct(torch.autograd.Function):
    forward = _forward(torch.ops.torch_utils.bias_act.default, _bias_act_setup)
    backward = staticmethod(_bias_act_backward)


class _BiasActGrad(torch.autograd.Function):
    forward = _forward(torch.ops.torch_utils.bias_act_grad.default, _bias_act_grad_setup)
    backward = staticmethod(_bias_act_grad_backward)


library.register("bias_act", _bias_act_cpu, lambda x, *others: torch.empty_like(x), _bias_act_backward, _bias_act_setup)
library.register(
    "bias_act_grad",
    _bias_act_grad_cpu,
    lambda g, x, *others: torch.empty_like(x),
    _bias_act_grad_backward,
    _bias_act_grad_setup,
)


# --- upfirdn2d ------------------------------------------------------------------------------------------------------


def _layout(x: torch.Tensor) -> torch.memory_format:
    """The layout of the result: channels last where the picture is, and cannot be called contiguous as well."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _upfirdn2d_cpu(x: torch.Tensor, *others: Any) -> torch.Tensor:
    return reference.upfirdn2d(x, *others).clone(memory_format=_layout(x))


def _upfirdn2d_fake(
    x: torch.Tensor, f: torch.Tensor, up: Pair, down: Pair, padding: Sequence[int], *_: Any
) -> torch.Tensor:
    width = (x.shape[3] * up[0] + padding[0] + padding[1] - f.shape[1]) // down[0] + 1
    height = (x.shape[2] * up[1] + padding[2] + padding[3] - f.shape[0]) // down[1] + 1
    return torch.empty(
        [x.shape[0], x.shape[1], height, width], dtype=x.dtype, device=x.device, memory_format=_layout(x)
    )


def _upfirdn2d_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, f, ctx.up, ctx.down, ctx.padding, ctx.flip, ctx.gain = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(f)


def _upfirdn2d_backward(ctx: Any, grad: torch.Tensor) -> _Gradients:
    (f,) = ctx.saved_tensors
    grad_x = None
    if ctx.needs_input_grad[0]:
        padding: list[int] = []
        for axis in (0, 1):  # x, y
            other = 1 - axis  # the same axis in the filter; in pictures it is other + 2
            padding += reference.gradient_padding(
                f.shape[other],
                ctx.size[other],
                grad.shape[2 + other],
                ctx.up[axis],
                ctx.down[axis],
                ctx.padding[2 * axis],
            )
        grad_x = _Upfirdn2d.apply(grad, f, ctx.down, ctx.up, padding, not ctx.flip, ctx.gain)
    return grad_x, None, None, None, None, None, None


class _Upfirdn2d(torch.autograd.Function):
    forward = _forward(torch.ops.torch_utils.upfirdn2d.default, _upfirdn2d_setup)
    backward = staticmethod(_upfirdn2d_backward)


library.register("upfirdn2d", _upfirdn2d_cpu, _upfirdn2d_fake, _upfirdn2d_backward, _upfirdn2d_setup)
