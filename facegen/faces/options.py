"""The options of `facegen faces`: which faces, and what is cut out. `--help` needs no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from facegen.errors import FacegenError
from facegen.options import Options, option

SELECTIONS = ("all", "largest", "probability", "center", "over-threshold")


def parse_thresholds(text: str) -> tuple[float, ...]:
    """Read `0.6,0.7,0.7`. Raises FacegenError unless these are three numbers."""
    try:
        one, two, three = (float(part) for part in text.split(","))
    except ValueError:
        raise FacegenError(f"{text!r}: give three numbers, as in 0.6,0.7,0.7") from None
    return one, two, three


@dataclass(frozen=True)
class FaceOptions(Options):
    """Which faces of a photo are taken, and what their pictures show."""

    plain: bool = option(False, "Crop the square around the box instead of turning the face upright.", flag=True)
    size: int = option(160, "Side of the pictures in pixels.", min=4, max=4096)
    margin: float = option(0.0, "Widen the frame by this fraction; 0.5 makes it half again as wide.", min=-0.5, max=4)
    select: str = option(
        "all",
        "Keep all faces of a photo, or one: the largest, the most probable, a large one near the center, "
        "or the largest with a probability over 0.9.",
        choices=SELECTIONS,
    )
    min_face: int | None = option(
        None, "Smallest face in pixels of the photo.", unset="20 pixels once the photo is scaled to 1280", min=20
    )
    thresholds: tuple[float, ...] | None = option(
        None,
        "Minimum probability for each of MTCNN's three networks.",
        metavar="P,P,P",
        unset="0.6,0.7,0.7, and 0.9 for the face",
        parse=parse_thresholds,
    )
    factor: float = option(
        0.709, "Factor by which MTCNN shrinks the photo from one search to the next.", above=0, max=0.95
    )

    def rules(self) -> Iterable[tuple[bool, str]]:
        good = self.thresholds is None or all(0 <= value < 1 for value in self.thresholds)
        yield good, f"thresholds {self.thresholds}: each is at least 0 and below 1"
