from __future__ import annotations

import numpy as np
import pytest

from facegen.evaluation.bootstrap import draw_counts
from facegen.evaluation.identity import identity_scores, pairs_estimate, pairs_of_resamples, recognition, share_of_range


def people(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 16)) + 0.5
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_whoever_keeps_everything_is_at_the_ceiling():
    inputs = people(20)
    scores = identity_scores(inputs, np.repeat(inputs[:, None], 3, axis=1), inputs, draw_counts(20))
    assert [e.value for e in (scores.similarity, scores.ceiling, scores.share)] == pytest.approx([1, 1, 1])
    assert [e.value for e in scores.per_target] == pytest.approx([1, 1, 1])
    floor = pairs_estimate(inputs @ inputs.T, draw_counts(20))
    assert scores.strangers.value == pytest.approx(floor.value)
    assert floor.low < floor.value < floor.high < 1


def test_whoever_shows_other_people_is_at_the_floor():
    inputs = people(300)
    others = np.roll(inputs, 1, axis=0)
    scores = identity_scores(inputs, others[:, None], inputs, draw_counts(300))
    assert scores.share.value == pytest.approx(0, abs=0.05)
    assert scores.share.low < 0 < scores.share.high


def test_pairs_of_resamples_by_hand():
    pairs = np.array([[1.0, 0.2, 0.4], [0.2, 1, 0.6], [0.4, 0.6, 1]])
    everybody = np.array([[1.0, 1, 1]])
    assert pairs_of_resamples(pairs, everybody)[0] == pytest.approx(0.4)
    # The first person twice: two pairs with the second, two with the third, one between these; none with themself.
    assert pairs_of_resamples(pairs, np.array([[2.0, 1, 1]]))[0] == pytest.approx((2 * 0.2 + 2 * 0.4 + 0.6) / 5)
    assert np.isnan(pairs_of_resamples(pairs, np.array([[3.0, 0, 0]]))[0])
    assert np.isnan(pairs_estimate(np.ones([1, 1]), draw_counts(1)).value)


def test_half_way_and_no_way():
    inputs = people(50)
    pairs, counts = inputs @ inputs.T, draw_counts(50)
    floor = pairs_estimate(pairs, counts).value
    found = share_of_range(np.full(50, (floor + 0.9) / 2), pairs, np.full(50, 0.9), counts)
    assert found.value == pytest.approx(0.5)
    assert np.isnan(share_of_range(np.full(50, 0.5), pairs, np.full(50, floor - 0.1), counts).value)


def test_recognition():
    inputs = people(30)
    both = np.stack([inputs, np.roll(inputs, 1, axis=0)], axis=1)
    assert (recognition(inputs, both[:, :1]) == 1).all()
    others = recognition(inputs, both[:, 1:])
    assert others.mean() == pytest.approx(0.5, abs=0.1)  # by chance
    np.testing.assert_allclose(recognition(inputs, both), (1 + others) / 2)
    # One face for all: everybody is as near to it as by their own place in one order.
    same = np.repeat(inputs[:1, None], 30, axis=0)
    assert recognition(inputs, same).mean() == pytest.approx(0.5)
    assert (recognition(np.ones([4, 1]), np.ones([4, 2, 1])) == 0.5).all()  # all alike
    assert np.isnan(recognition(inputs[:1], both[:1])).all()
