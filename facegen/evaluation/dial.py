"""The dial: what a photo gains in age and loses of the person when more of the change goes into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from facegen.evaluation.age import AgeScores, age_scores
from facegen.evaluation.bench import Bench, SystemScores
from facegen.evaluation.bootstrap import Estimate, draw_counts, estimate_mean
from facegen.evaluation.system import as_picture, photo_at_ages

STRENGTHS = (0.5, 1.0, 1.6, 2.2, 3.0)
PEOPLE = 12  # the first ones: to paste them again is cheap, to judge them is not


@dataclass(frozen=True)
class DialPoint:
    """The photos of a few people at one strength.

    Attributes:
        strength: The same for all faces and ages; None for the one that the system took for each.
        age: Judged against target ages.
        similarity: Cosine of input and result; None without a judge of identities.
        people: How many people.
    """

    strength: float | None
    age: AgeScores
    similarity: Estimate | None
    people: int


def turn_dial(bench: Bench, scores: SystemScores) -> list[DialPoint]:
    """Measure a system's photos, `scores`, as they were, at each of STRENGTHS, and last at its own strengths."""
    renderer, people = scores.system.renderer, min(PEOPLE, len(scores.predicted))
    counts = draw_counts(people, seed=bench.seed)

    def point(strength: float | None, predicted: np.ndarray, similarity: np.ndarray | None) -> DialPoint:
        close = None if similarity is None else estimate_mean(similarity.mean(axis=1), counts)
        return DialPoint(strength, age_scores(predicted, bench.targets, bench.groups, counts), close, people)

    as_they_were = np.broadcast_to(bench.faces.predicted[:people, None], [people, len(bench.targets)])
    points = [point(0.0, as_they_were, None if scores.similarity is None else np.ones([people, 1]))]
    for strength in STRENGTHS:
        pairs = zip(bench.faces.images[:people], scores.rendered.results, strict=False)
        pictures = torch.stack([photo_at_ages(as_picture(i), result, renderer, strength) for i, result in pairs])
        seen = bench.similarity(bench.look(bench.judges.identity, pictures, f"strength {strength:g}: identity"))
        points.append(point(strength, bench.predict(pictures), seen))
    similarity = None if scores.similarity is None else scores.similarity[:people]
    return [*points, point(None, scores.predicted[:people], similarity)]
