"""The evaluation: what each system makes of held-out faces, as the judges see it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from facegen.ages import AgeGroups
from facegen.errors import FacegenError
from facegen.evaluation.age import AgeScores, age_scores, group_of_years, quartiles, strip_correlations
from facegen.evaluation.bootstrap import Estimate, draw_counts
from facegen.evaluation.identity import IdentityScores, identity_scores, pairs_estimate, share_of_range, similarities
from facegen.evaluation.judges import AgeJudge
from facegen.evaluation.photos import Photos
from facegen.evaluation.realism import Realism, realism_scores, scale_unit_features
from facegen.evaluation.reconstruction import Distance, ReconstructionScores, reconstruction_scores
from facegen.evaluation.system import Rendered, System, render_all
from facegen.metrics.features import Extractor
from facegen.metrics.real_features import picture_features


@dataclass(frozen=True)
class Judges:
    """The networks that judge.

    Attributes:
        age: Tells ages.
        identity: Tells people; features of length 1. None leaves identity out, and realism by its features.
        inception: For the realism that papers measure; None to leave it out.
        lpips: Perceptual distance; None to leave it out.
    """

    age: AgeJudge
    identity: Extractor | None
    inception: Extractor | None = None
    lpips: Distance | None = None


@dataclass(frozen=True)
class Faces:
    """The evaluated faces and what the judges say of them.

    Attributes:
        names: File names.
        images: uint8 `[N, 3, S, S]`.
        ages: Years `[N]`: exact where known, else as the judge sees them.
        known: `[N]`, whether the exact age is known.
        predicted: Years `[N]`, as the judge sees them.
    """

    names: list[str]
    images: torch.Tensor
    ages: np.ndarray
    known: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class SystemScores:
    """What was measured of one system.

    Attributes:
        system: Which.
        age, age_per_target: Predicted against target ages, over all targets and for each.
        correlations: Spearman's along each strip `[N]`, NaN where there is no order.
        identity: With the ceiling of this system's own reconstructions. None without a judge of identities; then
            `share_of_best`, `realism`, `realism_per_target`, `similarity` and `similarity_reconstructions` are, too.
        share_of_best: As `identity.share`, with the highest ceiling of all systems of the run.
        reconstruction: At the input's own age.
        realism, realism_per_target: Measured with features of the identity judge.
        inception, inception_per_target: Measured with features of Inception; None where it is not there.
        seconds: Quartiles, of one face alone with all its pictures.
        predicted, similarity: Years and cosines `[N, targets]`.
        predicted_reconstructions, similarity_reconstructions: `[N]`.
        rendered: The pictures.
    """

    system: System
    age: AgeScores
    age_per_target: list[AgeScores]
    correlations: np.ndarray
    identity: IdentityScores | None
    share_of_best: Estimate | None
    reconstruction: ReconstructionScores
    realism: Realism | None
    realism_per_target: list[Realism] | None
    inception: Realism | None
    inception_per_target: list[Realism] | None
    seconds: tuple[float, float, float]
    predicted: np.ndarray
    similarity: np.ndarray | None
    predicted_reconstructions: np.ndarray
    similarity_reconstructions: np.ndarray | None
    rendered: Rendered

    @property
    def monotone(self) -> tuple[float, float, float]:
        """Quartiles of the correlations along the strips."""
        return quartiles(self.correlations)


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
        group_counts: Evaluated faces of each age group, by its label.
        real_counts: Real faces of each target's group, with which results are compared.
        systems: In the order given; the first is the one that the report is about.
        seed: Seeds every random choice.
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
    group_counts: dict[str, int]
    real_counts: list[int]
    systems: list[SystemScores]
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
        judges: None of which had a part in training the systems.
        ages: Targets in years; None for the middle of every group of the generators.
        give_ages: Tell the systems the ages of the faces, where known.
        seed: Seeds the bootstrap and the draws for realism.
        progress: Show bars with the remaining time.

    Raises:
        FacegenError: no system, systems that do not fit together, or a face or age that a system refuses.
    """
    check_systems(systems)
    groups, device = systems[0].renderer.groups, systems[0].renderer.device
    targets, labels = target_ages(groups, ages)
    bench = _Bench(photos, judges, groups, targets, give_ages=give_ages, seed=seed, progress=progress)
    scores = _against_the_best([bench.measure(system) for system in systems], bench)
    faces = bench.faces
    real_age, real_age_per_group = _judge_on_real_faces(faces, groups, seed)
    tested_groups = group_of_years(faces.ages, groups)
    return Evaluation(
        faces=faces,
        groups=groups,
        targets=targets,
        target_labels=labels,
        real_age=real_age,
        real_age_per_group=real_age_per_group,
        floor=None if bench.inputs is None else pairs_estimate(bench.inputs @ bench.inputs.T, bench.counts),
        group_counts={label: int((tested_groups == i).sum()) for i, label in enumerate(groups.labels)},
        real_counts=[len(indices) for indices in bench.reals],
        systems=scores,
        seed=seed,
        device=device_name(device),
        threads=torch.get_num_threads(),
    )


def check_systems(systems: Sequence[System]) -> None:
    """Raise a FacegenError where there is no system, or systems are for faces of another size, groups or alignment."""
    if not systems:
        raise FacegenError("no system to evaluate")
    kinds = [(system.renderer.size, system.renderer.groups, system.renderer.template) for system in systems]
    for system, kind in zip(systems, kinds, strict=True):
        if kind != kinds[0]:
            raise FacegenError(
                f"{system.name} is for other faces than {systems[0].name} (their size, age groups or alignment): "
                "evaluate it by itself"
            )


