"""The editor: changes the age of a face in a photo, without a generator.

A U-Net that gets a photo and two ages and returns a change and a mask, as FRAN does (Zoss et al. 2022,
"Production-Ready Face Re-Aging for Visual Effects"). It works at two scales. The inner part always sees the face at the
same small size, so that an eye is as large as in training; it decides what aging changes. The outer part draws the
change at the picture's own size. It was trained at 128 pixels: `facegen.aging.editing` shows it faces of that size and
enlarges its answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from facegen.errors import FacegenError

CENTURY = 100.0  # years that make 1
MAX_WIDTH, MAX_LEVELS = 512, 6
MAX_INNER_SIZE = 256
COLORED = 0.08  # of -1..1, how much the color can change (Cb and Cr of JPEG): skin does not, but it fools estimators
GROUP = 8  # channels that are normalized together


class Editor(nn.Module):
    """Faces `[N, 3, H, W]` in -1..1 and two ages to the same faces at the other age.

    Args:
        widths: channels of the inner part, from fine to coarse; each level but the first halves the side.
        outer: channels of the outer part.
        inner_size: side of the face, in pixels, that the inner part sees.
        ages: the youngest and the oldest age that it was trained on, in years.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 112, 160),
        outer: int = 16,
        inner_size: int = 64,
        ages: Sequence[float] = (0, 100),
    ) -> None:
        super().__init__()
        widths, ages = [int(width) for width in widths], [float(age) for age in ages]
        fitting = [width % GROUP == 0 and GROUP <= width <= MAX_WIDTH for width in [*widths, outer]]
        if not 1 <= len(widths) <= MAX_LEVELS or not all(fitting):
            raise FacegenError(f"the editor has 1 to {MAX_LEVELS} widths, multiples of {GROUP}: not {widths}, {outer}")
        if inner_size % 2 ** (len(widths) - 1) or not 8 <= inner_size <= MAX_INNER_SIZE:
            raise FacegenError(f"the editor cannot halve pictures of {inner_size} pixels {len(widths) - 1} times")
        if len(ages) != 2 or not 0 <= ages[0] < ages[1] <= 1000:
            raise FacegenError(f"the editor's ages are the youngest and the oldest, got {ages}")
        self.init_kwargs = {"widths": widths, "outer": outer, "inner_size": inner_size, "ages": ages}
        self.inner_size, self.ages = inner_size, ages
        self.know = AgeCode(2 * widths[0])
        self.first = nn.Conv2d(7, widths[0], 3, padding=1)
        before = [widths[0], *widths[:-1]]
        self.down = nn.ModuleList(Block(i, o, 2 * widths[0]) for i, o in zip(before, widths, strict=True))
        self.bottom = Block(widths[-1], widths[-1], 2 * widths[0])
        self.up = nn.ModuleList(Block(o, i, 2 * widths[0]) for i, o in zip(before, widths, strict=True))
        self.norm = nn.GroupNorm(widths[0] // GROUP, widths[0])
        self.hand_over = nn.Conv2d(widths[0], outer, 1)
        self.lines = nn.Conv2d(5, outer, 3, padding=1)
        self.join = nn.Conv2d(outer, outer, 3, padding=1)
        self.refine = nn.Conv2d(outer, outer, 3, padding=1)
        self.last = nn.Conv2d(outer, 4, 3, padding=1)
        zero(self.last)  # an untrained editor changes nothing

    def forward(self, images: torch.Tensor, ages: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the faces at their target ages, `[N, 3, H, W]`, about -1..1.

        Args:
            images: faces, aligned as in training, of any size.
            ages: how old they are, `[N]`, in years.
            targets: how old they shall look, `[N]`.
        """
        change, mask = self.change(images, ages, targets)
        return images + mask * change

    def change(
        self, images: torch.Tensor, ages: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what to add, `[N, 3, H, W]`, and how much of it, 0..1 `[N, 1, H, W]`; arguments as for `forward`."""
        plan = functional.interpolate(
            self.plan(images, ages, targets), images.shape[2:], mode="bilinear", align_corners=False
        )
        return self.draw(images, ages, targets, plan)

    def plan(self, images: torch.Tensor, ages: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return what aging changes, as features of whole faces: `[N, outer, inner_size, inner_size]`."""
        small, size = images, (self.inner_size, self.inner_size)
        if images.shape[2:] != size:
            small = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        code = self.know(ages, targets)
        x = self.first(torch.cat([with_ages(small, ages, targets), places(small)], dim=1))
        kept = []
        for level, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if level else x, code)
            kept.append(x)
        x = self.bottom(x, code)
        for level in reversed(range(len(self.up))):
            x = self.up[level](x + kept[level], code)
            if level:
                x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.hand_over(functional.silu(self.norm(x)))

    def draw(
        self, images: torch.Tensor, ages: torch.Tensor, targets: torch.Tensor, plan: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return change and mask as `change` does, of a plan that was resized to the pictures."""
        x = functional.silu(self.lines(with_ages(images, ages, targets)) + plan)
        x = functional.silu(self.join(x))
        x = self.last(x + functional.silu(self.refine(x)))
        lighter, blue, red = x[:, :1], COLORED * x[:, 1:2].tanh(), COLORED * x[:, 2:3].tanh()
        change = torch.cat([lighter + 1.402 * red, lighter - 0.344 * blue - 0.714 * red, lighter + 1.772 * blue], dim=1)
        return change, (x[:, 3:] + 2).sigmoid()  # an untrained mask is nearly 1, so that the change learns at once


class AgeCode(nn.Module):
    """Two ages as the blocks take them: `[N]` and `[N]` in years to `[N, size]`."""

    def __init__(self, size: int, waves: int = 4) -> None:
        super().__init__()
        self.waves = waves
        self.hidden = nn.Linear(3 * (2 * waves + 1), size)
        self.output = nn.Linear(size, size)

    def forward(self, ages: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = torch.stack([ages, targets, targets - ages], dim=1) / CENTURY  # [N, 3]
        turns = math.pi * 2.0 ** torch.arange(self.waves, dtype=known.dtype, device=known.device)
        angles = known[:, :, None] * turns
        code = torch.cat([known[:, :, None], angles.sin(), angles.cos()], dim=2).flatten(1)
        return functional.silu(self.output(functional.silu(self.hidden(code))))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, normalized in groups; the ages scale and shift what is between them."""

    def __init__(self, inputs: int, outputs: int, code: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(inputs // GROUP, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(outputs // GROUP, outputs)
        self.style = nn.Linear(code, 2 * outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        zero(self.style)

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        y = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.style(code)[:, :, None, None].chunk(2, dim=1)
        y = self.conv2(functional.silu(self.norm2(y) * (1 + scale) + shift))
        return self.shortcut(x) + y


def places(pictures: torch.Tensor) -> torch.Tensor:
    """Return where each pixel of `[N, C, H, W]` lies: `[N, 2, H, W]`, -1..1 from side to side.

    In aligned faces the eyes are at one place, which convolutions alone take long to find (Liu et al. 2018, CoordConv).
    """
    count, _, height, width = pictures.shape
    rows = (2 * torch.arange(height, dtype=pictures.dtype, device=pictures.device) + 1 - height) / height
    columns = (2 * torch.arange(width, dtype=pictures.dtype, device=pictures.device) + 1 - width) / width
    return torch.stack([columns.expand(count, height, -1), rows[:, None].expand(count, -1, width)], dim=1)


def zero(layer: nn.Conv2d | nn.Linear) -> None:
    """Let a layer answer with 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def with_ages(images: torch.Tensor, ages: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return pictures `[N, 3, H, W]` with the two ages as planes: `[N, 5, H, W]`."""
    years = torch.stack([ages, targets], dim=1)[:, :, None, None].to(images.dtype) / CENTURY * 2 - 1
    return torch.cat([images, years.expand(-1, -1, *images.shape[2:])], dim=1)
