"""Bias, activation, gain and clamp in one call: the element-wise tail of every StyleGAN layer."""

from __future__ import annotations

import torch

from . import compiled, reference
from .convolution import being_traced
from .reference import Activation, activation_funcs

__all__ = ["Activation", "activate_", "activation_funcs", "bias_act"]


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
    if b is not None and (b.ndim != 1 or b.shape[0] != x.shape[dim]):
        raise ValueError(f"bias of shape {list(b.shape)} does not fit dimension {dim} of {list(x.shape)}")
    alpha, gain = _with_defaults(act, alpha, gain)
    if impl == "cuda" and x.is_cuda and _kernel_pays(x, b, act, gain, clamp):
        return compiled.bias_act(x, b, dim, act, alpha, gain, clamp)
    return reference.bias_act(x, b, dim, act, alpha, gain, clamp)


def activate_(
    x: torch.Tensor, act: str, alpha: float | None = None, gain: float | None = None, clamp: float | None = None
) -> torch.Tensor:
    """Compute what `bias_act` does without a bias, overwriting `x` where that saves a pass over memory.

    Only for an `x` that nothing else reads and that its own derivative does not need: a sum, the result of a
    convolution.
    """
    alpha, gain = _with_defaults(act, alpha, gain)
    if x.is_cuda and _kernel_pays(x, None, act, gain, clamp):
        return compiled.bias_act(x, None, 1, act, alpha, gain, clamp)
    return reference.activate_(x, act, alpha, gain, clamp)


def _with_defaults(act: str, alpha: float | None, gain: float | None) -> tuple[float, float]:
    activation = activation_funcs[act]
    return activation.alpha if alpha is None else alpha, activation.gain if gain is None else gain


def _kernel_pays(x: torch.Tensor, b: torch.Tensor | None, act: str, gain: float, clamp: float | None) -> bool:
    """Tell whether the compiled kernel is there and does better than PyTorch.

    It does not for a mere sum, nor under tracing: the compiler fuses the recorded steps anyway.
    """
    merely_a_sum = act == "linear" and gain == 1 and clamp is None
    return not merely_a_sum and not being_traced() and compiled.usable(x, b)
