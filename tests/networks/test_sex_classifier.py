"""The sex classifier in the package, and what the package's age shift holds by it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from facegen import AgeTransfer
from facegen.weights.load import load_sex_classifier
from facegen.weights.locate import shipped_file


@pytest.fixture(scope="module")
def classifier():
    network, header = load_sex_classifier(shipped_file("sex"))
    assert "CC0" in header.license
    return network


def test_it_answers_as_its_source(classifier):
    """The answers are those of gender-v1.onnx, by onnxruntime, to these pictures less a margin of 2 pixels."""
    noise = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = functional.interpolate(noise, (32, 32), mode="bilinear").clamp(-1, 1)
    expected = torch.tensor([0.11646, 0.00059, 0.02837, 0.00073])
    torch.testing.assert_close(classifier.men(pictures), expected, atol=5e-4, rtol=0.01)  # the weights are in float16


@pytest.mark.parametrize("size", [16, 200])
def test_the_size_of_the_picture_hardly_matters(classifier, size):
    noise = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    large, sized = (functional.interpolate(noise, side, mode="bicubic").clamp(-1, 1) for side in (64, size))
    torch.testing.assert_close(classifier.men(sized), classifier.men(large), atol=0.15, rtol=0)


def test_it_has_a_gradient(classifier):
    faces = torch.zeros(2, 3, 64, 64, requires_grad=True)
    classifier.men(faces).sum().backward()
    assert faces.grad.abs().sum() > 0


def test_the_packages_age_shift_holds_the_sex():
    shift = AgeTransfer.from_files().latent_ages.shift
    assert shift.holds == ["sex"]
    steps = shift.place(torch.tensor([5.0, 80.0])) - shift.place(torch.tensor([40.0]))
    along = steps @ shift.normals[0]
    assert along.abs().max() > 0.1  # what the table has,
    assert (shift.hold(steps, ["sex"]) @ shift.normals[0]).abs().max() < 1e-5  # and what is left of it
    torch.testing.assert_close(shift.hold(steps, ()), steps)
