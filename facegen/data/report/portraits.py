"""How an archive looks: the mean face and a few faces of each group, in memory that does not grow with pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from facegen import images as pictures
from facegen.data.contents import Face
from facegen.errors import FacegenError
from facegen.parallel import map_in_order

SAMPLES = 8
MAX_SIDE = 256  # pixels of the pictures that are shown, and of the running sum
# The mean of 2,000 faces differs from that of all by less than a gray level; of large pictures fewer are taken.
MAX_AVERAGED, MIN_AVERAGED = 2000, 200


@dataclass(frozen=True)
class GroupPictures:
    """A group in pictures.

    Attributes:
        label: the group's name.
        count: faces in the group.
        averaged: faces in the mean: up to 2,000, spread evenly over the group's ages.
        mean: the mean face, RGB, at most 256 pixels wide; None for a group without a readable face.
        samples: faces from young to old, spread evenly over the group's ages.
    """

    label: str
    count: int
    averaged: int
    mean: Image.Image | None
    samples: list[tuple[Face, Image.Image]]


def portray(
    groups: Sequence[tuple[str, Sequence[Face]]],
    open_picture: Callable[[str], Image.Image],
    *,
    samples: int = SAMPLES,
    progress: bool = True,
) -> list[GroupPictures]:
    """Mean and samples of named groups of faces.

    `open_picture` turns a file name into a picture and is called from several threads; a picture for which it raises
    FacegenError is passed over. Which pictures are opened depends on the names and ages alone.
    """
    side, most = _sizes(groups, open_picture)

    def load(face: Face) -> np.ndarray | None:
        try:
            image = pictures.center_square(pictures.to_rgb(open_picture(face.name)))
        except FacegenError:
            return None
        if image.width != side:
            image = image.resize((side, side), Image.Resampling.LANCZOS)
        return np.asarray(image)

    plans = []
    for index, (_, faces) in enumerate(groups):
        by_age = sorted(faces, key=lambda face: (-1 if face.age is None else face.age, face.name))
        shown = _spread_at_random(len(by_age), samples, np.random.default_rng([0, index]))
        averaged = set(_spread(len(by_age), most))
        plans.append((by_age, shown, averaged, sorted(averaged.union(shown))))

    result = []
    with tqdm(
        desc="looking at faces", total=sum(len(plan[-1]) for plan in plans), unit="img", disable=not progress
    ) as bar:
        for (label, faces), (by_age, shown, averaged, chosen) in zip(groups, plans, strict=True):
            total, count, found = np.zeros((side, side, 3)), 0, []
            for index, array in zip(chosen, map_in_order(load, [by_age[i] for i in chosen]), strict=True):
                bar.update()
                if array is None:
                    continue
                if index in averaged:
                    total += array
                    count += 1
                if index in shown:
                    found.append((by_age[index], Image.fromarray(array)))
            mean = Image.fromarray((total / count).round().astype(np.uint8)) if count else None
            result.append(GroupPictures(label, len(faces), count, mean, found))
    return result


def _sizes(groups: Sequence[tuple[str, Sequence[Face]]], open_picture: Callable[[str], Image.Image]) -> tuple[int, int]:
    """The side to look at pictures in, and how many of each group to average, by the first that can be opened."""
    for _, faces in groups:
        for face in faces[:10]:
            try:
                resolution = max(min(open_picture(face.name).size), 1)
            except FacegenError:
                continue
            affordable = int(MAX_AVERAGED * (MAX_SIDE / resolution) ** 2)
            return min(resolution, MAX_SIDE), min(max(affordable, MIN_AVERAGED), MAX_AVERAGED)
    return 1, MIN_AVERAGED


def _spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` indices, evenly spaced over `range(count)`."""
    wanted = min(count, wanted)
    return [i * count // wanted for i in range(wanted)]


def _spread_at_random(count: int, wanted: int, rng: np.random.Generator) -> set[int]:
    """Up to `wanted` indices: one drawn from each of `wanted` equal stretches of `range(count)`."""
    wanted = min(count, wanted)
    return {int(rng.integers(i * count // wanted, (i + 1) * count // wanted)) for i in range(wanted)}
