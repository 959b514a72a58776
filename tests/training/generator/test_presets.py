"""Presets: the numbers that the papers give."""

from __future__ import annotations

import pytest

from facegen.errors import FacegenError
from facegen.training.generator.options import PRESETS, get_preset


@pytest.mark.parametrize(
    ("resolution", "batch", "expected"),
    [
        # the paper's heuristics: gamma = 0.0002 * resolution^2 / batch, half-life of the average = batch * 10 / 32
        (256, None, {"batch": 16, "gamma": 0.8192, "ema_kimg": 5, "channel_base": 16384, "lr": 0.0025}),
        (1024, None, {"batch": 4, "gamma": 52.4288, "ema_kimg": 1.25, "channel_base": 32768, "lr": 0.002}),
        (64, None, {"batch": 32, "gamma": 0.0256, "mbstd_group": 4}),
        (256, 2, {"batch": 2, "mbstd_group": 2, "gamma": 6.5536}),
    ],
)
def test_auto_follows_the_resolution(resolution, batch, expected):
    preset = get_preset("auto", resolution, batch)
    for name, value in expected.items():
        assert preset[name] == pytest.approx(value), name


def test_batch_overrides_a_fixed_preset():
    assert get_preset("paper256", 256)["batch"] == 64
    assert get_preset("paper256", 256, batch=8)["batch"] == 8


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_divides_its_batch_into_groups(name):
    preset = get_preset(name, 64)
    assert preset["batch"] % min(preset["mbstd_group"], preset["batch"]) == 0


def test_cifar_has_neither_path_lengths_nor_mixing():
    preset = get_preset("cifar", 32)
    assert (preset["pl_weight"], preset["style_mixing"], preset["d_architecture"]) == (0, 0, "orig")


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(FacegenError, match="unknown configuration 'papers': choose one of auto, stylegan2"):
        get_preset("papers", 64)