def target_ages(groups: AgeGroups, ages: Sequence[float] | None = None) -> tuple[list[float], list[str]]:
    """The ages that are evaluated, and what they are called: a group's label for its middle, else the years."""
    if ages is None:
        return [float(groups.middle_age(index)) for index in range(len(groups))], groups.labels
    if len(ages) == 0:
        raise FacegenError("no ages given: name at least one")
    return [float(age) for age in ages], [f"{age:g}" for age in ages]


def device_name(device: torch.device) -> str:
    """The device in words: the name of a GPU, or the kind of processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


class _Bench:
    """What all systems are measured with: faces, what the judges say of them, and the draws."""

    def __init__(
        self,
        photos: Photos,
        judges: Judges,
        groups: AgeGroups,
        targets: list[float],
        *,
        give_ages: bool,
        seed: int,
        progress: bool,
    ) -> None:
        self.photos, self.judges, self.groups, self.targets = photos, judges, groups, targets
        self.give_ages, self.seed, self.progress = give_ages, seed, progress
        tested = slice(photos.tested)
        predicted = judges.age.predict(photos.images)
        ages = np.where(np.isfinite(photos.ages), photos.ages, predicted)
        self.faces = Faces(
            photos.names[tested],
            photos.images[tested],
            ages[tested],
            np.isfinite(photos.ages[tested]),
            predicted[tested],
        )
        of_face = group_of_years(ages, groups)
        self.reals = [np.flatnonzero(of_face == index) for index in group_of_years(np.array(targets), groups)]
        self.counts = draw_counts(photos.tested, seed=seed)
        self.real_identity = self._look(judges.identity, photos.images, "real faces: identity")
        self.inputs = None if self.real_identity is None else self.real_identity[tested].numpy()
        self.real_inception = self._look(judges.inception, photos.images, "real faces: Inception")

    def measure(self, system: System) -> SystemScores:
        """Let a system work and measure what comes out."""
        people, targets = self.photos.tested, np.array(self.targets)
        rendered = render_all(system, self.photos, self.targets, give_ages=self.give_ages, progress=self.progress)
        pictures = rendered.aged.flatten(0, 1)
        predicted = self.judges.age.predict(pictures).reshape(people, -1)
        identity, similar, similar_again = None, None, None
        realism: tuple[Realism | None, list[Realism] | None] = (None, None)
        inception = realism
        aged = self._look(self.judges.identity, pictures, f"{system.name}: identity")
        again = self._look(self.judges.identity, rendered.reconstructions, f"{system.name}: identity at own age")
        if self.real_identity is not None and self.inputs is not None and aged is not None and again is not None:
            aged = aged.unflatten(0, (people, -1))
            realism = self._realism(scale_unit_features(aged), scale_unit_features(self.real_identity))
            identity = identity_scores(self.inputs, aged.numpy(), again.numpy(), self.counts)
            similar = similarities(self.inputs, aged.numpy())
            similar_again = similarities(self.inputs, again.numpy()[:, None])[:, 0]
        looked = self._look(self.judges.inception, pictures, f"{system.name}: Inception")
        if looked is not None and self.real_inception is not None:
            inception = self._realism(looked.unflatten(0, (people, -1)), self.real_inception)
        return SystemScores(
            system=system,
            age=age_scores(predicted, targets, self.groups, self.counts),
            age_per_target=[
                age_scores(column, target, self.groups, self.counts)
                for column, target in zip(predicted.T, targets, strict=True)
            ],
            correlations=strip_correlations(predicted, targets),
            identity=identity,
            share_of_best=None,  # known when all systems are measured
            reconstruction=reconstruction_scores(
                self.faces.images, rendered.reconstructions, self.counts, lpips=self.judges.lpips
            ),
            realism=realism[0],
            realism_per_target=realism[1],
            inception=inception[0],
            inception_per_target=inception[1],
            seconds=quartiles(rendered.seconds),
            predicted=predicted,
            similarity=similar,
            predicted_reconstructions=self.judges.age.predict(rendered.reconstructions),
            similarity_reconstructions=similar_again,
            rendered=rendered,
        )

    def _realism(self, results: torch.Tensor, reals: torch.Tensor) -> tuple[Realism, list[Realism]]:
        return realism_scores(list(results.unbind(1)), [reals[indices] for indices in self.reals], seed=self.seed)

    def _look(self, judge: Extractor | None, images: torch.Tensor, words: str) -> torch.Tensor | None:
        if judge is None:
            return None
        # The real faces are the same in every run of one seed, whatever the systems.
        return picture_features(images, judge, words, keep=images is self.photos.images, progress=self.progress)


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


def _against_the_best(scores: list[SystemScores], bench: _Bench) -> list[SystemScores]:
    """Measure identity against the best reconstructions of the run, too: one ceiling for all."""
    if bench.inputs is None:
        return scores
    best = max(scores, key=lambda s: -np.inf if s.identity is None else s.identity.ceiling.value)
    ceiling, pairs = best.similarity_reconstructions, bench.inputs @ bench.inputs.T
    assert ceiling is not None
    return [
        replace(s, share_of_best=share_of_range(s.similarity.mean(axis=1), pairs, ceiling, bench.counts))
        for s in scores
        if s.similarity is not None
    ]
