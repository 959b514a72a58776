"""How women and men lie in w, found by a classifier that looks at one thing alone."""

from __future__ import annotations

import pytest
import torch
from helpers import small_generator

from facegen.networks.latents import draw
from facegen.training.encoder.sex_direction import sex_direction


class Brightness(torch.nn.Module):
    """Takes the brighter half of the pictures for men's."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        men = images.mean(dim=(1, 2, 3)) - self.limit
        return torch.stack([-men, men], dim=1)


def faces(generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The w `[2, 200, w_dim]` of new faces of two groups, and how bright they are."""
    z = torch.randn(200, generator.z_dim, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        ws = [generator.mapping(z, label.expand(200, -1)) for label in torch.eye(2)]
        bright = torch.stack([draw(generator, w).clamp(-1, 1).mean(dim=(1, 2, 3)) for w in ws])
    return torch.stack([w[:, 0] for w in ws]), bright


def test_the_plane_tells_both_apart_and_the_direction_leads_across():
    generator = small_generator(2).eval()
    ws, bright = faces(generator)
    normal, direction = sex_direction(generator, Brightness(float(bright.median())), seed=0)
    assert normal.norm() == pytest.approx(1, abs=1e-5)
    assert normal @ direction > 0
    centered = ws - ws.mean(dim=1, keepdim=True)
    for of_group, light in zip(centered @ normal, bright, strict=True):
        order = torch.stack([of_group, light])
        assert torch.corrcoef(order)[0, 1] > 0.6
    again = sex_direction(generator, Brightness(float(bright.median())), seed=0)
    torch.testing.assert_close(again[1], direction, rtol=0, atol=0)  # no random draw but the seed's


def test_groups_of_one_sex_have_no_direction():
    with pytest.raises(ValueError, match="both women and men"):
        sex_direction(small_generator(2).eval(), Brightness(-2.0))
