"""What to do: which ages to show, and how a face changes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from facegen.ages import OLDEST_PERSON, AgeGroups
from facegen.errors import FacegenError, shorten
from facegen.options import PSI_NAMES, Options, option
from facegen.text import number_range

ALL = "all"  # the middle age of every group
METHODS = ("swap", "shift", "editor")
PASTE_MODES = ("change", "face")  # see `paste`
OUTPUTS = ("photo", "face", "both")
VIDEO_SUFFIXES = (".mp4", ".gif")
FORMATS = ("same", "jpg", "png", "webp", "heic", "avif")  # see `facegen.photos.save`
MAX_AGES = 1000
HELD = ("sex",)
# Karras et al. 2019, section 3.1: coarse styles are those of 4x4 and 8x8, middle ones of 16x16 and 32x32, fine ones of
# the rest. A w is counted at the resolution whose convolution it steers.
PARTS = {"coarse": (0, 3), "middle": (3, 7), "fine": (7, None)}

_RANGE = re.compile(r"(-?[\d.]+):(-?[\d.]+)(?::(-?[\d.]+))?")
_AGES_EXAMPLE = "write years, as in 5,25,45,65,85, or start:stop:step, as in 5:90:5"


def parse_strength(text: str) -> float | None:
    """Read `auto`, which is None, or a number; raises a FacegenError for anything else."""
    if text.strip().lower() == "auto":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise FacegenError(f"strength {text!r}: write auto, or a number from 0 to 3, as in 1.5") from error


def parse_hold(text: str) -> list[str]:
    """Read what to hold, `sex` or `none`; raises a FacegenError for anything else."""
    names = [] if text.strip().lower() == "none" else [part.strip().lower() for part in text.split(",")]
    if unknown := [name for name in names if name not in HELD]:
        raise FacegenError(f"hold {unknown[0]!r}: write {', '.join(HELD)}, or none")
    return names


@dataclass(frozen=True)
class Edit(Options):
    """How age transfer changes a face."""

    method: str | None = option(
        None,
        "swap: keep z and change the age group (needs an encoder that predicts z). shift: move w from one"
        " age to the other. editor: let an editor change the photo.",
        choices=METHODS,
        unset="swap if the encoder predicts z, else shift",
    )
    layers: str | Sequence[int] | None = option(
        None, "Change only these layers: coarse, middle, fine, or numbers such as 0-3,7.", metavar="LAYERS", unset="all"
    )
    psi: float = option(1.0, "Below 1, pull faces toward the mean face of their age.", also=PSI_NAMES)
    refine: int = option(
        0,
        "Fit the latent and the generator to each face in this many steps; try 150.",
        metavar="STEPS",
        min=0,
    )
    refine_seconds: float | None = option(None, "Limit refinement to about S seconds per face.", metavar="S", above=0)
    strength: float | None = option(
        None,
        "How much of the change to apply. auto: as little as makes the face look the target age.",
        metavar="auto|0.0-3.0",
        parse=parse_strength,
        unset="auto",
        min=0,
        max=3,
    )
    hold: Sequence[str] | None = option(
        None,
        "What to keep unchanged while aging: sex, or none.",
        metavar="sex|none",
        parse=parse_hold,
        unset="sex if the encoder can",
    )

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield (
            self.refine_seconds is None or self.refine > 0,
            "a time for refinement also needs a number of steps: give refine (--refine) too",
        )
        yield not isinstance(self.hold, str), "hold is a list of names, as in ['sex']"


def by_editor(edit: Edit, editor: object | None) -> Edit:
    """Return the edit, by an editor where the file of one is named; a FacegenError if its method is another one."""
    if editor is None:
        return edit
    if edit.method not in (None, "editor"):
        raise FacegenError(f"method {edit.method} does not use an editor: leave it out, or use --method editor")
    return replace(edit, method="editor")


def parse_ages(text: str) -> list[float]:
    """Read ages in years: `5,25,62.5`, a range `start:stop:step` with both ends, or both, as in `1,5:90:5`.

    Whole years come as int, so that they read well. Raises a FacegenError for anything else.
    """
    ages: list[float] = []
    too_many = FacegenError(f"ages {shorten(text, 60)} are more than {MAX_AGES}: use a larger step, or fewer ages")
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        try:
            numbers = [float(number) for number in match.groups(default="1")] if match else [float(part)]
        except ValueError as error:
            raise FacegenError(f"{shorten(text, 60)!r} is not a list of ages: {_AGES_EXAMPLE}") from error
        if not all(map(math.isfinite, numbers)):
            raise FacegenError(f"{shorten(text, 60)!r} is not a list of ages: {_AGES_EXAMPLE}")
        if not match:
            ages += numbers
            continue
        start, stop, step = numbers
        if step == 0 or (stop - start) / step < 0:
            words = shorten(part.strip(), 60)
            raise FacegenError(f"ages {words} never reach their end: the step must lead from {start:g} to {stop:g}")
        steps = (stop - start) / step + 1e-9
        if not steps < MAX_AGES:  # or infinite, or no number, of tiny steps and huge ages
            raise too_many
        ages += [round(start + index * step, 6) for index in range(int(steps) + 1)]
    if len(ages) > MAX_AGES:
        raise too_many
    return [int(age) if age == int(age) else age for age in ages]


@dataclass(frozen=True)
class Request(Options):
    """What is asked of each photo: which of its faces, at which ages."""

    ages: Sequence[float] | None = option(
        None,
        "Target ages, such as 5,25,45,65,85 or 5:90:5.",
        metavar="YEARS",
        parse=parse_ages,
        unset="every age group",
    )
    face: str = option(ALL, "Which faces of a photo to change.", choices=(ALL, "largest"))
    input_age: Sequence[float] | None = option(
        None,
        "The person's age in the photo. For several faces give one age each, largest face first.",
        metavar="YEARS",
        parse=parse_ages,
        unset="estimated",
    )

    @property
    def ages_or_all(self) -> Sequence[float] | str:
        """The ages as `AgeTransfer` takes them."""
        return ALL if self.ages is None else self.ages


@dataclass(frozen=True)
class Output(Options):
    """What is written of each photo."""

    output: str = option(
        "photo",
        "photo: the whole photo at each age. face: only the faces, as the generator draws them.",
        choices=OUTPUTS,
    )
    paste_back: str = option("change", "How aged faces go into the photo.", choices=PASTE_MODES, command=False)
    video: str | None = option(
        None,
        "Also write a video of the photo, or of each face, through the ages.",
        choices=[suffix[1:] for suffix in VIDEO_SUFFIXES],
    )
    format: str = option("same", "File format for whole photos; same is the format of the input.", choices=FORMATS)
    strip_metadata: bool = option(False, "Do not copy the photo's metadata (camera, place, people).", flag=True)
    no_mark: bool = option(
        False, "Do not mark the files as made by a program. You should then say so yourself.", flag=True
    )

    @property
    def photos(self) -> bool:
        """Whether whole photos are written."""
        return self.output != "face"

    @property
    def faces(self) -> bool:
        """Whether generated faces are written."""
        return self.output != "photo"

    @property
    def adds_changes(self) -> bool:
        """Whether photos are written to which changes are added, so that their strength counts."""
        return self.photos and self.paste_back == PASTE_MODES[0]


@dataclass(frozen=True)
class Age:
    """An age to show: its years, the caption under its picture, and the index of its age group."""

    years: float
    caption: str
    group: int


def in_file_name(caption: str) -> str:
    """The caption of an age as a part of a file's name: `age45`."""
    return caption.replace(" ", "")


