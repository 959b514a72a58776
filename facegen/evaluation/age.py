"""How close the results are to the target ages, according to a judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facegen.ages import AgeGroups
from facegen.evaluation.bootstrap import Estimate, estimate_mean


@dataclass(frozen=True)
class AgeScores:
    """Predicted ages against the true or wanted ones.

    Attributes:
        error: Mean absolute error in years.
        bias: Mean of predicted minus wanted, in years.
        right: Share in the group of the wanted age.
        near: Share in that group or one next to it.
        quartiles: The quartiles of the predicted ages, in years.
        count: Pictures that were judged.
    """

    error: Estimate
    bias: Estimate
    right: Estimate
    near: Estimate
    quartiles: tuple[float, float, float]
    count: int


def group_of_years(years: np.ndarray, groups: AgeGroups) -> np.ndarray:
    """The group of each age, int64; ages are rounded to whole years, and one in a gap counts to the nearest group."""
    low = np.array([low for low, _ in groups.bounds], dtype=np.float64)
    high = np.array([np.inf if high is None else high for _, high in groups.bounds])
    whole = np.floor(np.asarray(years, dtype=np.float64) + 0.5)[..., None]
    return np.argmin(np.maximum(low - whole, 0) + np.maximum(whole - high, 0), axis=-1)


def age_scores(predicted: np.ndarray, wanted: np.ndarray, groups: AgeGroups, counts: np.ndarray) -> AgeScores:
    """Compare ages in years, both `[people]` or `[people, pictures]`.

    Args:
        predicted: By the judge.
        wanted: The target ages, or the true ones of real faces.
        groups: What counts as right.
        counts: As returned by `draw_counts`.
    """
    wanted = np.broadcast_to(wanted, predicted.shape)
    steps = np.abs(group_of_years(predicted, groups) - group_of_years(wanted, groups)).astype(np.float64)
    per_person = tuple(range(1, predicted.ndim))

    def estimate(values: np.ndarray) -> Estimate:
        return estimate_mean(values.mean(axis=per_person) if per_person else values, counts)

    return AgeScores(
        error=estimate(np.abs(predicted - wanted)),
        bias=estimate(predicted - wanted),
        right=estimate((steps == 0).astype(np.float64)),
        near=estimate((steps <= 1).astype(np.float64)),
        quartiles=quartiles(predicted),
        count=predicted.size,
    )


def strip_correlations(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of predicted `[people, targets]` and target ages along each strip: `[people]`.

    NaN where a strip has the same age everywhere, or fewer than two ages: there is no order to compare.
    """
    from scipy.stats import rankdata

    if predicted.shape[1] < 2:
        return np.full(len(predicted), np.nan)
    ranks = rankdata(predicted, axis=1)
    wanted = rankdata(targets)
    ranks, wanted = ranks - ranks.mean(axis=1, keepdims=True), wanted - wanted.mean()
    length = np.sqrt(np.square(ranks).sum(axis=1) * np.square(wanted).sum())
    return np.divide(ranks @ wanted, length, out=np.full(len(ranks), np.nan), where=length > 0)


def quartiles(values: np.ndarray) -> tuple[float, float, float]:
    """The quartiles of the values that are not NaN; NaN where there are none."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return (float("nan"),) * 3
    return tuple(np.quantile(values, [0.25, 0.5, 0.75]).tolist())
