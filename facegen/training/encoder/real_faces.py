"""Real faces with their ages, beside the generated ones that an encoder learns from."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from facegen.ages import AgeGroups
from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.training.generator.batches import picture_weights

BALANCE = 0.5  # old faces are few; half-way between as many as there are and as many as of any age
HELD_BACK = 500  # at most this many validate
HELD_BACK_SHARE = 0.05


@dataclass
class RealFaces:
    """N real faces on the CPU.

    images: uint8 [N, 3, S, S].
    ages: float32 [N], years; the middle of its group where a picture's age is not known exactly.
    weights: float64 [N], how often each is drawn.
    """

    images: torch.Tensor
    ages: torch.Tensor
    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def split(self, seed: int) -> tuple[RealFaces, RealFaces]:
        """Those to train on and, by chance, a few to validate with."""
        count = max(1, min(HELD_BACK, round(len(self) * HELD_BACK_SHARE)))
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self._part(order[count:]), self._part(order[:count])

    def draw(self, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices [count] by weight, and whether to mirror each; the same for the same seed."""
        random = torch.Generator().manual_seed(seed)
        indices = torch.multinomial(self.weights, count, replacement=True, generator=random)
        return indices, torch.rand(count, generator=random) < 0.5

    def _part(self, indices: torch.Tensor) -> RealFaces:
        return RealFaces(self.images[indices], self.ages[indices], self.weights[indices])


def open_real_faces(path: str | os.PathLike[str], groups: AgeGroups, resolution: int) -> FaceArchive:
    """Open a training archive and see that it fits a generator with these age groups and pictures of this size.

    Raises:
        FileNotFoundError, FacegenError: no archive, or one for another generator.
    """
    archive = FaceArchive(path)
    if archive.resolution != resolution:
        raise FacegenError(
            f"{path}: pictures of {archive.resolution} pixels, but the generator makes {resolution}: "
            f"facegen prepare --resolution {resolution}"
        )
    if archive.c_dim != len(groups) or (archive.groups is not None and archive.groups != groups):
        raise FacegenError(
            f"{path}: its classes are {', '.join(archive.class_names) or 'unknown'}, "
            f"but the generator's age groups are {groups}: facegen prepare --groups {groups}"
        )
    if len(archive) < 2:
        raise FacegenError(f"{path}: one picture is not enough; one is needed for validation")
    return archive


def load_real_faces(
    path: str | os.PathLike[str], groups: AgeGroups, resolution: int, *, progress: bool = True
) -> RealFaces:
    """Decode a training archive into memory; arguments and errors are those of `open_real_faces`."""
    archive = open_real_faces(path, groups, resolution)
    images = torch.from_numpy(archive.load_all(progress=progress)).expand(-1, 3, -1, -1)
    archive.close()
    labels = torch.from_numpy(archive.labels)
    middles = torch.tensor([float(groups.middle_age(index)) for index in range(len(groups))])
    ages = middles[labels]
    if archive.ages is not None:
        exact = torch.from_numpy(archive.ages).float()
        ages = torch.where(exact >= 0, exact, ages)
    return RealFaces(images, ages, torch.from_numpy(picture_weights(archive.labels, BALANCE)))
