from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from facegen.evaluation.bootstrap import draw_counts
from facegen.evaluation.realism import realism_scores, scale_unit_features, sharpness
from facegen.evaluation.reconstruction import reconstruction_scores
from facegen.faces.template import UTKFACE_TEMPLATE


def test_the_same_picture_is_perfect():
    images = torch.randint(0, 256, [5, 3, 16, 16], dtype=torch.uint8)
    scores = reconstruction_scores(images, images, draw_counts(5), lpips=lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    assert (scores.mse.value, scores.lpips.value) == (0, 0)
    assert scores.psnr.value == pytest.approx(100)  # what an error of nothing is counted as
    assert scores.ssim.value == pytest.approx(1)


def test_a_known_difference():
    images = torch.full([40, 3, 16, 16], 100, dtype=torch.uint8)  # more than one batch
    scores = reconstruction_scores(images, images + 51, draw_counts(40))
    assert scores.mse.value == pytest.approx(0.04)  # a fifth, squared
    assert scores.psnr.value == pytest.approx(-10 * np.log10(0.04))
    # Without structure only the luminance of SSIM's formula is left, with its constant of 0.01 squared.
    one, other = 100 / 255, 151 / 255
    assert scores.ssim.value == pytest.approx((2 * one * other + 1e-4) / (one**2 + other**2 + 1e-4), abs=1e-4)
    assert scores.lpips is None


def test_without_torchmetrics_there_is_no_ssim(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    images = torch.zeros([2, 3, 16, 16], dtype=torch.uint8)
    assert reconstruction_scores(images, images, draw_counts(2)).ssim is None


def test_results_like_real_faces_are_as_close_as_real_faces():
    real = [torch.randn(400, 4), torch.randn(400, 4) + 2]
    results = [torch.randn(200, 4), torch.randn(200, 4) + 2]
    over_all, per_target = realism_scores(results, real)
    # Of 200 against 200 normal numbers in 4 dimensions the distance is biased to some hundredths.
    assert over_all.frechet == pytest.approx(over_all.real_frechet, abs=0.1)
    assert over_all.count == 400
    assert [found.count for found in per_target] == [200, 200]
    assert abs(per_target[0].kernel) < 0.1
    shifted, _ = realism_scores([features + 1 for features in results], real)
    assert shifted.frechet == pytest.approx(4, abs=0.6)  # a shift by one in each of four dimensions
    assert shifted.real_frechet == over_all.real_frechet


def test_features_of_length_one_are_scaled_to_numbers_about_one():
    features = torch.nn.functional.normalize(torch.randn(5, 2, 64), dim=-1)
    scaled = scale_unit_features(features)
    torch.testing.assert_close(scaled.square().mean(dim=-1), torch.ones(5, 2))
    torch.testing.assert_close(torch.nn.functional.normalize(scaled, dim=-1), features)


def test_sharpness_is_fine_detail_on_the_face():
    noise = torch.randint(0, 256, [2, 3, 128, 128], dtype=torch.uint8)
    soft = torch.nn.functional.avg_pool2d(noise.float(), 2).repeat_interleave(2, 2).repeat_interleave(2, 3).byte()
    flat = torch.full_like(noise, 90)
    found = sharpness(torch.cat([noise, soft, flat]), UTKFACE_TEMPLATE)
    assert found.shape == (6,)
    assert (found[:2] > 2 * found[2:4]).all()
    assert found[4:] == pytest.approx(0, abs=1e-3)
    # What is outside of the face does not count.
    corner = noise.clone()
    corner[:, :, :10] = 0
    np.testing.assert_allclose(sharpness(corner, UTKFACE_TEMPLATE), found[:2], rtol=0.02)


def test_too_few_real_faces_give_no_number():
    over_all, per_target = realism_scores(
        [torch.randn(9, 3), torch.randn(9, 3)], [torch.randn(7, 3), torch.empty(0, 3)]
    )
    assert [found.count for found in per_target] == [3, 0]
    assert np.isnan([found.frechet for found in per_target]).all()
    assert np.isnan(over_all.kernel)
