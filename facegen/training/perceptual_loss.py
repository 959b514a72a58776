"""How different two pictures look, by what a classifier of photos sees in them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from facegen.weights.load import load_lite_features
from facegen.weights.locate import shipped_file

EPS = 1e-6  # shortest length that is scaled to 1: no slope of a place without features is infinite


class PerceptualLoss(nn.Module):
    """Distance of two pictures' features: LPIPS without learned weights (Zhang et al. 2018, equation 1).

    In each of four maps, the channels at every place are scaled to length 1; their squared distance is averaged over
    the places, and added up over the maps. 0 for equal pictures.
    """

    def __init__(self) -> None:
        super().__init__()
        network, _ = load_lite_features(shipped_file("features"))
        self.network = network.to(memory_format=torch.channels_last)  # takes two thirds of the time on CPUs

    def forward(self, images: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
        """Mean over pictures `[N, 3, H, W]` in -1..1; differentiable in the first."""
        with torch.no_grad():
            wanted = self.features(originals)
        return self.between(self.features(images), wanted).mean()

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """What is compared of pictures `[N, 3, H, W]` in -1..1: four maps, whose channels have length 1 everywhere."""
        return [functional.normalize(part.float(), eps=EPS) for part in self.network(images)]

    def between(self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
        """Distances `[N]` of N pictures to N others, from the `features` of both."""
        total = torch.zeros(len(first[0]), device=first[0].device)
        for one, other in zip(first, second, strict=True):
            total = total + (one - other).square().sum(dim=1).mean(dim=(1, 2))
        return total
