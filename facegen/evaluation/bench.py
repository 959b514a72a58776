"""What all systems share in an evaluation, and all measurements of one system."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from facegen.ages import AgeGroups
from facegen.evaluation.age import AgeScores, age_scores, group_of_years, quartiles, strip_correlations
from facegen.evaluation.bootstrap import Estimate, draw_counts
from facegen.evaluation.identity import (
    IdentityScores,
    acceptance_threshold,
    identity_scores,
    same_people,
    similarities,
)
from facegen.evaluation.judges import Judges
from facegen.evaluation.photos import Photos
from facegen.evaluation.realism import Realism, realism_scores, scale_unit_features, sharpness
from facegen.evaluation.reconstruction import ReconstructionScores, reconstruction_scores
from facegen.evaluation.sex import SexScores, sex_scores
from facegen.evaluation.system import PHOTO, Rendered, System, render_all
from facegen.faces.template import AlignmentTemplate
from facegen.metrics.features import Extractor
from facegen.metrics.real_features import picture_features
from facegen.text import shown


@dataclass(frozen=True)
class Faces:
    """The evaluated faces and what the judges say of them.

    Attributes:
        names: File names.
        images: uint8 `[N, 3, V, V]`.
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
    """What was measured of the results of one kind that a system has.

    Attributes:
        system: What made them.
        output: PHOTO or FACE.
        age, age_per_target: Predicted against target ages, over all targets and for each.
        correlations: Spearman's along each strip `[N]`, NaN where there is no order.
        identity: With the ceiling of this system's own reconstructions. None without a judge of identities; then
            `share_of_best`, `realism`, `realism_per_target`, `similarity` and `similarity_reconstructions` are, too.
        share_of_best: As `identity.share`, with the highest ceiling of all systems of the run.
        sex: How many stay women and men; None without a judge of it.
        sharpness: Quartiles, 1 as sharp as the input.
        strengths: How much of the change went into the photos, `[N, targets]`; None for generated faces.
        at_cap: Share of these that are the most that is tried; None where the strength was given.
        reconstruction: At the input's own age.
        realism, realism_per_target: Measured with features of the identity judge.
        inception, inception_per_target: Measured with features of Inception; None where it is not there.
        seconds: Quartiles, of one photo alone with all its ages; NaN for generated faces, which are made on the way.
        predicted, similarity: Years and cosines `[N, targets]`.
        predicted_reconstructions, similarity_reconstructions: `[N]`.
        rendered: The pictures.
    """

    system: System
    output: str
    age: AgeScores
    age_per_target: list[AgeScores]
    correlations: np.ndarray
    identity: IdentityScores | None
    share_of_best: Estimate | None
    sex: SexScores | None
    sharpness: tuple[float, float, float]
    strengths: np.ndarray | None
    at_cap: float | None
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
    def name(self) -> str:
        """What its row is called."""
        return f"{self.system.name} ({self.output})"

    @property
    def pictures(self) -> torch.Tensor:
        """The results, uint8 `[N, targets, 3, H, H]`."""
        return self.rendered.of(self.output)

    @property
    def monotone(self) -> tuple[float, float, float]:
        """Quartiles of the correlations along the strips."""
        return quartiles(self.correlations)


@dataclass(frozen=True)
class _OwnAge:
    """What the judges say of a system's reconstructions."""

    scores: ReconstructionScores
    predicted: np.ndarray
    features: torch.Tensor | None


