"""The options of `facegen prepare`: how pictures are cropped, and which faces are taken. `--help` needs no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facegen.errors import FacegenError
from facegen.options import Options, option, shown

if TYPE_CHECKING:
    from facegen.faces.template import AlignmentTemplate

CROPS = ("as-is", "center", "align")
DHASH_BITS = 64


@dataclass(frozen=True)
class CropOptions(Options):
    """How a picture becomes the square picture of a face, and which pictures are dropped.

    Options for crop `align` are refused with another crop.
    """

    crop: str = option(
        "as-is",
        "as-is: keep square pictures, only resize. center: cut out the middle square. align: find the "
        "face and turn it upright.",
        choices=CROPS,
        unset="by data set",
    )
    resolution: int = option(64, "Side of the pictures in pixels, a power of two.", min=4, max=4096)
    margin: float = option(
        0.0, "align: widen the usual frame by this fraction; 0.5 makes it half again as wide.", min=-0.5, max=4
    )
    min_size: int = option(24, "Drop faces whose crop is narrower than this many pixels in the source picture.", min=0)
    min_sharpness: float = option(0.0, "Drop faces blurrier than this; try 50.", min=0)
    max_turn: float | None = option(
        None, "align: drop faces turned to the side by more than this many degrees.", min=0, max=90
    )
    several_faces: str = option(
        "largest",
        "align: use the largest face, or drop the picture. Faces smaller than a third of the largest do not count.",
        choices=("largest", "drop"),
    )
    no_face: str = option(
        "drop", "align: drop pictures without a face, or use their middle square.", choices=("drop", "center")
    )

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield (
            self.resolution & (self.resolution - 1) == 0,
            f"resolution is {self.resolution}: it must be a power of two (32, 64, 128, ...)",
        )
        for name in ("margin", "max_turn", "several_faces", "no_face") if self.crop != "align" else ():
            default = getattr(self, name) == getattr(CropOptions, name)
            yield default, f"{shown(name)} looks for faces: it needs crop align, not {self.crop}"

    @property
    def template(self) -> AlignmentTemplate | None:
        """Where crop `align` puts eyes, nose and mouth; None for the other crops, whose pictures must be measured."""
        if self.crop != "align":
            return None
        from facegen.faces.template import UTKFACE_TEMPLATE

        return UTKFACE_TEMPLATE.widened(self.margin)


def parse_split(text: str) -> tuple[tuple[str, float], ...]:
    """Read `train=0.9,val=0.1`. Raises FacegenError unless names differ and the shares sum to 1."""
    example = "write names and shares that sum to 1, as in train=0.9,val=0.1"
    split = []
    for part in text.split(","):
        name, _, share = part.partition("=")
        name = name.strip()
        try:
            split.append((name, float(share)))
        except ValueError:
            raise FacegenError(f"{part!r} is not a name and a share: {example}") from None
        if not name.replace("-", "").replace("_", "").isalnum():
            raise FacegenError(f"{name!r} cannot be part of a file name: {example}")
    if len({name for name, _ in split}) < len(split):
        raise FacegenError(f"a name is given twice: {example}")
    if any(not 0 < share <= 1 for _, share in split) or abs(sum(share for _, share in split) - 1) > 1e-6:
        raise FacegenError(f"the shares of {text} must be above 0 and sum to 1: {example}")
    return tuple(split)


@dataclass(frozen=True)
class Choice(Options):
    """How many faces to take, and how to split them."""

    max_per_group: int | None = option(
        None, "Keep at most this many faces per age group, chosen at random with --seed.", min=1
    )
    per_person: int | None = option(
        None,
        "Keep at most this many faces per person, chosen at random with --seed. Needs a data set that names people.",
        min=1,
    )
    near_duplicates: int | None = option(
        None,
        "Drop pictures that look like one already kept: their perceptual hashes differ in at most BITS of"
        " 64 bits; try 3.",
        metavar="BITS",
        unset="drop identical files only",
        min=0,
        max=DHASH_BITS // 2 - 1,
    )
    split: tuple[tuple[str, float], ...] = option(
        (),
        "Write one archive per part, such as train=0.9,val=0.1. Each person is in one part only.",
        metavar="SHARES",
        unset="one archive",
        parse=parse_split,
    )
    seed: int = option(0, "Seed for all random choices.")

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield abs(self.seed) < 2**63, f"seed must have at most 18 digits, got {self.seed}"
