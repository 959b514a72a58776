"""Intervals by the bootstrap over people (Efron 1979): a person's pictures stay together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; all NaN where nothing could be measured."""

    value: float
    low: float
    high: float


def draw_counts(people: int, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each person is drawn in each resample: float64 `[resamples, people]`, every row sums to `people`.

    Systems that are compared share these draws, so chance of the people is the same for all.
    """
    random = np.random.default_rng(seed)
    return random.multinomial(people, np.full(people, 1 / people), size=resamples).astype(np.float64)


def estimate_mean(values: np.ndarray, counts: np.ndarray) -> Estimate:
    """The mean of one value a person, `[people]`, with its interval; people whose value is NaN are left out."""
    return estimate(lambda draws: means_of_resamples(values, draws), counts)


def estimate(statistic: Callable[[np.ndarray], np.ndarray], counts: np.ndarray) -> Estimate:
    """A statistic of all people, and the middle 95 % of what it is in the resamples (the percentile interval).

    Args:
        statistic: From `[draws, people]`, how often each person counts, to the statistic in each draw, `[draws]`.
        counts: As returned by `draw_counts`.
    """
    value, resampled = statistic(np.ones([1, counts.shape[1]]))[0], statistic(counts)
    resampled = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or len(resampled) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))


def means_of_resamples(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of `[people]` in each resample `[resamples]`; NaN where none of its people has a value."""
    known = np.isfinite(values)
    weight = counts[:, known].sum(axis=1)
    total = counts[:, known] @ values[known]
    return np.divide(total, weight, out=np.full(len(counts), np.nan), where=weight > 0)
