from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facegen.errors import FacegenError
from facegen.networks.age_estimator import AGES, ARCHITECTURES, AgeEstimator, expected_age, sides_of
from facegen.weights.load import load_age_estimator, load_encoder
from facegen.weights.native import save_networks

SMALL = {"widths": [8, 12, 16], "depths": [1, 2, 1], "input_size": 32}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("size", [16, 32, 48])
def test_shapes_at_any_input_size(arch: str, size: int):
    network = AgeEstimator(arch, **SMALL).eval()
    images = torch.rand(2, 3, size, size) * 2 - 1
    assert network(images).shape == (2, AGES)
    assert network.predict(images).shape == (2,)
    assert [tuple(m.shape) for m in network.features(images)] == [(2, 8, 16, 16), (2, 12, 8, 8), (2, 16, 4, 4)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_size_of_the_picture_matters_little(arch: str):
    torch.manual_seed(0)
    network = AgeEstimator(arch, **SMALL).eval()
    small = torch.nn.functional.interpolate(torch.rand(4, 3, 8, 8) * 2 - 1, 32, mode="bicubic").clamp(-1, 1)
    large = torch.nn.functional.interpolate(small, 64, mode="bilinear")
    # Enlarging and reducing blurs a little; an untrained network moves by a fraction of a year.
    torch.testing.assert_close(network.predict(large), network.predict(small), atol=1.0, rtol=0)


def test_stages_of_lite_halve_as_those_of_the_classifier():
    network = AgeEstimator("lite", (4, 8, 8, 8, 8, 8, 8), (1,) * 7, input_size=128).eval()
    sides = [m.shape[-1] for m in network.features(torch.zeros(1, 3, 128, 128))]
    assert sides == sides_of("lite", 128, 7) == [64, 32, 16, 8, 8, 4, 4]


def test_expected_age_is_the_mean_of_the_distribution():
    logits = torch.full([3, AGES], -1000.0)
    logits[0, 30] = 0
    logits[1, [20, 40]] = 0
    logits[2] = 0
    torch.testing.assert_close(expected_age(logits), torch.tensor([30.0, 30.0, 50.0]))


def test_expected_age_of_half_precision_is_computed_in_float32():
    logits = torch.zeros(1, AGES, dtype=torch.bfloat16)
    logits[0, 97] = 20
    assert expected_age(logits).dtype == torch.float32
    assert float(expected_age(logits)) == pytest.approx(97, abs=1e-3)


def test_gradient_of_the_expectation():
    logits = torch.randn(2, AGES, dtype=torch.float64, requires_grad=True)
    expected_age(logits).sum().backward()
    share = logits.detach().softmax(dim=1)
    years = torch.arange(AGES, dtype=torch.float64)
    # d E / d logit_k = p_k (k - E)
    mean = (share @ years)[:, None]
    torch.testing.assert_close(logits.grad, share * (years - mean), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_gradient_reaches_every_part_of_the_picture(arch: str):
    network = AgeEstimator(arch, **SMALL).eval()
    images = (torch.rand(1, 3, 64, 64) * 2 - 1).requires_grad_()
    network.predict(images).sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad.abs().amax(dim=1) > 0).float().mean() > 0.95


def test_a_face_seen_from_both_sides_is_as_old_as_its_mirror_image():
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    one = AgeEstimator(**SMALL, both_sides=True).eval()
    torch.testing.assert_close(one.predict(images), one.predict(images.flip(3)))
    other = AgeEstimator(**SMALL).eval()
    assert not torch.equal(other.predict(images), other.predict(images.flip(3)))


@pytest.mark.parametrize("both_sides", [False, True])
def test_features_that_are_known_give_the_same_age(both_sides: bool):
    estimator = AgeEstimator(**SMALL, both_sides=both_sides).eval()
    pictures = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(estimator.predict(pictures, estimator.features(pictures)), estimator.predict(pictures))


def test_dropout_only_in_training():
    network = AgeEstimator(**SMALL, dropout=0.5)
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_saved_and_loaded_in_half_precision(arch: str, tmp_path: Path):
    network = AgeEstimator(arch, **SMALL).eval()
    path = tmp_path / "age.safetensors"
    save_networks(path, {"age": network}, {"val_mae": 5.0}, dtype=torch.float16)
    loaded, header = load_age_estimator(path)
    assert loaded.init_kwargs == network.init_kwargs
    assert header["val_mae"] == 5.0
    assert not any(p.requires_grad for p in loaded.parameters())
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    # float16 has three digits: hundredths of a year.
    torch.testing.assert_close(loaded.predict(images), network.predict(images), atol=0.1, rtol=0)


def test_a_file_without_an_age_estimator_says_what_it_holds(tmp_path: Path):
    path = tmp_path / "age.safetensors"
    save_networks(path, {"age": AgeEstimator(**SMALL)}, {})
    with pytest.raises(FacegenError, match="holds age, but no encoder"):
        load_encoder(path)
    save_networks(path, {"other": AgeEstimator(**SMALL)}, {})
    with pytest.raises(FacegenError, match="holds other, but no age estimator"):
        load_age_estimator(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"arch": "vgg"}, "one of resnet, plain"),
        ({"widths": [8, 12]}, "a width and a depth for each stage"),
        ({"widths": [], "depths": []}, "for each stage"),
        ({"widths": [8, 12, 10**9]}, "cannot have widths"),
        ({"depths": [1, 0, 1]}, "cannot have widths"),
        ({"depths": [1, 10**9, 1]}, "cannot have widths"),
        ({"arch": "lite", "widths": [8] * 8, "depths": [1] * 8}, "at most 7 stages"),
        ({"input_size": 4}, "from 8 to"),
        ({"input_size": 2**20}, "from 8 to"),
        ({"input_size": 1024, "widths": [2048, 4, 4]}, "too many"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_networks(change: dict, reason: str):
    with pytest.raises(FacegenError, match=reason):
        AgeEstimator(**{**SMALL, **change})
