"""The evaluation: how the judges see what each system makes of held-out faces."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from facegen.ages import AgeGroups
from facegen.errors import FacegenError
from facegen.evaluation.age import AgeScores, age_scores, group_of_years
from facegen.evaluation.bench import Bench, Faces, SystemScores
from facegen.evaluation.bootstrap import Estimate, draw_counts
from facegen.evaluation.dial import DialPoint, turn_dial
from facegen.evaluation.identity import pairs_estimate, real_pairs, same_people, share_of_range
from facegen.evaluation.judges import Judges
from facegen.evaluation.photos import Photos, same_alignment
from facegen.evaluation.system import FACE, System


@dataclass(frozen=True)
class Evaluation:
    """All that was measured in one run.

    Attributes:
        faces: The evaluated faces.
        groups: The age groups of all systems' generators.
        targets: Ages in years; `target_labels` in words.
        real_age: The judge on the real faces of known age: its own error; `real_age_per_group` by age group.
            None where no age is known.
        floor: Cosine of two different people's inputs; None without a judge of identities.
        threshold: Cosine from which on a result is accepted as the person (`acceptance_threshold`); None likewise.
        real_pairs: Cosines of two real pictures of one person, by the years between them; None if no person is known.
        group_counts: Evaluated faces of each age group, by its label.
        real_counts: Real faces of each target's group, with which results are compared.
        systems: Two rows for each system, its photos and its generated faces, in the order given; the report is about
            the first.
        dial: The first system's photos at other strengths.
        seed: Seed for all random choices.
        device: The device in words.
        threads: CPU threads.
    """

    faces: Faces
    groups: AgeGroups
    targets: list[float]
    target_labels: list[str]
    real_age: AgeScores | None
    real_age_per_group: dict[str, AgeScores]
    floor: Estimate | None
    threshold: float | None
    real_pairs: list[Estimate] | None
    group_counts: dict[str, int]
    real_counts: list[int]
    systems: list[SystemScores]
    dial: list[DialPoint]
    seed: int
    device: str
    threads: int


def evaluate(
    systems: Sequence[System],
    photos: Photos,
    judges: Judges,
    *,
    ages: Sequence[float] | None = None,
    give_ages: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure systems on the same faces, with the same judges and the same draws.

    Args:
        systems: Their generators fit together (see `check_systems`); mostly all have the same one.
        photos: As returned by `load_photos` for these generators.
        judges: Those of age and identity had no part in training the systems.
        ages: Targets in years; None for the middle of every group of the generators.
        give_ages: Tell the systems the ages of the faces, where known.
        seed: Seeds the bootstrap and the draws for realism.
        progress: Show progress bars with the remaining time.

    Raises:
        FacegenError: no system, systems that do not fit together, or a face or age that a system refuses.
    """
    check_systems(systems)
    groups, device = systems[0].renderer.groups, systems[0].renderer.device
    targets, labels = target_ages(groups, ages)
    bench = Bench(photos, judges, groups, targets, give_ages=give_ages, seed=seed, progress=progress)
    rows = [row for system in systems for row in bench.measure(system)]
    scores, faces = _against_the_best(rows, bench), bench.faces
    real_age, real_age_per_group = _judge_on_real_faces(faces, groups, seed)
    tested_groups = group_of_years(faces.ages, groups)
    known = None if bench.real_identity is None else bench.real_identity[:, 0].numpy()
    return Evaluation(
        faces=faces,
        groups=groups,
        targets=targets,
        target_labels=labels,
        real_age=real_age,
        real_age_per_group=real_age_per_group,
        floor=None if bench.inputs is None else pairs_estimate(bench.inputs @ bench.inputs.T, bench.counts),
        threshold=None if known is None else bench.threshold,
        real_pairs=None if known is None else real_pairs(known, same_people(photos.people), photos.ages, seed=seed),
        group_counts={label: int((tested_groups == i).sum()) for i, label in enumerate(groups.labels)},
        real_counts=[len(indices) for indices in bench.reals],
        systems=scores,
        dial=turn_dial(bench, scores[0]),
        seed=seed,
        device=device_name(device),
        threads=torch.get_num_threads(),
    )


def check_systems(systems: Sequence[System]) -> None:
    """Raise a FacegenError where there is no system, or systems are for faces of other age groups or alignment.

    Their sizes may differ: judges look at faces of any size. Only the errors of pixels do not compare then.
    """
    if not systems:
        raise FacegenError("no system to evaluate")
    first = systems[0].renderer
    for system in systems:
        other = system.renderer
        if other.groups != first.groups or not same_alignment(other.template, first.template):
            raise FacegenError(
                f"{system.name} needs different faces than {systems[0].name} (age groups or alignment): "
                "evaluate it separately"
            )


def target_ages(groups: AgeGroups, ages: Sequence[float] | None = None) -> tuple[list[float], list[str]]:
    """The ages that are evaluated, and what they are called: a group's label for its middle, else the years."""
    if ages is None:
        return [float(groups.middle_age(index)) for index in range(len(groups))], groups.labels
    if len(ages) == 0:
        raise FacegenError("no ages given: name at least one")
    years = list(dict.fromkeys(round(float(age), 6) for age in ages))  # an age twice is one picture
    return years, [f"{age:g}" for age in years]


def device_name(device: torch.device) -> str:
    """The device in words: the name of a GPU, or the kind of processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def _judge_on_real_faces(faces: Faces, groups: AgeGroups, seed: int) -> tuple[AgeScores | None, dict[str, AgeScores]]:
    """The judge's own error on the evaluated faces of known age, and in each group that has any."""

    def scores(chosen: np.ndarray) -> AgeScores:
        return age_scores(faces.predicted[chosen], faces.ages[chosen], groups, draw_counts(len(chosen), seed=seed))

    known = np.flatnonzero(faces.known)
    of_known = group_of_years(faces.ages[known], groups)
    per_group = {
        label: scores(known[of_known == index]) for index, label in enumerate(groups.labels) if index in of_known
    }
    return scores(known) if len(known) else None, per_group


def _against_the_best(scores: list[SystemScores], bench: Bench) -> list[SystemScores]:
    """Measure identity against the best reconstructions of the run, too: one ceiling for all."""
    if bench.inputs is None:
        return scores
    drawn = [s for s in scores if FACE in s.rendered.outputs]  # an editor has no reconstructions, and so no ceiling
    best = max(drawn or scores, key=lambda s: -np.inf if s.identity is None else s.identity.ceiling.value)
    ceiling, pairs = best.similarity_reconstructions, bench.inputs @ bench.inputs.T
    assert ceiling is not None
    return [
        replace(s, share_of_best=share_of_range(s.similarity.mean(axis=1), pairs, ceiling, bench.counts))
        for s in scores
        if s.similarity is not None
    ]
