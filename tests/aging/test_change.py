"""What aging changes in a face, as far as it is good."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from facegen.aging.change import COLORED, LIGHTER, LIGHTNESS, UNDERSTOOD, FaceChange
from facegen.faces.template import UTKFACE_TEMPLATE


def noisy(level: float, seed: int = 0) -> Image.Image:
    """A face's crop of about one level; with noise, so that colors have a spread."""
    noise = np.random.default_rng(seed).normal(0, 12, (64, 64, 3))
    return Image.fromarray((level + noise).clip(0, 255).astype(np.uint8))


def test_nothing_changes_nothing():
    face = noisy(120)
    assert not FaceChange(face, face).to(face, 3.0).any()


def test_a_change_is_as_strong_as_asked_and_never_beyond_its_limits():
    face = noisy(120)
    change = FaceChange(face, face)
    redder = Image.fromarray(np.asarray(face) + np.array([4, 0, 0], np.uint8))
    cheek = (40, 20)
    small = [change.to(redder, strength)[cheek][0] for strength in (0.0, 1.0, 2.0)]
    assert small[0] == 0
    assert 2.5 < small[1] <= 4
    assert small[2] == pytest.approx(2 * small[1], rel=0.1)
    for aged in (noisy(250, 1), noisy(5, 2), Image.new("RGB", (64, 64), "magenta")):
        added = change.to(aged, 3.0)
        lighter = added @ LIGHTNESS
        assert np.abs(lighter).max() <= LIGHTER + 0.01
        beside = np.linalg.norm(added - lighter, axis=-1).max()  # of the gray that a lighter pixel gains
        assert beside <= COLORED + 0.1 * LIGHTER


def test_eyes_and_mouth_change_less():
    face = noisy(120)
    added = np.abs(FaceChange(face, face).to(noisy(140))).mean(axis=2)
    (left, right, nose, *corners) = (np.array(UTKFACE_TEMPLATE.points) * 64).astype(int)
    mouth = np.mean(corners, axis=0).astype(int)
    cheek = added[nose[1] : nose[1] + 4, left[0] - 4 : left[0]].mean()
    for x, y in (left, right, mouth):
        assert added[y - 1 : y + 2, x - 1 : x + 2].mean() < 0.75 * cheek


def test_where_the_reconstruction_is_far_off_less_changes():
    face, copy = noisy(120), noisy(120)
    hat = np.asarray(copy).copy()
    hat[:20] = 10
    hidden = FaceChange(Image.fromarray(hat), copy)
    plain = FaceChange(face, copy)
    aged = noisy(150)
    assert np.abs(hidden.to(aged)[8:14]).mean() < 0.25 * np.abs(plain.to(aged)[8:14]).mean()
    assert np.abs(hidden.to(aged)[38:44]).mean() > 0.5 * np.abs(plain.to(aged)[38:44]).mean()
    assert plain.understood > 0.95
    assert FaceChange(noisy(200), noisy(60)).understood < UNDERSTOOD


def test_own_detail_fades_toward_a_younger_age_from_skin_alone():
    flat = Image.fromarray(np.full((64, 64, 3), 150, np.uint8))
    lined = np.full((64, 64, 3), 150, np.uint8)
    lined[::6] = (135, 115, 110)  # wrinkles, redder than skin, and lines through the eyes
    change = FaceChange(Image.fromarray(lined), flat)
    assert not change.to(flat, 1.0, 0.0).any()
    assert not change.to(flat, 1.0, 30.0).any()
    assert not change.to(flat, 0.0, -60.0).any()
    eye = tuple((np.array(UTKFACE_TEMPLATE.points[0]) * 64).astype(int)[::-1])
    left = []
    for years in (0.0, -20.0, -80.0):
        spread = (lined + change.to(flat, 1.0, years)).std(axis=0)
        left.append(spread[4:12].mean(axis=0))
        assert abs(change.to(flat, 1.0, years)[eye]).max() < 1
    assert (left[0] > 2 * left[1]).all()
    assert (left[1] > 1.5 * left[2]).all()


def test_lighter_and_darker_keep_the_color_of_the_skin():
    skin = np.full((64, 64, 3), (200, 150, 100), np.uint8)
    darker = Image.fromarray((skin * 0.9).astype(np.uint8))
    added = FaceChange(Image.fromarray(skin), Image.fromarray(skin)).to(darker, 3.0)[40, 20]
    assert added[2] > added[1] > added[0]  # the brightest channel loses most
    after = skin[40, 20] + added
    assert after[0] / after[2] == pytest.approx(2.0, rel=0.1)
