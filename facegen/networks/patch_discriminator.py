"""The discriminator of an editor's training: whether each patch of a face is real, and of that age."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from facegen.networks.editor import AgeCode

SLOPE = 0.2  # of leaky ReLUs
CODE = 64


class PatchDiscriminator(nn.Module):
    """Faces `[N, 3, H, W]` in -1..1 and their ages `[N]` to a logit for each patch, at several scales.

    Isola et al. 2017, section 3.2.2, judge patches; here levels of a few convolutions, from pixels up, answer for
    patches of their own sizes, so that scratches are seen as well as a wrong shape. More heads look at the feature maps
    of a network that knows pictures already, which makes for a useful judge within minutes (Sauer et al. 2021,
    "Projected GANs Converge Faster"). The age comes in by projection (Miyato and Koyama 2018).

    Args:
        widths: channels of the levels; the first is of the picture's own size, each other halves the side.
        maps: channels of the feature maps.
    """

    def __init__(
        self, widths: Sequence[int] = (16, 32, 64, 128), maps: Sequence[int] = (16, 24, 40, 80), hidden: int = 64
    ) -> None:
        super().__init__()
        widths, maps = [int(width) for width in widths], [int(count) for count in maps]
        self.know = AgeCode(CODE)
        self.first = nn.Conv2d(3, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in pairwise(widths))
        self.heads = nn.ModuleList(Head(width) for width in widths[2:])
        self.looks = nn.ModuleList(nn.Conv2d(count, hidden, 3, padding=1) for count in maps)
        self.looks_on = nn.ModuleList(nn.Conv2d(hidden, hidden, 3, padding=1) for _ in maps)
        self.map_heads = nn.ModuleList(Head(hidden) for _ in maps)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):  # as strong at every depth: He et al. 2015
                nn.init.kaiming_normal_(module.weight, a=SLOPE)

    def forward(self, images: torch.Tensor, ages: torch.Tensor, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return logits `[N, h, w]`, high for real, of each level from the third on and of each feature map.

        Args:
            images: faces.
            ages: how old they are said to be, in years.
            maps: feature maps of the faces, `[N, C, h, w]` each.
        """
        code = self.know(ages, ages)
        x = leaky(self.first(images))
        logits = []
        for index, level in enumerate(self.levels):
            x = leaky(level(x))
            if index:
                logits.append(self.heads[index - 1](x, code))
        for seen, look, look_on, head in zip(maps, self.looks, self.looks_on, self.map_heads, strict=True):
            x = leaky(look(functional.layer_norm(seen, seen.shape[1:])))
            logits.append(head(leaky(look_on(x)), code))
        return logits


class Head(nn.Module):
    """Features `[N, width, h, w]` and the code of an age `[N, CODE]` to logits `[N, h, w]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.real = nn.Conv2d(width, 1, 1)
        self.place = nn.Linear(CODE, width)

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        like_age = (x * self.place(code)[:, :, None, None]).sum(dim=1) / x.shape[1] ** 0.5
        return self.real(x)[:, 0] + like_age


def leaky(x: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(x, SLOPE)
