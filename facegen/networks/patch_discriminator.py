"""The discriminator of an editor's training: whether each patch of a face is real, and of that age."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from facegen.networks.editor import AgeCode


class PatchDiscriminator(nn.Module):
    """Faces `[N, 3, H, W]` in -1..1 and their ages `[N]` to a logit for each patch, at several scales.

    Isola et al. 2017, section 3.2.2, judge patches; here each level but the first answers for patches of its own size,
    so that scratches are seen as well as a wrong shape. The age comes in by projection (Miyato and Koyama 2018).

    Args:
        widths: channels of the levels; the first is of the picture's own size, each other halves the side.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128, 160)) -> None:
        super().__init__()
        widths = [int(width) for width in widths]
        self.know = AgeCode(64)
        self.first = nn.Conv2d(3, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in pairwise(widths))
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths[2:])
        self.places = nn.ModuleList(nn.Linear(64, width) for width in widths[2:])

    def forward(self, images: torch.Tensor, ages: torch.Tensor) -> list[torch.Tensor]:
        """Return logits `[N, h, w]` of each level from the third on, fine to coarse: high for real."""
        code = self.know(ages, ages)
        x = functional.leaky_relu(self.first(images), 0.2)
        logits = []
        for index, level in enumerate(self.levels):
            x = functional.leaky_relu(level(x), 0.2)
            if index:
                head, place = self.heads[index - 1], self.places[index - 1]
                like_age = (x * place(code)[:, :, None, None]).sum(dim=1) / x.shape[1] ** 0.5
                logits.append(head(x)[:, 0] + like_age)
        return logits
