"""The layers of a photo classifier, EfficientNet-Lite; the early ones compare pictures as people do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

STEM = 32
# Widening, kernel, and stride of the first block, of each stage: at 1/2, 1/4, 1/8, 1/16, 1/16, 1/32, 1/32 of the side.
STAGES = ((1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 2), (6, 5, 1), (6, 5, 2), (6, 3, 1))
WIDTHS, DEPTHS = (16, 24, 40, 80), (1, 2, 2, 3)  # of the stages that compare pictures
# It was trained on (level - 127) / 128: photos then have the statistics that its batch normalizations had noted. (The
# package's own example takes other numbers, under which their variance in the first layer is five times that.)
MEAN, SCALE = 127, 128


class LiteFeatures(nn.Module):
    """Pictures `[N, 3, H, W]` in -1..1 to four maps: `[N, 16, H/2, W/2]`, ..., `[N, 80, H/16, W/16]`.

    The first third of EfficientNet-Lite0 (Tan and Le 2019; Lite: without squeeze and excitation, with ReLU6), its batch
    normalizations folded into the convolutions. The weights in the package were trained on ImageNet (Apache-2.0), see
    `scripts/convert_lite_features.py`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.init_kwargs: dict[str, int] = {}
        self.stem = Stem()
        self.stages = lite_stages(WIDTHS, DEPTHS)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the four maps, from fine to coarse; they have gradients."""
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def lite_stages(widths: Sequence[int], depths: Sequence[int]) -> nn.ModuleList:
    """Return the first stages, as many as there are widths; each a sequence of as many blocks as `depths` says."""
    stages, inputs = nn.ModuleList(), STEM
    for (widening, kernel, stride), outputs, count in zip(STAGES, widths, depths, strict=False):
        first = Block(inputs, inputs * widening, outputs, kernel, stride)
        others = (Block(outputs, outputs * widening, outputs, kernel, 1) for _ in range(count - 1))
        stages.append(nn.Sequential(first, *others))
        inputs = outputs
    return stages


class Block(nn.Module):
    """Widens, looks at each channel for itself, narrows (Sandler et al. 2018); added to what came in, if it can be."""

    def __init__(self, inputs: int, inner: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.adds = stride == 1 and inputs == outputs
        widen = nn.Sequential(nn.Conv2d(inputs, inner, 1), nn.ReLU6(inplace=True))
        self.expand = widen if inner != inputs else nn.Identity()
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = nn.Conv2d(inner, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(functional.relu6(self.depthwise(self.expand(x)), inplace=True))
        return x + y if self.adds else y


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's `SAME`: the odd row and column of zeros lies below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:  # as much on each side, which a convolution adds itself, without a copy
            return functional.conv2d(input, self.weight, self.bias, 1, kernel // 2, 1, self.groups)
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in input.shape[2:])
        padding = (width // 2, width - width // 2, height // 2, height - height // 2)
        return super().forward(functional.pad(input, padding))


class Stem(SameConv):
    """The first convolution: pictures `[N, 3, H, W]` in -1..1 to `[N, 32, H/2, W/2]` in 0..6."""

    def __init__(self) -> None:
        super().__init__(3, STEM, 3, stride=2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = (input * 127.5 + (127.5 - MEAN)) / SCALE
        # One face takes three quarters of the time where a pixel's channels lie side by side; they stay so.
        return functional.relu6(super().forward(x.contiguous(memory_format=torch.channels_last)))
