"""A system that needs no network, judges that are formulas, and a tiny archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_faces

from facegen.ages import AgeGroups
from facegen.evaluation.evaluate import Judges
from facegen.evaluation.judges import AgeJudge
from facegen.evaluation.photos import Photos
from facegen.evaluation.system import System
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.metrics.features import Extractor

GROUPS = AgeGroups.parse("0-20,21-40,41-60,61-80")
SIZE = 16


@dataclass
class Rendering:
    reconstructions: torch.Tensor
    aged: torch.Tensor
    input_ages: torch.Tensor


class Oracle:
    """A renderer that knows the answer: the first row of pixels tells the age, the others stay the person's.

    Args:
        aging: Whether results have the target age; else they are the input.
        persons: Whether results keep the person; else they are all one picture.
    """

    groups, template, device, size = GROUPS, UTKFACE_TEMPLATE, torch.device("cpu"), SIZE

    def __init__(self, aging: bool = True, persons: bool = True) -> None:
        self.aging, self.persons = aging, persons
        self.told: list[list[float] | None] = []

    def render(self, faces: torch.Tensor, ages: Sequence[float], *, input_ages=None, **options) -> Rendering:
        self.told.append(input_ages)
        aged = faces[:, None].repeat(1, len(ages), 1, 1, 1)
        if not self.persons:
            aged[:] = 0.25
        if self.aging:
            for index, age in enumerate(ages):
                aged[:, index, :, 0] = age / 127.5 - 1
        return Rendering(faces, aged, torch.tensor(input_ages or [0.0]))


def write_age(pixels: np.ndarray, age: float) -> np.ndarray:
    """The picture, uint8 `[3, S, S]`, with the age in its first row, where `judges` read it."""
    pixels = pixels.copy()
    pixels[:, 0] = age
    return pixels


@pytest.fixture
def judges() -> Judges:
    """The age is the value of the first row; a person is the mean colors of the quarters below it."""

    def years(images: torch.Tensor) -> np.ndarray:
        return images[:, :, 0].double().mean(dim=(1, 2)).numpy()

    def person(images: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.adaptive_avg_pool2d(images[:, :, 1:].float() - 127.5, 2)
        return torch.nn.functional.normalize(small.flatten(1))

    return Judges(AgeJudge("first row", years), Extractor("colors", person))


@pytest.fixture
def photos() -> Photos:
    """24 people of known age, and 16 more real faces."""
    random = np.random.default_rng(0)
    ages = random.integers(0, 80, 40).astype(float)
    pixels = [write_age(random.integers(0, 256, (3, SIZE, SIZE), np.uint8), age) for age in ages]
    names = [f"{index}.png" for index in range(40)]
    return Photos(Path("faces.zip"), names, torch.from_numpy(np.stack(pixels)), ages, tested=24, available=40)


@pytest.fixture
def system():
    """A function (name, **how) -> a system with an `Oracle`."""
    return lambda name="oracle", **how: System(name, Oracle(**how), None, {"encoder": "none"})


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve crops of one face, 16x16, as a training archive with ages."""
    return write_faces(tmp_path_factory.mktemp("held") / "held.zip", range(4, 100, 8))
