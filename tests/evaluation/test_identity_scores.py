from __future__ import annotations

import numpy as np
import pytest

from facegen.evaluation.bootstrap import draw_counts
from facegen.evaluation.identity import (
    DISTANCES,
    acceptance_threshold,
    identity_scores,
    pairs_estimate,
    pairs_of_resamples,
    per_distance,
    real_pairs,
    recognition,
    same_people,
    share_of_range,
)


def people(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 16)) + 0.5
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_whoever_keeps_everything_is_at_the_ceiling():
    inputs = people(20)
    distances = np.tile([[0.0, 30, 60]], [20, 1])
    aged = np.repeat(inputs[:, None], 3, axis=1)
    scores = identity_scores(inputs, aged, inputs, draw_counts(20), distances=distances, threshold=0.9)
    assert scores.accepted.value == 1
    assert [e.value for e in scores.per_distance] == pytest.approx([1, np.nan, 1, 1], nan_ok=True)
    assert [e.value for e in (scores.similarity, scores.ceiling, scores.share)] == pytest.approx([1, 1, 1])
    assert [e.value for e in scores.per_target] == pytest.approx([1, 1, 1])
    floor = pairs_estimate(inputs @ inputs.T, draw_counts(20))
    assert scores.strangers.value == pytest.approx(floor.value)
    assert floor.low < floor.value < floor.high < 1


def test_whoever_shows_other_people_is_at_the_floor():
    inputs = people(300)
    others = np.roll(inputs, 1, axis=0)
    threshold = acceptance_threshold(inputs, same_people([None] * 300))
    how = {"distances": np.zeros([300, 1]), "threshold": threshold}
    scores = identity_scores(inputs, others[:, None], inputs, draw_counts(300), **how)
    assert scores.accepted.value < 0.05  # of strangers one in a hundred
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


def test_of_strangers_one_in_a_hundred_is_accepted():
    inputs = people(200)
    threshold = acceptance_threshold(inputs, same_people([None] * 200))
    pairs = (inputs @ inputs.T)[np.triu_indices(200, 1)]
    assert (pairs >= threshold).mean() == pytest.approx(0.01, abs=1e-3)
    # Two pictures of one person are no strangers.
    twice, names = np.concatenate([inputs[:20]] * 2), [str(index) for index in range(20)] * 2
    assert acceptance_threshold(twice, same_people(names)) < 0.99
    assert acceptance_threshold(twice, same_people([None] * 40)) > 0.99
    assert np.isnan(acceptance_threshold(inputs[:1], same_people([None])))


def test_means_by_distance():
    distances = np.array([[0.0, 9.9, 10.0], [50.0, 39.0, 40.0]])
    found = per_distance(np.array([[1.0, 0.5, 0.2], [0.1, 0.4, 0.3]]), distances)
    assert found.shape == (len(DISTANCES), 2)
    np.testing.assert_allclose(found, [[0.75, np.nan], [0.2, np.nan], [np.nan, 0.4], [np.nan, 0.2]])


def test_real_pictures_of_one_person():
    inputs = people(4)
    between = float(inputs[0] @ inputs[1])
    same = same_people(["anna", "anna", "bert", None])
    assert same.sum() == 6
    found = real_pairs(inputs, same, np.array([20.0, 45, 30, 30]))
    assert [estimate.value for estimate in found] == pytest.approx([np.nan, np.nan, between, np.nan], nan_ok=True)
    assert real_pairs(inputs, same, np.array([20.0, np.nan, 30, 30])) is None
    assert real_pairs(inputs, same_people([None] * 4), np.zeros(4)) is None
