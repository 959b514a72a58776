from __future__ import annotations

import pytest
import torch
from helpers import small_generator

from facegen.errors import FacegenError
from facegen.networks.generator import Generator
from facegen.training.encoder.pairs import Pairs, generate_pairs, one_hot


@pytest.fixture(scope="module")
def generator() -> Generator:
    return small_generator(10)


def same(one: Pairs, other: Pairs) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("images", "z", "classes"))


def test_pairs_are_pictures_and_normalized_latents(generator: Generator):
    pairs = generate_pairs(generator, 50, progress=False)
    assert len(pairs) == 50
    assert pairs.images.shape == (50, 3, 16, 16)
    assert pairs.images.dtype == torch.uint8
    assert pairs.images.float().std() > 5
    torch.testing.assert_close(pairs.z.square().mean(dim=1), torch.ones(50))


def test_pairs_belong_together(generator: Generator):
    pairs = generate_pairs(generator, 4, progress=False)
    # The length of z leaves no trace in the picture, so the normalized z must make the same one. The noise differs
    # (its strength is 0 in an untrained generator), rounding costs up to one level.
    again = generator(pairs.z, one_hot(pairs.classes, 10), noise_mode="none").detach()
    assert ((again * 127.5 + 128).clamp(0, 255) - pairs.images.float()).abs().max() < 1.1


def test_the_seed_decides(generator: Generator):
    first = generate_pairs(generator, 40, seed=3, progress=False)
    torch.manual_seed(99)
    assert same(first, generate_pairs(generator, 40, seed=3, progress=False))
    assert not same(first, generate_pairs(generator, 40, seed=4, progress=False))


def test_torchs_own_random_state_is_left_alone(generator: Generator):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    generate_pairs(generator, 4, progress=False)
    torch.testing.assert_close(torch.rand(3), expected)


def test_every_class_comes_equally_often(generator: Generator):
    classes = generate_pairs(generator, 100, progress=False).classes
    assert torch.bincount(classes).tolist() == [10] * 10
    assert classes.tolist() != sorted(classes.tolist())


def test_unconditional_and_grayscale_generators():
    pairs = generate_pairs(small_generator(0, channels=1), 6, progress=False)
    assert pairs.images.shape == (6, 3, 16, 16)
    assert torch.equal(pairs.images[:, 0], pairs.images[:, 2])
    assert one_hot(pairs.classes, 0).shape == (6, 0)


def test_large_faces_are_reduced(generator: Generator):
    small = generate_pairs(generator, 4, max_size=8, progress=False).images
    large = generate_pairs(generator, 4, max_size=64, progress=False).images
    assert small.shape[-1] == 8
    assert large.shape[-1] == 16
    averaged = torch.nn.functional.avg_pool2d(large.float(), 2)
    # The antialiased resize is wider than a plain average, but of the same picture.
    assert (small.float() - averaged).abs().mean() < 12


def test_split_loses_nothing(generator: Generator):
    pairs = generate_pairs(generator, 10, progress=False)
    training, validation = pairs.split(0.8)
    assert (len(training), len(validation)) == (8, 2)
    assert torch.equal(torch.cat([training.z, validation.z]), pairs.z)
    smallest = generate_pairs(generator, 2, progress=False).split(0.8)
    assert [len(part) for part in smallest] == [1, 1]


def test_too_few_pairs(generator: Generator):
    with pytest.raises(FacegenError, match="at least 2 pairs"):
        generate_pairs(generator, 1, progress=False)
