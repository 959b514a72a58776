"""Faces with their exact ages in memory: what the age estimator learns from and is measured on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from facegen.ages import AgeGroups
from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.networks.age_estimator import AGES
from facegen.training.age.options import HALVES, AgeOptions
from facegen.training.run.data import note_of

SPLIT_SEED = 101  # splits the halves always the same way, or a judge would have seen pictures of what it judges
SEX = "gender"  # the attribute of an archive by which errors are told apart
_CHUNK = 1024  # pictures resized at once


@dataclass
class AgedFaces:
    """N faces and their ages, on the CPU.

    images: uint8 [N, 3, S, S], levels as in a picture file.
    ages: int64 [N], in years, from 0 upwards.
    groups: the archive's age groups, else the ten default ones.
    sexes: [N] of what the archive says, such as `female`; empty where it is unknown. None: nothing is known.
    """

    images: torch.Tensor
    ages: torch.Tensor
    groups: AgeGroups
    sexes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ages)

    def part(self, indices: np.ndarray | slice) -> AgedFaces:
        """These faces alone."""
        sexes = None if self.sexes is None else self.sexes[indices]
        return AgedFaces(self.images[indices], self.ages[indices], self.groups, sexes)

    @property
    def classes(self) -> np.ndarray:
        """The age group of each face, int64 `[N]`; those between the groups are one more group."""
        return np.array(
            [len(self.groups) if (g := self.groups.index_of(age)) is None else g for age in self.ages.tolist()]
        )


@dataclass
class AgeData:
    """The faces that a run trains on and those that validate."""

    training: AgedFaces
    validation: AgedFaces

    @property
    def median(self) -> int:
        """The median age of the training faces."""
        return int(self.training.ages.median())

    @property
    def baseline(self) -> float:
        """The mean absolute error, in years, of who answers with the median for every face."""
        return float((self.validation.ages - self.median).abs().float().mean())


def load_aged_faces(path: str | os.PathLike[str], size: int, *, progress: bool = True) -> AgedFaces:
    """Read the faces of a training archive whose exact age is known, reduced or enlarged to `size` pixels.

    Raises:
        FileNotFoundError, FacegenError: no such archive, or it has no exact ages.
    """
    archive = FaceArchive(path, use_labels=False)
    ages = archive.ages if archive.ages is not None else np.zeros(0, np.int64)
    known = np.flatnonzero(ages >= 0)
    if len(known) == 0:
        raise FacegenError(
            f"{path}: it has no exact ages (facegen.json), which an age estimator needs; prepare the archive from "
            "a data set with exact ages (facegen prepare)"
        )
    images = torch.from_numpy(archive.load_all(progress=progress))[torch.from_numpy(known)]
    archive.close()
    sexes = _sexes(archive)
    images = images.expand(-1, 3, -1, -1)
    if images.shape[-1] != size:
        images = torch.cat([_resize(chunk, size) for chunk in images.split(_CHUNK)])
    groups = archive.groups or AgeGroups.default()
    sexes = None if sexes is None else sexes[known]
    return AgedFaces(images.contiguous(), torch.from_numpy(ages[known]), groups, sexes)


def _sexes(archive: FaceArchive) -> np.ndarray | None:
    """What an archive says of the sex of its faces, `[N]`, empty where it does not know it; None if it never does."""
    try:
        return np.array([value or "" for value in archive.attribute(SEX)])
    except FacegenError:
        return None


def load_data(options: AgeOptions, *, progress: bool = True) -> AgeData:
    """Read the faces of a run."""
    faces = load_aged_faces(options.data, options.side, progress=progress)
    if options.val is not None:
        validation = load_aged_faces(options.val, options.side, progress=progress)
        training = faces.part(half_of(len(faces), options.half))
    else:
        kept_back = np.arange(len(faces)) % 10 == 9
        validation = faces.part(np.flatnonzero(kept_back))
        faces = faces.part(np.flatnonzero(~kept_back))
        training = faces.part(half_of(len(faces), options.half))
    if len(training) < options.batch or len(validation) == 0:
        raise FacegenError(
            f"{options.data}: {len(training)} faces to train on, {len(validation)} to validate with: "
            f"too few for a batch of {options.batch}"
        )
    return AgeData(training, validation)


def note_of_faces(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a run notes of an archive with exact ages; its classes are the age groups."""
    archive = FaceArchive(path, use_labels=False)
    return note_of(archive, (archive.groups or AgeGroups.default()).labels)


def half_of(count: int, half: str | None) -> np.ndarray:
    """Return which of `count` pictures are in a half, sorted; None for all.

    The split is random but always the same: `first` and `second` have no picture in common and leave none out.

    Raises:
        FacegenError: no such half.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    if half is None:
        return np.arange(count)
    if half not in HALVES:
        raise FacegenError(f"half is one of {', '.join(HALVES)}, got {half!r}")
    return np.sort(order[: count // 2] if half == "first" else order[count // 2 :])


def age_targets(ages: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return a distribution over 0..100 around each age: float32 `[N, 101]`, normal with `sigma` years, each sum 1.

    Label distributions instead of one hot: Geng et al. 2013; a face of 30 looks like one of 29.
    """
    years = torch.arange(AGES, dtype=torch.float32, device=ages.device)
    distance = (years - ages.clamp(0, AGES - 1).float()[:, None]) / sigma
    return (-0.5 * distance.square()).softmax(dim=1)


def errors_by_group(predicted: torch.Tensor, faces: AgedFaces) -> dict[str, dict[str, float]]:
    """Return for each age group that has faces: `faces`, `mae` and `bias` (mean of predicted minus true) in years."""
    classes = faces.classes
    return _errors(predicted, faces, {label: classes == i for i, label in enumerate(faces.groups.labels)})


def errors_by_sex(predicted: torch.Tensor, faces: AgedFaces) -> dict[str, dict[str, float]]:
    """Return what `errors_by_group` does, for each sex that the archive tells apart; nothing if it tells none."""
    sexes = np.array([], str) if faces.sexes is None else faces.sexes
    return _errors(predicted, faces, {str(sex): sexes == sex for sex in np.unique(sexes) if sex})


def _errors(predicted: torch.Tensor, faces: AgedFaces, kinds: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """The errors of each kind of faces; a kind says of every face whether it belongs to it, `[N]`."""
    error = (predicted - faces.ages).double().numpy()
    return {
        label: {
            "faces": int(chosen.sum()),
            "mae": round(float(np.abs(error[chosen]).mean()), 2),
            "bias": round(float(error[chosen].mean()), 2),
        }
        for label, chosen in kinds.items()
        if chosen.any()
    }


def _resize(images: torch.Tensor, size: int) -> torch.Tensor:
    resized = functional.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
