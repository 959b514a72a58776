"""Placing: the length of a latent says how far to go from the group's mean. And drawing."""

from __future__ import annotations

import pytest
import torch
from helpers import generator_of_groups

from facegen.networks.generator import Generator
from facegen.networks.latents import draw, group_means, place_latents, sureness


@pytest.fixture(scope="module")
def generator() -> Generator:
    return generator_of_groups()


def test_group_means_differ_by_class_and_repeat_by_seed(generator):
    means = group_means(generator, samples=500)
    assert means.shape == (3, 6)
    assert torch.equal(means, group_means(generator, samples=500))
    other = group_means(generator, samples=500, seed=1)
    between = (means[0] - means[1]).norm()
    # Two estimates of one mean are closer than the means of two classes.
    assert (means - other).norm(dim=1).max() < between / 2


def test_without_classes_there_is_one_mean():
    network = Generator(8, 0, 6, 16, 3, {"num_layers": 2}, {"channel_base": 64}).eval().requires_grad_(False)
    means = group_means(network, samples=50)
    assert means.shape == (1, 6)
    assert place_latents(network, torch.randn(4, 8), torch.zeros(4, 0), means).shape == (4, network.num_ws, 6)


def test_group_means_leave_the_moving_average_alone(generator):
    before = generator.mapping.w_avg.clone()
    group_means(generator.train(), samples=10)
    generator.eval()
    assert torch.equal(generator.mapping.w_avg, before)


def test_sureness():
    z = torch.full([3, 4], 1.0) * torch.tensor([0.0, 0.5, 7.0])[:, None]
    assert sureness(z).tolist() == [0, 0.5, 1]


def test_a_latent_of_full_length_draws_as_the_generator_does(generator):
    z = torch.nn.functional.normalize(torch.randn(2, 8), dim=1) * 8**0.5
    c = torch.eye(3)[[0, 2]]
    drawn = draw(generator, place_latents(generator, z, c, group_means(generator)))
    torch.testing.assert_close(drawn, generator(z, c, noise_mode="const"), rtol=1e-4, atol=1e-4)


def test_a_gray_generator_draws_rgb():
    network = Generator(8, 0, 6, 16, 1, {"num_layers": 2}, {"channel_base": 64}).eval().requires_grad_(False)
    drawn = draw(network, torch.randn(2, network.num_ws, 6))
    assert drawn.shape == (2, 3, 16, 16)
    assert torch.equal(drawn[:, 0], drawn[:, 2])


@pytest.mark.parametrize(("length", "psi"), [(0.0, 1.0), (1.0, 0.0)])
def test_knowing_nothing_gives_the_face_of_the_group(generator, length, psi):
    means, c = group_means(generator), torch.eye(3)
    placed = place_latents(generator, torch.randn(3, 8) * length, c, means, psi)
    torch.testing.assert_close(placed, means[:, None].expand(-1, generator.num_ws, -1))
