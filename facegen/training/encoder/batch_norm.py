"""Batch normalization over the batch of all processes, so that a batch of 32 is one of 32 on 8 GPUs, too."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from facegen.training.run.distributed import world_size


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of all processes, which must have equally many pictures.

    As torch's own SyncBatchNorm, but also on CPUs.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor
    momentum: float

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalize `[N, C, H, W]`; in training by the batch of all processes."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        x = input
        var, mean = torch.var_mean(x, dim=(0, 2, 3), unbiased=False)
        # The variance of all is the mean of the variances and the variance of the means; in float64, as these cancel.
        mean, var = mean.double(), var.double()
        total = _Sum.apply(torch.stack([mean, var + mean.square()])) / world_size()
        mean, var = total[0], total[1] - total[0].square()
        count = x.numel() // x.shape[1] * world_size()
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt().to(self.weight.dtype)
        shift = self.bias - mean.to(self.bias.dtype) * scale
        return x * scale[:, None, None].to(x.dtype) + shift[:, None, None].to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes; a gradient with respect to it comes from all of them."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def share_batch_norm(network: nn.Module) -> None:
    """Make every `nn.BatchNorm2d` within a network a `SharedBatchNorm2d`: the same tensors, normalized otherwise."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
