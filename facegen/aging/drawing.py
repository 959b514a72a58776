"""Draw a face of a photo at other ages with the generator, and collect the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from facegen.aging.change import FaceChange
from facegen.aging.edit import Age, Edit, group_of
from facegen.aging.results import AgedFace, FaceResult
from facegen.aging.strength import MOST
from facegen.faces.find import yaw
from facegen.faces.mask import share_inside
from facegen.faces.template import AlignmentTemplate, Face, alignment_matrix, template_of
from facegen.figures.grids import to_pixels
from facegen.images import shows_no_color

if TYPE_CHECKING:
    from facegen.aging.transfer import AgeTransfer, Rendered


class DrawnFace:
    """What the generator changes in one face at some ages: a `facegen.aging.strength.Change`.

    Args:
        face: as it was cut from the photo.
        copy: its reconstruction.
        aged: the face at the ages.
        years: by how much it is older in each of them.
        template: where the landmarks lie in all of these.
    """

    most = MOST

    def __init__(
        self,
        face: Image.Image,
        copy: Image.Image,
        aged: Sequence[Image.Image],
        years: Sequence[float],
        template: AlignmentTemplate,
    ) -> None:
        self.seen, self._aged, self._years = face, aged, years
        self._change = FaceChange(face, copy, template)
        self.understood = self._change.understood

    def added(self, index: int, strength: float) -> np.ndarray:
        return self._change.to(self._aged[index], strength, self._years[index])

    def added_to_seen(self, index: int, strength: float) -> np.ndarray:
        return self.added(index, strength) * self._change.mask


def drawn_faces(
    transfer: AgeTransfer,
    photo: Image.Image,
    faces: Sequence[Face],
    inputs: Sequence[Image.Image],
    rendered: Rendered,
    ages: Sequence[Age],
    edit: Edit,
    *,
    estimated: bool,
) -> list[FaceResult]:
    """The results for the faces of one photo.

    Args:
        transfer: decides how strong the changes must be.
        inputs: the faces as the encoder saw them; `rendered` is what was made of them.
        estimated: the ages of the faces were not given.
    """
    has_color = not faces or not shows_no_color(photo)
    reconstructions = drawn_pictures(rendered.reconstructions, has_color)
    results = []
    for index, face in enumerate(faces):
        own = round(float(rendered.input_ages[index]), 1)
        matrix = alignment_matrix(face, transfer.template, transfer.size)
        template = template_of(face, matrix, transfer.size)
        pictures = drawn_pictures(rendered.aged[index], has_color)
        change = DrawnFace(inputs[index], reconstructions[index], pictures, [age.years - own for age in ages], template)
        strengths, looks = transfer.strengths(change, [age.years for age in ages], edit.strength)
        result = FaceResult(
            box=face.box,
            matrix=matrix,
            input=inputs[index],
            reconstruction=reconstructions[index],
            input_age=own,
            input_group=group_of(own, transfer.groups),
            aged=[
                AgedFace(age.caption, age.years, age.group, picture, part, look)
                for age, picture, part, look in zip(ages, pictures, strengths, looks, strict=True)
            ],
            latent=rendered.latents[index].cpu().numpy(),
            age_is_estimated=estimated,
            understood=change.understood,
            yaw=yaw(face),
            inside=share_inside(matrix, transfer.size, photo.size, template),
            template=template,
        )
        results.append(result)
    return results


def drawn_pictures(images: torch.Tensor, has_color: bool = True) -> list[Image.Image]:
    """What the generator has drawn, `[N, 3, S, S]`, as pictures; it knows faces in color only."""
    pictures = [Image.fromarray(image) for image in to_pixels(images)]
    return pictures if has_color else [picture.convert("L").convert("RGB") for picture in pictures]
