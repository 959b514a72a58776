"""Whether aging keeps the apparent sex, according to a judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facegen.evaluation.bootstrap import Estimate, estimate_mean


@dataclass(frozen=True)
class SexScores:
    """Shares of results in which the judge sees the sex that it sees in the input.

    Attributes:
        kept: Of everybody, over all target ages.
        women, men: Of those who look like women, or men, in the input; NaN if there are none.
        women_per_target, men_per_target: The same for each target age.
    """

    kept: Estimate
    women: Estimate
    men: Estimate
    women_per_target: list[Estimate]
    men_per_target: list[Estimate]


def sex_scores(inputs: np.ndarray, aged: np.ndarray, counts: np.ndarray) -> SexScores:
    """Compare how surely faces look like men.

    Args:
        inputs: 0..1 `[people]`.
        aged: 0..1 `[people, targets]`.
        counts: As returned by `draw_counts`.
    """
    are_men = inputs > 0.5
    kept = ((aged > 0.5) == are_men[:, None]).astype(np.float64)
    women, men = np.where(are_men[:, None], np.nan, kept), np.where(are_men[:, None], kept, np.nan)
    return SexScores(
        kept=estimate_mean(kept.mean(axis=1), counts),
        women=estimate_mean(women.mean(axis=1), counts),
        men=estimate_mean(men.mean(axis=1), counts),
        women_per_target=[estimate_mean(column, counts) for column in women.T],
        men_per_target=[estimate_mean(column, counts) for column in men.T],
    )
