from __future__ import annotations

import numpy as np
import pytest

from facegen.evaluation.bootstrap import draw_counts
from facegen.evaluation.sex import sex_scores


def test_sex_kept_by_hand():
    inputs = np.array([0.1, 0.2, 0.9])  # two women and a man
    aged = np.array([[0.3, 0.8], [0.4, 0.4], [0.6, 0.1]])
    scores = sex_scores(inputs, aged, draw_counts(3))
    assert scores.kept.value == pytest.approx(4 / 6)
    assert (scores.women.value, scores.men.value) == (0.75, 0.5)
    assert [found.value for found in scores.women_per_target] == [1, 0.5]
    assert [found.value for found in scores.men_per_target] == [1, 0]
    assert np.isnan(sex_scores(inputs[:2], aged[:2], draw_counts(2)).men.value)
