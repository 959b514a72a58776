"""The best, middle and worst results, to look at: numbers alone do not show smears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from facegen.evaluation.bench import SystemScores
from facegen.evaluation.evaluate import Evaluation
from facegen.evaluation.system import FACE, PHOTO, as_picture
from facegen.figures.grids import age_strip

EACH = 6
TILES = {PHOTO: 144, FACE: 96}  # sides of a picture in a strip


@dataclass(frozen=True)
class Case:
    """One person's strip.

    Attributes:
        person: Index of the face.
        caption: Its name and numbers, in words.
        strip: Input, reconstruction (of generated faces) and every age, with captions.
    """

    person: int
    caption: str
    strip: Image.Image


def criterion(scores: SystemScores) -> str:
    """How `order_people` orders them, in words."""
    close = "how close the judged ages are to the targets"
    if scores.similarity is None:
        return f"People are ordered by {close}, the mean over all ages."
    return (
        f"People are ordered by the mean of two ranks: how similar their results are to the input, and {close}, both "
        "means over all ages."
    )


def order_people(scores: SystemScores, targets: np.ndarray) -> np.ndarray:
    """The people `[N]` from best to worst, by `criterion`."""
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(scores.predicted - targets).mean(axis=1))
    if scores.similarity is not None:
        ranks += rankdata(-scores.similarity.mean(axis=1))
    return np.argsort(ranks, kind="stable")


def choose_cases(order: np.ndarray, each: int = EACH) -> list[tuple[str, int]]:
    """The first, middle and last people of an order, each only once: pairs of kind and person."""
    each = min(each, max(1, len(order) // 3))
    if len(order) < 3:
        return [("best", int(person)) for person in order]
    start = (len(order) - each) // 2
    parts = {"best": order[:each], "median": order[start : start + each], "worst": order[-each:]}
    return [(kind, int(person)) for kind, people in parts.items() for person in people]


def make_case(evaluation: Evaluation, scores: SystemScores, person: int) -> Case:
    """The strip of one person as one system made it.

    Below a picture stand the target age, the judged age and, where that is judged, the similarity to the input.
    """
    faces, rendered = evaluation.faces, scores.rendered
    similarity = None if scores.similarity is None else scores.similarity[person]
    known = f"age {faces.ages[person]:.0f}, judged" if faces.known[person] else "judged"
    captions, pictures = [f"{known} {faces.predicted[person]:.0f}"], [faces.images[person]]
    if scores.output != PHOTO:
        again = scores.similarity_reconstructions
        similar = "" if again is None else f", {again[person]:.2f}"
        captions.append(f"again: {scores.predicted_reconstructions[person]:.0f}{similar}")
        pictures.append(rendered.reconstructions[person])
    for index, (age, judged) in enumerate(zip(evaluation.targets, scores.predicted[person], strict=True)):
        captions.append(f"{age:g}: {judged:.0f}" + ("" if similarity is None else f", {similarity[index]:.2f}"))
    strip = age_strip(
        [as_picture(picture) for picture in (*pictures, *scores.pictures[person])], captions, tile=TILES[scores.output]
    )
    correlation = scores.correlations[person]
    error = np.abs(scores.predicted[person] - np.array(evaluation.targets)).mean()
    words = f"{scores.name}: "
    if similarity is not None:
        words += f"similarity {similarity.mean():.3f}, "
    words += f"age error {error:.1f} years"
    if np.isfinite(rendered.estimated[person]):
        words += f", looks {rendered.estimated[person]:.0f} to it"
    if np.isfinite(correlation):
        words += f", order {correlation:.2f}"
    if scores.strengths is not None:
        words += f", strength {np.median(scores.strengths[person]):.2f}"
    return Case(person, words, strip)
