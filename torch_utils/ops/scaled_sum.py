"""`base + x * scale` in one pass, and without the pass that PyTorch's addcmul takes in its derivative, x times 1."""

from __future__ import annotations

from typing import Any

import torch

from .convolution import being_traced


def scaled_sum(base: torch.Tensor, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return `base + x * scale`, broadcast to the shape of `x`; differentiable any number of times."""
    if being_traced():
        return torch.addcmul(base, x, scale)
    return _ScaledSum.apply(base, x, scale)


class _ScaledSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: torch.Tensor, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, scale)
        ctx.shape = base.shape
        return torch.addcmul(base, x, scale)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale = ctx.saved_tensors
        grad_base = grad.sum_to_size(ctx.shape) if ctx.needs_input_grad[0] else None
        grad_x = grad * scale if ctx.needs_input_grad[1] else None
        grad_scale = (grad * x).sum_to_size(scale.shape) if ctx.needs_input_grad[2] else None
        return grad_base, grad_x, grad_scale
