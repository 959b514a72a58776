"""A photo projected in one call, for Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from facegen.latents.labels import Label
from facegen.latents.projection.options import ProjectionOptions
from facegen.latents.projection.save import Projector, age_shift_of, checked_ages, fitting_encoder, ws_at_ages
from facegen.latents.projection.targets import Targets, open_judge
from facegen.latents.space import LatentSpace
from facegen.status import StopRequest


@dataclass(frozen=True)
class ProjectedPhoto:
    """What the projection of a photo came to.

    target: the face, as it was cut from the photo.
    note: what was done to the photo, as text.
    w: `[num_ws, w_dim]`, what draws it.
    years: how old it is or looks; None for a generator without age groups.
    aged: the w of the face at the ages asked for, `[A, num_ws, w_dim]`.
    loss: how different the picture of w looks from the target.
    """

    target: Image.Image
    note: str
    w: torch.Tensor
    years: float | None
    aged: torch.Tensor
    loss: float


def project_photo(
    space: LatentSpace,
    photo: str | os.PathLike[str],
    options: ProjectionOptions | None = None,
    *,
    label: Label | None = None,
    ages: Sequence[float] = (),
) -> ProjectedPhoto:
    """Find the w whose picture is closest to a photo; Ctrl-C returns the best so far.

    Args:
        space: the generator's.
        options: None means those of `facegen project`.
        label: the class from whose mean the search starts; None means that of the age the face looks.
        ages: ages at which to show the face too.

    Raises:
        FileNotFoundError, FacegenError: a photo that cannot be read, missing weights, or ages that the generator does
            not have.
    """
    options = options or ProjectionOptions()
    target = Targets(space, options.align, label).open(photo)
    wanted = checked_ages(space, ages) if ages else []
    encoder = fitting_encoder(space, None, None) if wanted or options.start == "encoder" else None
    projector = Projector(space, open_judge(options.distance, space.device), options, encoder)
    with StopRequest() as stop:
        [found] = projector.project([target], stop)
    aged = found.w.new_zeros([0, *found.w.shape])
    if wanted:
        aged = ws_at_ages(age_shift_of(space, encoder), found.w, target.years, wanted)
    return ProjectedPhoto(target.picture, target.note, found.w, target.years, aged, found.loss)
