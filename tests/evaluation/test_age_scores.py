from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from facegen.ages import AgeGroups
from facegen.evaluation.age import age_scores, group_of_years, quartiles, strip_correlations
from facegen.evaluation.bootstrap import draw_counts


def test_groups_of_ages_that_are_no_whole_years():
    groups = AgeGroups.default()
    years = np.array([0, 10, 10.4, 10.6, 20.5, 55, 95, 130])
    assert group_of_years(years, groups).tolist() == [0, 0, 0, 1, 2, 5, 9, 9]
    gaps = AgeGroups.parse("0-10,21-30")
    assert group_of_years(np.array([[11, 20], [40, -3]]), gaps).tolist() == [[0, 1], [1, 0]]


def test_scores_by_hand():
    groups = AgeGroups.default()
    predicted = np.array([[5.0, 28.0], [25.0, 25.0]])
    scores = age_scores(predicted, np.array([5, 25]), groups, draw_counts(2))
    assert scores.error.value == pytest.approx((0 + 3 + 20 + 0) / 4)
    assert scores.bias.value == pytest.approx(23 / 4)
    assert scores.right.value == 0.75
    assert scores.near.value == 0.75  # from 5 to 25 are two groups
    assert scores.quartiles[1] == 25
    assert scores.count == 4
    # The two people are the two rows, so the extremes of the resamples are each of them alone.
    assert (scores.error.low, scores.error.high) == (1.5, 10.0)


def test_order_along_strips():
    targets = np.array([5, 15, 25, 35])
    predicted = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [7, 7, 7, 7], [1, 1, 5, 4]])
    found = strip_correlations(predicted, targets)
    assert found[:2] == pytest.approx([1, -1])
    assert np.isnan(found[2])
    assert found[3] == pytest.approx(spearmanr(predicted[3], targets).statistic)
    assert quartiles(found)[1] == pytest.approx(found[3])
    assert np.isnan(strip_correlations(predicted[:, :1], targets[:1])).all()
    assert np.isnan(quartiles(np.array([np.nan]))).all()
