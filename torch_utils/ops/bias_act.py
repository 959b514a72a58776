"""Bias, activation, gain and clamp in one call: the element-wise tail of every StyleGAN layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from torch_utils.ops import compiled
from torch_utils.ops.convolution import being_traced


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
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "cuda",
) -> torch.Tensor:
    """Compute `clamp(gain * act(x + b))`; differentiable any number of times.

    Args:
        x: Any shape and floating-point type.
        b: Bias of shape `[x.shape[dim]]` in the type of `x`, or None.
        dim: The dimension of `x` that the bias belongs to.
        act: Name of the activation, a key of `activation_funcs`.
        alpha: Negative slope of `lrelu`; the others have none. None takes the activation's default.
        gain: Factor after the activation. None takes the activation's default.
        clamp: Limit results to `[-clamp, clamp]`. None does not.
        impl: `ref` for plain PyTorch; `cuda` for the compiled kernel on a GPU where it can be built, plain PyTorch
            elsewhere.

    Raises:
        ValueError: unknown `act` or `impl`, negative `clamp`, or a bias that does not fit.
    """
    if act not in activation_funcs:
        raise ValueError(f"unknown activation {act!r}: choose one of {', '.join(activation_funcs)}")
    if impl not in ("ref", "cuda"):
        raise ValueError(f"unknown impl {impl!r}: choose 'ref' or 'cuda'")
    if clamp is not None and clamp < 0:
        raise ValueError(f"clamp must not be negative, got {clamp}")
    activation = activation_funcs[act]
    alpha = activation.alpha if alpha is None else alpha
    gain = activation.gain if gain is None else gain

    if b is not None and (b.ndim != 1 or b.shape[0] != x.shape[dim]):
        raise ValueError(f"bias of shape {list(b.shape)} does not fit dimension {dim} of {list(x.shape)}")
    if impl == "cuda" and x.is_cuda and _kernel_pays(x, b, act, gain, clamp):
        return compiled.bias_act(x, b, dim, act, alpha, gain, clamp)
    if b is not None:
        x = x + b.reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
        return _activate_(x, act, alpha, gain, clamp)
    x = activation.function(x, alpha)
    return _scale_and_clamp(x, gain, clamp)


def activate_(
    x: torch.Tensor, act: str, alpha: float | None = None, gain: float | None = None, clamp: float | None = None
) -> torch.Tensor:
    """Compute what `bias_act` does without a bias, overwriting `x` where that saves a pass over memory.

    Only for an `x` that nobody else reads and that its own derivative does not need: a sum, the result of a
    convolution.
    """
    activation = activation_funcs[act]
    alpha = activation.alpha if alpha is None else alpha
    gain = activation.gain if gain is None else gain
    if x.is_cuda and _kernel_pays(x, None, act, gain, clamp):
        return compiled.bias_act(x, None, 1, act, alpha, gain, clamp)
    return _activate_(x, act, alpha, gain, clamp)


def _kernel_pays(x: torch.Tensor, b: torch.Tensor | None, act: str, gain: float, clamp: float | None) -> bool:
    """Tell whether the compiled kernel can be had and does better than PyTorch.

    Not for a mere sum, nor when traced: whoever compiles the record fuses the steps himself.
    """
    merely_a_sum = act == "linear" and gain == 1 and clamp is None
    return not merely_a_sum and not being_traced() and compiled.usable(x, b)


def _activate_(x: torch.Tensor, act: str, alpha: float, gain: float, clamp: float | None) -> torch.Tensor:
    # The sign of the result tells the branch that was taken only while the slope is positive.
    in_place = act == "lrelu" and alpha > 0
    x = F.leaky_relu_(x, alpha) if in_place else activation_funcs[act].function(x, alpha)
    return _scale_and_clamp(x, gain, clamp)


def _scale_and_clamp(x: torch.Tensor, gain: float, clamp: float | None) -> torch.Tensor:
    if gain != 1:
        x = x * gain
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    return x
