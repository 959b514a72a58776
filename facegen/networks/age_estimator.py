"""The age estimator: a picture of a face in, a distribution over the ages 0 to 100 out (DEX: Rothe et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from facegen.errors import FacegenError
from facegen.networks.lite_features import STAGES, Stem, lite_stages

AGES = 101  # 0, 1, ..., 100 years; older faces count as 100
MAX_WIDTH, MAX_STAGES, MAX_DEPTH = 2048, 8, 50
# No weight says how large the pictures are, so a tiny file could ask for any memory.
MAX_INPUT_SIZE = 1024
MAX_FEATURES = 2**24  # of one picture in one stage


class AgeEstimator(nn.Module):
    """Faces `[N, 3, H, W]` in -1..1 to logits `[N, 101]` over the ages 0..100.

    Args:
        arch: `resnet`: pre-activation residual blocks with ReLU (He et al. 2016b), halved by strides. `plain`: no
            shortcuts, SiLU, channel attention (Hu et al. 2018, squeeze and excitation), halved by maximum pooling.
            The two make different mistakes, so that one can judge what was trained with the other. `lite`: the first
            stages of EfficientNet-Lite (Tan and Le 2019), which can start from the weights of a photo classifier.
        widths: Channels of each stage. Each stage but the first halves the side once more; of `lite`, the fifth and
            the seventh do not.
        depths: Blocks (`resnet`, `lite`) or pairs of convolutions (`plain`) of each stage.
        input_size: Side to which pictures are resized before the first convolution, which halves it.
        dropout: Share of the pooled features that is left out in training.
        both_sides: `predict` takes the mean over a picture and its mirror image: steadier, at twice the cost.
    """

    def __init__(
        self,
        arch: str = "resnet",
        widths: Sequence[int] = (32, 64, 128, 160),
        depths: Sequence[int] = (1, 2, 2, 1),
        input_size: int = 64,
        dropout: float = 0.2,
        both_sides: bool = False,
    ) -> None:
        super().__init__()
        widths, depths = [int(width) for width in widths], [int(depth) for depth in depths]
        if arch not in ARCHITECTURES:
            raise FacegenError(f"the age estimator's arch is one of {', '.join(ARCHITECTURES)}, got {arch!r}")
        if len(widths) != len(depths) or not 1 <= len(widths) <= MAX_STAGES:
            raise FacegenError(f"the age estimator needs a width and a depth for each stage, got {widths} and {depths}")
        if not all(4 <= width <= MAX_WIDTH for width in widths) or not all(1 <= d <= MAX_DEPTH for d in depths):
            raise FacegenError(f"the age estimator cannot have widths {widths} and depths {depths}")
        if arch == "lite" and len(widths) > len(STAGES):
            raise FacegenError(f"an age estimator of arch lite has at most {len(STAGES)} stages, got {len(widths)}")
        if not 2 ** len(widths) <= input_size <= MAX_INPUT_SIZE:
            raise FacegenError(
                f"{len(widths)} stages need an input size from {2 ** len(widths)} to {MAX_INPUT_SIZE}, got {input_size}"
            )
        sides = sides_of(arch, input_size, len(widths))
        if any(width * side**2 > MAX_FEATURES for width, side in zip(widths, sides, strict=True)):
            raise FacegenError(f"widths {widths} are too many for pictures of {input_size} pixels")
        if not 0 <= dropout < 1:
            raise FacegenError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.init_kwargs = {
            "arch": arch,
            "widths": widths,
            "depths": depths,
            "input_size": input_size,
            "dropout": dropout,
            "both_sides": bool(both_sides),
        }
        self.arch, self.input_size, self.dropout, self.both_sides = arch, input_size, dropout, bool(both_sides)
        self.stem, self.stages, self.tail = ARCHITECTURES[arch](widths, depths)
        self.head = nn.Linear(widths[-1], AGES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `[N, 101]` of pictures `[N, 3, H, W]` in -1..1, of any size."""
        return self._logits(self.features(images)[-1])

    def predict(self, images: torch.Tensor, maps: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """Return the expected age in years, float `[N]`, of pictures `[N, 3, H, W]` in -1..1; has a gradient.

        `maps` are the pictures' `features`, where the caller has them already.
        """
        years = expected_age(self(images) if maps is None else self._logits(maps[-1]))
        return (years + expected_age(self(images.flip(3)))) / 2 if self.both_sides else years

    def _logits(self, coarsest: torch.Tensor) -> torch.Tensor:
        """Logits `[N, 101]` of the last of the `features`."""
        pooled = self.tail(coarsest).mean(dim=(2, 3))
        return self.head(functional.dropout(pooled, self.dropout, self.training))

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return what each stage makes of pictures `[N, 3, H, W]` in -1..1, from fine to coarse.

        Stage i has shape `[N, widths[i], side, side]`, where side is that of `sides_of`.
        """
        size = (self.input_size, self.input_size)
        if images.shape[-2:] != size:
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def sides_of(arch: str, input_size: int, count: int) -> list[int]:
    """Return the sides of what the first `count` stages make of pictures of `input_size` pixels."""
    halvings = [stride == 2 for _, _, stride in STAGES] if arch == "lite" else [False] + [True] * (count - 1)
    return [-(-input_size // 2 ** (1 + sum(halvings[: i + 1]))) for i in range(count)]


def expected_age(logits: torch.Tensor) -> torch.Tensor:
    """Return the mean of the distribution over ages that logits `[N, 101]` stand for: float32 `[N]`, in years."""
    return logits.float().softmax(dim=1) @ torch.arange(AGES, dtype=torch.float32, device=logits.device)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after normalization and ReLU, beside a shortcut; `halve` does so by strides."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        stride = 2 if halve else 1
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        # Averaging before the 1x1 convolution: with a stride it would not see three pixels of four.
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if halve else nn.Identity()
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(functional.relu(self.norm1(x)))
        y = self.conv2(functional.relu(self.norm2(y)))
        return self.shortcut(self.pool(x)) + y


class PlainBlock(nn.Module):
    """Two 3x3 convolutions, normalized, with SiLU, then channel attention; `halve` takes maxima of 2x2 before."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if halve else nn.Identity()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.squeeze = nn.Linear(outputs, outputs // 4)
        self.excite = nn.Linear(outputs // 4, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.norm1(self.conv1(self.pool(x))))
        x = functional.silu(self.norm2(self.conv2(x)))
        weight = self.excite(functional.silu(self.squeeze(x.mean(dim=(2, 3))))).sigmoid()
        return x * weight[:, :, None, None]


def _resnet(widths: list[int], depths: list[int]) -> tuple[nn.Module, nn.ModuleList, nn.Module]:
    """Stem, stages and what comes between the last stage and the pooling."""
    stem = nn.Conv2d(3, widths[0], 3, 2, 1, bias=False)
    return stem, _stages(ResidualBlock, widths, depths), nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU())


def _plain(widths: list[int], depths: list[int]) -> tuple[nn.Module, nn.ModuleList, nn.Module]:
    """Return stem, stages and tail, as `_resnet`."""
    stem = nn.Sequential(nn.Conv2d(3, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.SiLU())
    return stem, _stages(PlainBlock, widths, depths), nn.Identity()


def _lite(widths: list[int], depths: list[int]) -> tuple[nn.Module, nn.ModuleList, nn.Module]:
    """Return stem, stages and tail, as `_resnet`."""
    return Stem(), lite_stages(widths, depths), nn.Identity()


def _stages(block: type[ResidualBlock] | type[PlainBlock], widths: list[int], depths: list[int]) -> nn.ModuleList:
    """Stages of blocks; each but the first halves the side with its first block."""
    stages, inputs = nn.ModuleList(), widths[0]
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        first = block(inputs, width, halve=index > 0)
        stages.append(nn.Sequential(first, *(block(width, width, halve=False) for _ in range(depth - 1))))
        inputs = width
    return stages


ARCHITECTURES = {"resnet": _resnet, "plain": _plain, "lite": _lite}
