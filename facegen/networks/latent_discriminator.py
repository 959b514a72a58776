"""A discriminator of latents: is this w one that the mapping network makes?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

LAYERS = 4
R1_GAMMA = 10.0  # as Tov et al. 2021


class LatentDiscriminator(nn.Module):
    """Tells w of the mapping network from w of an encoder (Tov et al. 2021, section 4.2; Nitzan et al. 2020).

    Every layer's w is judged by itself.

    Args:
        mean, variance: Mean and variance of the mapping network's w, `[w_dim]`, by which every w is standardized.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("scale", variance.detach().rsqrt())
        width = len(mean)
        layers = [module for _ in range(LAYERS - 1) for module in (nn.Linear(width, width), nn.LeakyReLU(0.2))]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, ws: torch.Tensor) -> torch.Tensor:
        """Judge `[..., w_dim]`; logits `[..., 1]`, high for the mapping network's."""
        return self.layers((ws - self.mean) * self.scale)

    def encoder_loss(self, ws: torch.Tensor) -> torch.Tensor:
        """Return how far an encoder's w are from passing as the mapping network's; this network gets no gradient."""
        frozen = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return F.softplus(-functional_call(self, frozen, (ws,))).mean()

    def own_loss(self, encoded: torch.Tensor, mapped: torch.Tensor) -> torch.Tensor:
        """Return this network's own loss, given an encoder's w and the mapping network's, which get no gradient.

        It is the logistic loss and, where gradients are enabled, R1 in w's standard deviations (Mescheder et al. 2018).
        """
        mapped = mapped.detach().requires_grad_(torch.is_grad_enabled())
        logits = self(mapped)
        loss = F.softplus(self(encoded.detach())).mean() + F.softplus(-logits).mean()
        if mapped.requires_grad:
            (slopes,) = torch.autograd.grad(logits.sum(), mapped, create_graph=True)
            loss = loss + R1_GAMMA / 2 * (slopes / self.scale).square().sum(dim=-1).mean()
        return loss
