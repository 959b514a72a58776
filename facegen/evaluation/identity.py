"""Whether the person stays the same: cosines of face embeddings, between a floor and a ceiling.

The floor is what two pictures of different people have in common, the ceiling what is left when a face is only
reconstructed at its own age: no change of age can be expected to keep more of a person than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facegen.evaluation.bootstrap import Estimate, draw_counts, estimate, estimate_mean, means_of_resamples

# Years between a face's own age and another: a person changes more over forty years than over five.
DISTANCES = ((0.0, 10.0), (10.0, 20.0), (20.0, 40.0), (40.0, np.inf))
FALSE_ACCEPTS = 0.01  # share of pairs of different people that would pass for one person


@dataclass(frozen=True)
class IdentityScores:
    """Cosines between faces and what was made of them.

    Attributes:
        similarity: Input and result, over all ages.
        per_target: The same for each target age.
        per_distance: The same for each of DISTANCES between a face's age and the target.
        accepted: Share of results that pass for the person, at a threshold that FALSE_ACCEPTS of strangers reach.
        strangers: Input and other people's results: what a result shares with anybody.
        recognised: Share of other people's inputs that are less similar to a result than the person's own; half is
            chance.
        ceiling: Input and reconstruction.
        share: How far `similarity` lies from the floor, two inputs of different people, (0) to the ceiling (1).
    """

    similarity: Estimate
    per_target: list[Estimate]
    per_distance: list[Estimate]
    accepted: Estimate
    strangers: Estimate
    recognised: Estimate  # spelled as in the results.json of earlier versions
    ceiling: Estimate
    share: Estimate


def identity_scores(
    inputs: np.ndarray,
    aged: np.ndarray,
    reconstructions: np.ndarray,
    counts: np.ndarray,
    *,
    distances: np.ndarray,
    threshold: float,
) -> IdentityScores:
    """Compare embeddings of length 1.

    Args:
        inputs: `[people, D]`.
        aged: `[people, targets, D]`.
        reconstructions: `[people, D]`.
        counts: As returned by `draw_counts`.
        distances: Years between each person's age and the target, `[people, targets]`.
        threshold: As returned by `acceptance_threshold`.
    """
    similar = similarities(inputs, aged)
    ceiling = similarities(inputs, reconstructions[:, None])[:, 0]
    return IdentityScores(
        similarity=estimate_mean(similar.mean(axis=1), counts),
        per_target=[estimate_mean(column, counts) for column in similar.T],
        per_distance=[estimate_mean(row, counts) for row in per_distance(similar, distances)],
        accepted=estimate_mean((similar >= threshold).mean(axis=1), counts),
        strangers=pairs_estimate(inputs @ aged.mean(axis=1).T, counts),
        recognised=estimate_mean(recognition(inputs, aged), counts),
        ceiling=estimate_mean(ceiling, counts),
        share=share_of_range(similar.mean(axis=1), inputs @ inputs.T, ceiling, counts),
    )


def share_of_range(values: np.ndarray, pairs: np.ndarray, ceiling: np.ndarray, counts: np.ndarray) -> Estimate:
    """How far the mean of `values` lies from the floor (0) to the ceiling (1).

    Args:
        values: Cosines `[people]`.
        pairs: Cosines of all inputs, `[people, people]`; different people make the floor.
        ceiling: Cosines `[people]`, whose mean is the ceiling.
        counts: As returned by `draw_counts`.

    Returns:
        NaN where there is no room between floor and ceiling.
    """

    def share(draws: np.ndarray) -> np.ndarray:
        low = pairs_of_resamples(pairs, draws)
        room = means_of_resamples(ceiling, draws) - low
        distance = means_of_resamples(values, draws) - low
        return np.divide(distance, room, out=np.full(len(draws), np.nan), where=room > 1e-6)

    return estimate(share, counts)


def recognition(inputs: np.ndarray, aged: np.ndarray) -> np.ndarray:
    """How well each person's results differ from those of the others: `[people]`, NaN for one person alone.

    The share of other people's inputs that are less similar to a result than the person's own input is, the mean over
    the results; equal ones count half. Unlike a similarity it does not rise when all results look like everybody.
    """
    if len(inputs) < 2:
        return np.full(len(inputs), np.nan)
    shares = []
    for results in np.moveaxis(aged, 1, 0):
        # Rounded, so that equal faces stay equal whatever the order of the sums.
        similar = (results.astype(np.float64) @ inputs.astype(np.float64).T).round(9)
        own = np.diag(similar)[:, None]
        less = (similar < own).sum(axis=1) + ((similar == own).sum(axis=1) - 1) / 2
        shares.append(less / (len(inputs) - 1))
    return np.mean(shares, axis=0)


def similarities(inputs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosines of embeddings of length 1: `[people, D]` and `[people, targets, D]` to `[people, targets]`."""
    return np.einsum("pd,ptd->pt", inputs, others, dtype=np.float64)


