"""What is projected: photos as a generator's training faces were cut out, with their class; and who judges likeness."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facegen.aging.edit import group_of
from facegen.errors import FacegenError
from facegen.faces.align import completed, cut_face, in_photo
from facegen.faces.find import find_faces
from facegen.faces.template import AlignmentTemplate, alignment_matrix
from facegen.images import center_square, open_photo, to_float
from facegen.latents.labels import Label
from facegen.latents.projection.project import Judge
from facegen.latents.space import LatentSpace
from facegen.metrics.features import LPIPS_URL, VGG_URL, load_distance, locate_weights
from facegen.networks.age_estimator import AgeEstimator
from facegen.training.perceptual_loss import PerceptualLoss
from facegen.weights.load import load_age_estimator
from facegen.weights.locate import shipped_file

PIXELS = 4.0  # weight of the pixels' mean squared error beside the features' distance


@dataclass(frozen=True)
class Target:
    """A picture to project.

    picture: of the generator's size, RGB, of a gray generator L.
    label: the class from whose mean it starts.
    years: how old the face is; None for a generator whose classes are no age groups.
    note: what was done to the photo, as text.
    """

    picture: Image.Image
    label: Label
    years: float | None
    note: str

    def tensor(self, device: torch.device) -> torch.Tensor:
        """The picture as networks see it, `[3, S, S]` in -1..1."""
        return to_float(torch.from_numpy(np.array(self.picture.convert("RGB"))).to(device).permute(2, 0, 1))


class Targets:
    """Opens photos as targets for a generator.

    Args:
        space: the generator's.
        align: see `aligned`.
        label: the class of all; None asks the age estimator.
        years: the age of all; None estimated.
    """

    def __init__(
        self, space: LatentSpace, align: str = "auto", label: Label | None = None, years: float | None = None
    ) -> None:
        classes = space.classes
        if classes.c_dim > 0 and label is None and classes.groups is None:
            raise FacegenError(
                "this generator's file does not say that its classes are age groups, so the picture's class is "
                f"unknown: give --class or --groups; it has {classes.in_words}"
            )
        self.space, self.align, self.years = space, align, years
        self.label = classes.choose()[0] if classes.c_dim == 0 else label

    def open(self, path: str | os.PathLike[str]) -> Target:
        """Open a photo; raises as `open_photo` does."""
        generator, groups = self.space.generator, self.space.classes.groups
        template = self.space.header.template if self.align == "auto" else None
        picture, note = aligned(open_photo(path), template, generator.img_resolution)
        picture = picture.convert("L") if generator.img_channels == 1 else picture
        if groups is None:
            assert self.label is not None  # as the constructor has seen to
            return Target(picture, self.label, None, note)
        years, found = self.years, self.label
        if years is None:
            years = round(self._estimated(picture), 1)
            note += f", looks {years:.0f}"
        if found is None:
            index = group_of(years, groups)
            found = self.space.classes.choose(classes=str(index))[0]
            note += f": group {groups.labels[index]}"
        return Target(picture, found, years, note)

    def _estimated(self, picture: Image.Image) -> float:
        groups = self.space.classes.groups
        assert groups is not None
        tensor = to_float(torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1))
        with torch.no_grad():
            years = self._estimator.predict(tensor[None])
        return float(years.clamp(groups.middle_age(0), groups.middle_age(len(groups) - 1)))

    @cached_property
    def _estimator(self) -> AgeEstimator:
        return load_age_estimator(shipped_file("age"))[0].eval()


def aligned(photo: Image.Image, template: AlignmentTemplate | None, size: int) -> tuple[Image.Image, str]:
    """Return a photo as a square of `size` pixels, and a text that says what was done.

    Args:
        photo: RGB.
        template: where landmarks go: the largest face is cut out so, unless the photo has that size already, as aligned
            pictures have. None takes the middle square, as the ancestors do.
    """
    square = center_square(photo).resize((size, size), Image.Resampling.LANCZOS)
    if photo.size == (size, size):
        return photo, "taken as it is"
    if template is None:
        return square, "the middle square"
    faces = find_faces(photo)
    if not faces:
        return square, "no face found: the middle square"
    matrix = alignment_matrix(faces[0], template, size)
    face = completed(cut_face(photo, matrix, size), in_photo(matrix, size, photo.size))
    return face, "face aligned" if len(faces) == 1 else f"the largest of {len(faces)} faces, aligned"


class LiteDistance:
    """How different pictures look by the features in the package, whose channels say little of colors, and by pixels.

    Without pixels, faces came out redder than they were: in w, the squared error of 3 photos was twice as large.
    """

    def __init__(self, device: torch.device) -> None:
        self._loss = PerceptualLoss().to(device).requires_grad_(False)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [*self._loss.features(images), images]

    def between(self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
        apart = (first[-1] - second[-1]).square().mean(dim=(1, 2, 3))
        return self._loss.between(first[:-1], second[:-1]) + PIXELS * apart


def open_judge(distance: str, device: torch.device, vgg: Path | None = None, lpips: Path | None = None) -> Judge:
    """Return who judges likeness, `lpips` or `lite`.

    Args:
        vgg, lpips: weight files of LPIPS; None downloads them once.

    Raises:
        FileNotFoundError, FacegenError: weights that are missing, damaged or cannot be downloaded.
    """
    if distance == "lite":
        return LiteDistance(device)
    try:
        files = locate_weights(vgg, VGG_URL, "--vgg"), locate_weights(lpips, LPIPS_URL, "--lpips")
    except FacegenError as error:
        raise FacegenError(f"{error}; or use --distance lite, whose weights come with facegen") from error
    judge = load_distance(*files, device)
    if device.type == "cpu":  # a tenth faster
        judge.layers.to(memory_format=torch.channels_last)
    return judge


def stacked(targets: Sequence[Target], device: torch.device) -> torch.Tensor:
    """The pictures of targets, `[N, 3, S, S]` in -1..1."""
    return torch.stack([target.tensor(device) for target in targets])
