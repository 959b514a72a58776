"""A system under test: one way of changing ages, and what it makes of the held-out faces."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from facegen.aging.edit import Edit
from facegen.aging.editing import EDITOR_MOST
from facegen.aging.paste import paste_results
from facegen.aging.results import FaceResult
from facegen.aging.strength import MOST
from facegen.aging.transfer import AgeTransfer
from facegen.evaluation.photos import Photos
from facegen.faces.template import Face
from facegen.images import to_rgb
from facegen.text import shown

PHOTO, FACE = "photo", "face"  # what a system gives: the photo at another age, and the face as it was generated


@dataclass(frozen=True)
class System:
    """One way of changing ages: two rows of the tables, its photos and its generated faces; of an editor the first.

    Attributes:
        name: What the rows are called.
        renderer: Makes the pictures.
        edit: How it changes ages; None for its default.
        description: What it is, for the report: files and settings.
    """

    name: str
    renderer: AgeTransfer
    edit: Edit | None
    description: dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """What a system made of the evaluated faces, as files would hold it.

    Attributes:
        inputs, reconstructions: uint8 `[N, 3, S, S]`, what the encoder saw and what became of it.
        photos: uint8 `[N, targets, 3, V, V]`, the photos at the target ages.
        faces: uint8 `[N, targets, 3, S, S]`, as generated.
        strengths: `[N, targets]`, how much of the change went into the photo.
        cap: The most that is tried; `at_cap`: share of the strengths that are that, None where they were given.
        seconds: `[N]`, each photo alone: encoding, reconstruction, all ages, their strengths and pasting.
        estimated: `[N]`, how old the system took each face for, in years; NaN where it was told.
        results: What it all is made of, to be pasted at other strengths.
    """

    inputs: torch.Tensor
    reconstructions: torch.Tensor
    photos: torch.Tensor
    faces: torch.Tensor
    strengths: np.ndarray
    cap: float
    at_cap: float | None
    seconds: np.ndarray
    estimated: np.ndarray
    results: list[FaceResult]

    @property
    def outputs(self) -> tuple[str, ...]:
        """What there is to judge: an editor generates no faces."""
        return (PHOTO,) if any(result.window is not None for result in self.results) else (PHOTO, FACE)

    def of(self, output: str) -> torch.Tensor:
        """The photos or the faces."""
        return self.photos if output == PHOTO else self.faces


def render_all(
    system: System, photos: Photos, targets: Sequence[float], *, give_ages: bool = True, progress: bool = True
) -> Rendered:
    """Let a system work on the evaluated faces, one after the other, as a user would.

    Args:
        targets: Ages in years.
        give_ages: Tell it the age of a face where it is known; otherwise it has to estimate.
        progress: Show a bar.
    """
    renderer = system.renderer
    results, pasted, seconds = list[FaceResult](), list[torch.Tensor](), []
    first, last = renderer.groups.bounds[0][0], renderer.groups.bounds[-1][1]
    side = photos.images.shape[-1]
    bar = tqdm(range(photos.tested), f"{shown(system.name, 40)}: aging", unit="face", disable=not progress)
    for index in bar:
        photo, age = as_picture(photos.images[index]), photos.ages[index]
        # Older than all groups counts as the last.
        given = [float(np.clip(age, first, last))] if give_ages and np.isfinite(age) else None
        face = Face((0, 0, side, side), 1.0, photos.landmarks[index])
        start = time.perf_counter()
        ((result,),) = renderer.age_found([photo], [[face]], targets, input_age=given, edit=system.edit)
        pasted.append(photo_at_ages(photo, result, renderer))
        seconds.append(time.perf_counter() - start)
        results.append(result)
    strengths = np.array([[face.strength for face in result.aged] for result in results])
    cap = MOST if results[0].window is None else EDITOR_MOST
    is_solved = system.edit is None or system.edit.strength is None
    return Rendered(
        inputs=_stack((result.input for result in results), renderer.size),
        reconstructions=_stack((result.reconstruction for result in results), renderer.size),
        photos=torch.stack(pasted),
        faces=torch.stack([_stack((face.image for face in result.aged), renderer.size) for result in results]),
        strengths=strengths,
        cap=cap,
        at_cap=float((strengths >= cap - 1e-6).mean()) if is_solved else None,
        seconds=np.array(seconds),
        estimated=np.array([result.input_age if result.age_is_estimated else np.nan for result in results]),
        results=results,
    )


def photo_at_ages(
    photo: Image.Image, result: FaceResult, renderer: AgeTransfer, strength: float | None = None
) -> torch.Tensor:
    """The photo at every age, uint8 `[A, 3, V, V]`, as `facegen transfer` writes it; None for its own strengths."""
    if strength is not None:
        result = replace(result, aged=[replace(face, strength=strength) for face in result.aged])
    return _stack(aged for _, aged in paste_results(photo, [result], template=renderer.template))


def as_picture(image: torch.Tensor) -> Image.Image:
    """A picture uint8 `[3, H, W]` as Pillow has it."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def _stack(pictures: Iterable[Image.Image], side: int | None = None) -> torch.Tensor:
    """Pictures of one size, or resized to squares of this side, as uint8 `[N, 3, H, W]`."""
    rgb = [to_rgb(picture) for picture in pictures]
    if side is not None:
        rgb = [picture.resize((side, side), Image.Resampling.LANCZOS) for picture in rgb]  # itself, if it has that size
    pixels = np.stack([np.asarray(picture) for picture in rgb])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