def wanted_ages(ages: Sequence[float] | str, groups: AgeGroups) -> list[Age]:
    """Return the ages to show, each of them once.

    Args:
        ages: years, or "all" for the middle of every group.
        groups: the generator's age groups.

    Raises:
        FacegenError: no ages, or an age that the groups do not show.
    """
    if isinstance(ages, str) or not hasattr(ages, "__len__"):
        if ages != ALL:
            raise FacegenError(f"ages are numbers of years in a list, as in [25, 65], or {ALL!r}, not {ages!r}")
        return [Age(float(groups.middle_age(index)), label, index) for index, label in enumerate(groups.labels)]
    if len(ages) == 0:
        raise FacegenError("no ages given: name at least one, or 'all'")
    years = dict.fromkeys(round(float(age), 6) for age in ages)  # an age twice is one picture
    for age in years:
        if (
            math.isfinite(age) and age >= groups.oldest + 1
        ):  # people older than the last group are in it, but it does not show their age
            raise _beyond(age, groups, groups.oldest)
    return [Age(age, f"age {age:.6f}".rstrip("0").rstrip("."), group_of(age, groups)) for age in years]


def group_of(age: float, groups: AgeGroups) -> int:
    """Return the index of the group that a person's age belongs to; in a gap between groups, of the closest one.

    Raises a FacegenError for an age outside all groups, or one that no person has reached.
    """
    if not math.isfinite(age):
        raise FacegenError(f"age {age} is not a number of years")
    group = groups.index_of(int(age)) if age >= 0 else None
    oldest = groups.oldest if groups.index_of(OLDEST_PERSON) is None else max(OLDEST_PERSON, groups.oldest)
    if not groups.bounds[0][0] <= age < oldest + 1:
        raise _beyond(age, groups, oldest)
    if group is not None:
        return group
    return min(range(len(groups)), key=lambda index: abs(groups.middle_age(index) - age))


def _beyond(age: float, groups: AgeGroups, oldest: int) -> FacegenError:
    youngest, labels = groups.bounds[0][0], ", ".join(groups.labels)
    return FacegenError(f"age {age:g} is outside this generator's groups, {youngest} to {oldest} years: {labels}")


def layer_indices(layers: str | Sequence[int] | None, num_ws: int) -> list[int]:
    """Return which w of a generator are meant.

    Args:
        layers: `coarse` (layers 0-2: shape and pose), `middle` (3-6: features), `fine` (7 and up: colors and skin),
            indices and ranges, several with commas: `0-3`, `coarse,5,8-9`; or the indices; None for all.
        num_ws: How many there are.

    Raises:
        FacegenError: not understood, or the generator has no such layer.
    """
    if layers is None:
        return list(range(num_ws))
    chosen: set[int] = set()
    for part in layers.split(",") if isinstance(layers, str) else layers:
        text = str(part).strip()
        indices = number_range(text)
        if text in PARTS:
            first, end = PARTS[text]
            indices = range(first, num_ws if end is None else min(end, num_ws))
        elif indices is None:
            raise FacegenError(
                f"{shorten(text, 60)!r} names no layers: write {', '.join(PARTS)}, or numbers, as in 0-3,7"
            )
        if not indices or indices[-1] >= num_ws:
            raise FacegenError(f"this generator has no layers {text}: it has {num_ws}, 0 to {num_ws - 1}")
        chosen |= set(indices)
    if not chosen:
        raise FacegenError("no layers given: name at least one, or None for all")
    return sorted(chosen)
