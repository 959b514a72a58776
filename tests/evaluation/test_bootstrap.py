from __future__ import annotations

import numpy as np
import pytest

from facegen.evaluation.bootstrap import draw_counts, estimate_mean, means_of_resamples


def test_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = estimate_mean(values, draw_counts(400))
    assert found.value == pytest.approx(values.mean())
    # 1.96 standard errors on either side; 2000 resamples place the ends within some per cent of that.
    reach = 1.96 * values.std() / 20
    assert found.value - found.low == pytest.approx(reach, rel=0.1)
    assert found.high - found.value == pytest.approx(reach, rel=0.1)


def test_what_is_always_the_same_has_no_width():
    found = estimate_mean(np.full(7, 0.3), draw_counts(7))
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3))


def test_draws_are_by_seed_and_draw_everybody_once_on_average():
    counts = draw_counts(10, resamples=500, seed=3)
    assert (counts.sum(axis=1) == 10).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.2)  # four standard errors of 500 draws
    np.testing.assert_array_equal(counts, draw_counts(10, resamples=500, seed=3))
    assert (counts != draw_counts(10, resamples=500, seed=4)).any()


def test_nan_is_left_out():
    values = np.array([1.0, np.nan, 3.0])
    assert estimate_mean(values, draw_counts(3)).value == 2
    assert means_of_resamples(values, np.array([[0.0, 2, 1], [0, 3, 0]]))[0] == 3
    assert np.isnan(means_of_resamples(values, np.array([[0.0, 3, 0]]))[0])
    nothing = estimate_mean(np.full(3, np.nan), draw_counts(3))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
