"""MobileFaceNet: a small face recognition network (Chen et al. 2018), for a training loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

# The four stages: channels between, channels out, stride of the first block, blocks.
STAGES = ((128, 64, 2, 5), (256, 128, 2, 7), (512, 128, 2, 1), (256, 128, 1, 2))
LAST = 512  # channels that the last, global convolution weighs
FEATURES = 128
SIZE = 112  # side of its pictures, of which the last map is 7x7


class MobileFaceNet(nn.Module):
    """Aligned faces `[N, 3, 112, 112]`, (level - 127.5) / 128, to features `[N, 128]`, compared by their cosine.

    Every batch normalization is folded into the convolution before it: this is for weights that no longer change.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 64, 3, stride=2), FrozenPReLU(64), _conv(64, 64, 3, groups=64), FrozenPReLU(64)
        )
        blocks, inputs = [], 64
        for inner, outputs, stride, count in STAGES:
            blocks.append(Bottleneck(inputs, inner, outputs, stride))
            blocks += [Bottleneck(outputs, min(inner, 256), outputs, 1) for _ in range(count - 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.widen = nn.Sequential(_conv(inputs, LAST, 1), FrozenPReLU(LAST))
        self.weigh = nn.Conv2d(LAST, LAST, SIZE // 16, groups=LAST)  # in place of a mean: each place has its weight
        self.last = nn.Linear(LAST, FEATURES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features `[N, 128]`; has a gradient."""
        return self.last(self.weigh(self.widen(self.blocks(self.stem(images)))).flatten(1))


class Bottleneck(nn.Module):
    """Widens, looks at each channel for itself, narrows (Sandler et al. 2018); with stride 1, added to what came in."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.adds = stride == 1
        self.layers = nn.Sequential(
            _conv(inputs, inner, 1),
            FrozenPReLU(inner),
            _conv(inner, inner, 3, stride, inner),
            FrozenPReLU(inner),
            _conv(inner, outputs, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class FrozenPReLU(nn.PReLU):
    """PReLU whose slopes do not learn: on a CPU, PyTorch's own is what this network waits for most, backward."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _PReLU.apply(input, self.weight.detach())


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, slopes)
        return functional.prelu(x, slopes.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        x, slopes = ctx.saved_tensors
        slopes = slopes[:, None, None].to(x.dtype)
        above = torch.ops.aten.threshold_backward(gradient, x, 0)
        return torch.addcmul(gradient * slopes, above, 1 - slopes), None


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
