"""A system that needs no network, judges that are formulas, and a tiny archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_faces
from PIL import Image

from facegen.ages import AgeGroups
from facegen.aging.results import AgedFace, FaceResult
from facegen.evaluation.judges import AgeJudge, Judges, SexJudge
from facegen.evaluation.photos import Photos
from facegen.evaluation.system import System
from facegen.faces.align import align_face
from facegen.faces.template import UTKFACE_TEMPLATE, alignment_matrix
from facegen.metrics.features import Extractor

GROUPS = AgeGroups.parse("0-20,21-40,41-60,61-80")
SIZE = 16


PLACE = slice(6, 10)  # where a face shows its age, in rows and columns: in the middle, where a photo may change


class Oracle:
    """A renderer that knows the answer: the middle of a face tells its age, the rest stays the person's.

    Args:
        aging: Whether results have the target age; else they are the input.
        persons: Whether results keep the person; else they are all one picture.
        strength: How much of the change goes into the photo.
    """

    groups, template, device, size = GROUPS, UTKFACE_TEMPLATE, torch.device("cpu"), SIZE

    def __init__(self, aging: bool = True, persons: bool = True, strength: float = 1.0) -> None:
        self.aging, self.persons, self.strength = aging, persons, strength
        self.told: list[list[float] | None] = []

    def age_found(self, images, found, ages: Sequence[float], *, input_age=None, edit=None) -> list[list[FaceResult]]:
        self.told.append(input_age)
        face = align_face(images[0], found[0][0], self.template, SIZE)
        pixels = np.asarray(face).transpose(2, 0, 1)
        aged = []
        for age in ages:
            picture = pixels if self.persons else np.full_like(pixels, 160)
            picture = write_age(picture, age) if self.aging else picture
            aged.append(AgedFace(f"{age:g}", age, 0, Image.fromarray(picture.transpose(1, 2, 0)), self.strength))
        result = FaceResult(
            box=found[0][0].box,
            matrix=alignment_matrix(found[0][0], self.template, SIZE),
            input=face,
            reconstruction=face,
            input_age=input_age[0] if input_age else 0.0,
            input_group=0,
            aged=aged,
            latent=np.zeros(1),
            age_is_estimated=input_age is None,
        )
        return [[result]]


def write_age(pixels: np.ndarray, age: float) -> np.ndarray:
    """The picture, uint8 `[3, S, S]`, with the age in its middle, where `judges` read it."""
    pixels = pixels.copy()
    pixels[:, PLACE, PLACE] = age
    return pixels


@pytest.fixture
def judges() -> Judges:
    """The age is the level of the middle, a person the mean colors of the quarters around it; reddish is a man."""

    def years(images: torch.Tensor) -> np.ndarray:
        return as_small(images)[:, :, PLACE, PLACE].mean(dim=(1, 2, 3)).numpy()

    def person(images: torch.Tensor) -> torch.Tensor:
        around = as_small(images) - 127.5
        around[:, :, PLACE, PLACE] = 0
        return torch.nn.functional.normalize(torch.nn.functional.adaptive_avg_pool2d(around, 2).flatten(1).float())

    def men(images: torch.Tensor) -> np.ndarray:
        red, green = as_small(images)[:, :2, :4].mean(dim=(2, 3)).unbind(dim=1)
        return (red > green).double().numpy()

    return Judges(AgeJudge("middle", years), Extractor("colors", person), SexJudge("red", men))


def as_small(images: torch.Tensor) -> torch.Tensor:
    """Pictures as float64 `[N, 3, SIZE, SIZE]`."""
    return torch.nn.functional.interpolate(images.double(), (SIZE, SIZE), mode="area")


@pytest.fixture
def photos() -> Photos:
    """24 people of known age, and 16 more real faces."""
    random = np.random.default_rng(0)
    ages = random.integers(0, 80, 40).astype(float)
    pixels = [write_age(random.integers(0, 256, (3, SIZE, SIZE), np.uint8), age) for age in ages]
    names = [f"{index}.png" for index in range(40)]
    stack, nobody = torch.from_numpy(np.stack(pixels)), [None] * 40
    landmarks = np.tile(np.array(UTKFACE_TEMPLATE.points) * SIZE, [40, 1, 1])
    return Photos(Path("faces.zip"), names, stack, landmarks, ages, nobody, tested=24, available=40)


@pytest.fixture
def system():
    """A function (name, **how) -> a system with an `Oracle`."""
    return lambda name="oracle", **how: System(name, Oracle(**how), None, {"encoder": "none"})


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve crops of one face, 16x16, as a training archive with ages."""
    return write_faces(tmp_path_factory.mktemp("held") / "held.zip", range(4, 100, 8))
