from __future__ import annotations

import numpy as np

from facegen.aging.guide import Guide


def test_a_change_that_is_redrawn_keeps_the_photos_lines_and_loses_its_own():
    across = np.linspace(0, 12 * np.pi, 64, dtype=np.float32)
    lines = np.broadcast_to((100 + 50 * np.sin(across))[None, :, None], (64, 64, 1))
    guide = Guide(lines, 2.0)
    deeper = 0.3 * (lines - 100) + 5
    assert np.abs(guide.redraw(deeper) - deeper)[8:-8, 8:-8].max() < 0.2 * np.ptp(deeper)
    speckles = np.random.default_rng(0).normal(0, 15, (64, 64, 1)).astype(np.float32)
    assert guide.redraw(speckles).std() < 0.5 * speckles.std()


def test_gain_and_shift_are_found_around_each_pixel():
    random = np.random.default_rng(0)
    picture = random.uniform(0, 255, (64, 64, 3)).astype(np.float32)
    left = np.arange(64)[None, :, None] < 32
    gain, shift = Guide(picture, 2.0).fit(np.where(left, 0.5 * picture + 20, -0.25 * picture))
    for columns, wanted in ((np.s_[:, :24], (0.5, 20)), (np.s_[:, 40:], (-0.25, 0))):
        assert np.abs(gain[columns] - wanted[0]).max() < 0.01  # LINE takes a little of it
        assert np.abs(shift[columns] - wanted[1]).max() < 2


def test_a_picture_that_does_not_follow_is_all_shift():
    flat = np.full((32, 32, 1), 90.0, np.float32)
    gain, shift = Guide(flat, 2.0).fit(np.full_like(flat, 7.0))
    assert np.abs(gain).max() < 1e-5
    np.testing.assert_allclose(shift, 7, atol=1e-3)
