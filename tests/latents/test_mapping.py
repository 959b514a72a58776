import pytest
import torch
from helpers import generator_of_groups, small_generator

from facegen.errors import FacegenError
from facegen.latents.mapping import Truncation, map_latents
from facegen.networks.latents import group_means


def test_a_one_hot_label_is_the_networks_own_mapping():
    generator = generator_of_groups()
    z, c = torch.randn(5, 8), torch.eye(3)[[0, 2, 1, 2, 0]]
    assert torch.allclose(map_latents(generator, z, c), generator.mapping(z, c), atol=1e-6)


def test_between_two_classes_w_lies_on_the_line_between_theirs():
    generator, z = generator_of_groups(), torch.randn(1, 8)
    first, second = (generator.mapping(z, torch.eye(3)[[index]]) for index in (0, 1))
    between = map_latents(generator, z, torch.tensor([[0.25, 0.75, 0]]))
    assert torch.allclose(between, 0.25 * first + 0.75 * second, atol=1e-6)
    assert not torch.allclose(first, second, atol=1e-2)


def test_without_classes_labels_have_no_columns():
    generator, z = small_generator(0), torch.randn(2, 8)
    assert torch.equal(map_latents(generator, z, torch.zeros([2, 0])), generator.mapping(z, None))


def test_global_truncation_is_the_ancestors():
    generator, z, c = generator_of_groups(), torch.randn(3, 8), torch.eye(3)
    generator.mapping.w_avg.copy_(torch.randn(6))
    ws = map_latents(generator, z, c)
    for cutoff in (None, 0, 4):
        truncated = Truncation(generator, 0.6, cutoff, "global")(ws, c)
        assert torch.allclose(
            truncated, generator.mapping(z, c, truncation_psi=0.6, truncation_cutoff=cutoff), atol=1e-6
        )


def test_class_truncation_goes_toward_the_classs_mean():
    generator, z, c = generator_of_groups(), torch.randn(3, 8), torch.eye(3)
    ws, means = map_latents(generator, z, c), group_means(generator)
    truncation = Truncation(generator, 0.0)
    assert torch.allclose(truncation(ws, c), means[:, None].expand_as(ws), atol=1e-6)
    opposite = truncation(ws, c, torch.tensor([-1.0, 1.0, 0.5]))  # one psi for each
    assert torch.allclose(opposite[0], 2 * means[0] - ws[0], atol=1e-5)
    assert torch.allclose(opposite[1], ws[1], atol=1e-6)


def test_impossible_truncations_are_refused():
    with pytest.raises(FacegenError):
        Truncation(small_generator(0), center="middle")
    with pytest.raises(FacegenError, match="6"):
        Truncation(small_generator(0), cutoff=7)