def pairs_estimate(pairs: np.ndarray, counts: np.ndarray) -> Estimate:
    """The mean over pairs of different people, `[people, people]`, with its interval; NaN for one person alone."""
    return estimate(lambda draws: pairs_of_resamples(pairs, draws), counts)


def pairs_of_resamples(pairs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean over pairs of different people in each resample: `[people, people]`, `[resamples, people]`.

    A person that was drawn twice makes no pair with themself, but every pair with others twice.
    """
    pairs = pairs.astype(np.float64)
    total = ((counts @ pairs) * counts).sum(axis=1) - np.square(counts) @ np.diag(pairs)
    number = np.square(counts.sum(axis=1)) - np.square(counts).sum(axis=1)
    return np.divide(total, number, out=np.full(len(counts), np.nan), where=number > 0)


def per_distance(values: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The mean of `[people, pictures]` in each of DISTANCES, by years `[people, pictures]`.

    Returns:
        `[DISTANCES, people]`; NaN where a person has no picture in it.
    """
    found = np.full([len(DISTANCES), len(values)], np.nan)
    for index, (low, high) in enumerate(DISTANCES):
        inside = (distances >= low) & (distances < high)
        total = np.where(inside, values, 0).sum(axis=1)
        np.divide(total, inside.sum(axis=1), out=found[index], where=inside.any(axis=1))
    return found


def same_people(people: Sequence[str | None]) -> np.ndarray:
    """Which pairs of pictures `[N, N]` show one person, as far as persons are known; a picture and itself do, too."""
    numbers = {person: number for number, person in enumerate(dict.fromkeys(people))}
    codes = np.array([-1 - index if who is None else numbers[who] for index, who in enumerate(people)])
    return codes[:, None] == codes[None]


def acceptance_threshold(features: np.ndarray, same: np.ndarray) -> float:
    """The cosine that all but FALSE_ACCEPTS of the pairs of different people stay below; NaN where there are none.

    Args:
        features: Of real faces, `[N, D]`, of length 1.
        same: As returned by `same_people`.
    """
    pairs = (features @ features.T)[np.triu(~same)]
    return float(np.quantile(pairs, 1 - FALSE_ACCEPTS)) if len(pairs) else float("nan")


def real_pairs(features: np.ndarray, same: np.ndarray, ages: np.ndarray, *, seed: int = 0) -> list[Estimate] | None:
    """How alike two real pictures of one person are, for each of DISTANCES between their ages.

    Args:
        features, same: As for `acceptance_threshold`.
        ages: In years `[N]`, NaN where unknown.
        seed: Seeds the bootstrap.

    Returns:
        None where no person of known age has two pictures.
    """
    distances = np.abs(ages[:, None] - ages[None])
    pairs = same & np.isfinite(distances)
    np.fill_diagonal(pairs, False)
    chosen = np.flatnonzero(pairs.any(axis=1))
    if len(chosen) == 0:
        return None
    # A picture counts with the mean over the person's others, and each draw takes persons whole.
    found = per_distance(features @ features.T, np.where(pairs, distances, np.nan))[:, chosen]
    people, of_picture = np.unique(np.argmax(same[chosen], axis=1), return_inverse=True)
    counts = draw_counts(len(people), seed=seed)[:, of_picture]
    return [estimate_mean(row, counts) for row in found]