class Bench:
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
        self.photos, self.judges, self.groups, self.targets = photos, judges, groups, np.array(targets)
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
        self.reals = [np.flatnonzero(of_face == index) for index in group_of_years(self.targets, groups)]
        self.counts = draw_counts(photos.tested, seed=seed)
        # The real faces are the same in every run of one seed, whatever the systems.
        reals = photos.images[:, None]
        self.real_identity = self.look(judges.identity, reals, "real faces: identity", keep=True)
        self.real_inception = self.look(judges.inception, reals, "real faces: Inception", keep=True)
        self.inputs, self.threshold = None, float("nan")
        if self.real_identity is not None:
            known = self.real_identity[:, 0].numpy()
            self.inputs = known[tested]
            self.threshold = acceptance_threshold(known, same_people(photos.people))

    def measure(self, system: System) -> list[SystemScores]:
        """Let a system work and measure what comes out: its photos, and its generated faces if there are any."""
        rendered = render_all(
            system, self.photos, self.targets.tolist(), give_ages=self.give_ages, progress=self.progress
        )
        words = f"{shown(system.name, 40)}: identity at own age"
        own_age = _OwnAge(
            reconstruction_scores(rendered.inputs, rendered.reconstructions, self.counts, lpips=self.judges.lpips),
            self.judges.age.predict(rendered.reconstructions),
            self.look(self.judges.identity, rendered.reconstructions[:, None], words),
        )
        return [self._score(system, output, rendered, own_age) for output in rendered.outputs]

    def _score(self, system: System, output: str, rendered: Rendered, own_age: _OwnAge) -> SystemScores:
        pictures, is_photo, words = rendered.of(output), output == PHOTO, f"{shown(system.name, 40)} ({output})"
        predicted, features = self.predict(pictures), self.look(self.judges.identity, pictures, f"{words}: identity")
        looked = self.look(self.judges.inception, pictures, f"{words}: Inception")
        realism = self._realism(_scaled(features), _scaled(self.real_identity))
        inception = self._realism(looked, self.real_inception)
        similar_again = self.similarity(own_age.features)
        return SystemScores(
            system=system,
            output=output,
            age=age_scores(predicted, self.targets, self.groups, self.counts),
            age_per_target=[
                age_scores(column, target, self.groups, self.counts)
                for column, target in zip(predicted.T, self.targets, strict=True)
            ],
            correlations=strip_correlations(predicted, self.targets),
            identity=self._identity(features, own_age.features),
            share_of_best=None,  # known when all systems are measured
            sex=self._sex(pictures, features),
            sharpness=self._sharpness(pictures, system.renderer.template),
            strengths=rendered.strengths if is_photo else None,
            at_cap=rendered.at_cap if is_photo else None,
            reconstruction=own_age.scores,
            realism=realism[0],
            realism_per_target=realism[1],
            inception=inception[0],
            inception_per_target=inception[1],
            seconds=quartiles(rendered.seconds if is_photo else np.array([])),
            predicted=predicted,
            similarity=self.similarity(features),
            predicted_reconstructions=own_age.predicted,
            similarity_reconstructions=None if similar_again is None else similar_again[:, 0],
            rendered=rendered,
        )

    def predict(self, pictures: torch.Tensor) -> np.ndarray:
        """How old results `[n, A, 3, H, H]` look: years `[n, A]`."""
        return self.judges.age.predict(pictures.flatten(0, 1)).reshape(pictures.shape[:2])

    def look(
        self, judge: Extractor | None, pictures: torch.Tensor, words: str, *, keep: bool = False
    ) -> torch.Tensor | None:
        """The features `[n, A, D]` of pictures `[n, A, 3, H, H]`; None without a judge. `keep` caches them."""
        if judge is None:
            return None
        found = picture_features(pictures.flatten(0, 1), judge, words, keep=keep, progress=self.progress)
        return found.unflatten(0, pictures.shape[:2])

    def similarity(self, features: torch.Tensor | None) -> np.ndarray | None:
        """Cosines `[n, A]` of the first n people and results with these features, `[n, A, D]`; None without a judge."""
        if features is None or self.inputs is None:
            return None
        return similarities(self.inputs[: len(features)], features.numpy())

    def _identity(self, features: torch.Tensor | None, again: torch.Tensor | None) -> IdentityScores | None:
        if features is None or again is None or self.inputs is None:
            return None
        return identity_scores(
            self.inputs,
            features.numpy(),
            again[:, 0].numpy(),
            self.counts,
            distances=np.abs(self.targets - self.faces.ages[:, None]),
            threshold=self.threshold,
        )

    def _realism(
        self, results: torch.Tensor | None, reals: torch.Tensor | None
    ) -> tuple[Realism, list[Realism]] | tuple[None, None]:
        """Features `[N, targets, D]` of results against those of all real faces, `[M, 1, D]`."""
        if results is None or reals is None:
            return None, None
        return realism_scores(list(results.unbind(1)), [reals[indices, 0] for indices in self.reals], seed=self.seed)

    def _sex(self, pictures: torch.Tensor, features: torch.Tensor | None) -> SexScores | None:
        judge, inputs, results = self.judges.sex, self.faces.images, pictures
        if judge is None:
            return None
        if judge.takes_features and features is not None and self.inputs is not None:
            inputs, results = torch.from_numpy(self.inputs), features
        aged = judge.men(results.flatten(0, 1)).reshape(results.shape[:2])
        return sex_scores(judge.men(inputs), aged, self.counts)

    def _sharpness(self, pictures: torch.Tensor, template: AlignmentTemplate) -> tuple[float, float, float]:
        found = sharpness(pictures.flatten(0, 1), template).reshape(pictures.shape[:2])
        own = np.broadcast_to(sharpness(self.faces.images, template)[:, None], found.shape)
        return quartiles(np.divide(found, own, out=np.full_like(found, np.nan), where=own > 0))


def _scaled(features: torch.Tensor | None) -> torch.Tensor | None:
    return None if features is None else scale_unit_features(features)
