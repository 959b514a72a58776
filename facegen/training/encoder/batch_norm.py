"""Batch normalisation over the batch of all processes, so that a batch of 32 is one of 32 on 8 GPUs, too."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from facegen.training.run.distributed import world_size


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of all processes, which must have equally many pictures.

    As torch's own SyncBatchNorm, but also on CPUs.
    """

    @classmethod
    def of(cls, layer: nn.BatchNorm2d) -> SharedBatchNorm2d:
        """Return one with the parameters and statistics (the same tensors) of a layer."""
        shared = cls(layer.num_features, layer.eps, layer.momentum)
        shared.weight, shared.bias = layer.weight, layer.bias
        shared.running_mean, shared.running_var = layer.running_mean, layer.running_var
        shared.num_batches_tracked = layer.num_batches_tracked
        return shared.train(layer.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise `[N, C, H, W]`; in training by the batch of all processes."""
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
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def share_batch_norm(network: nn.Module) -> None:
    """Replace every `nn.BatchNorm2d` within a network, whose parameters keep their names and tensors."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SharedBatchNorm2d.of(child))
