"""Age groups: from an age in years to the class that the networks know, and back to words."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from facegen.errors import FacegenError

OLDEST_PERSON = 122  # the oldest person on record lived 122 years
# Whoever writes `91-100` does not mean to throw away the faces of 101: a last group that ends here is open.
OLDEST = 100

MAX_GROUPS = 1000  # ages have up to three digits
_GROUP = re.compile(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})?|\+)\s*")
_EXAMPLE = "write groups from young to old, as in 0-12,13-19,20-39,40-59,60-"


@dataclass(frozen=True)
class AgeGroups:
    """Age groups from young to old; the index of a group is its class label.

    `bounds` holds the first and last age of each group, both included; a last age of None is an open end
    (only the last group may have it). Groups may leave gaps but not overlap. A last group that ends at 100
    takes older people too.

    Example:
        >>> groups = AgeGroups.parse("0-12,13-19,20-39,40-59,60-")
        >>> groups.index_of(25), groups.labels[2]
        (2, '20-39')
    """

    bounds: tuple[tuple[int, int | None], ...]

    def __post_init__(self) -> None:
        if not self.bounds:
            raise FacegenError(f"no age groups given: {_EXAMPLE}")
        for low, high in self.bounds:
            if high is not None and high < low:
                raise FacegenError(f"age group {low}-{high} ends before it begins: {_EXAMPLE}")
        for (low, high), (next_low, next_high) in pairwise(self.bounds):
            one, other = _label(low, high), _label(next_low, next_high)
            if next_high is not None and next_high < low:
                raise FacegenError(f"age group {other} comes after {one}: {_EXAMPLE}")
            if high is None or next_low <= high:
                raise FacegenError(f"age groups {one} and {other} overlap: each age may be in one group only")

    @classmethod
    def default(cls) -> AgeGroups:
        """The ten groups 0-10, 11-20, ..., 91-100 (101 and older count as the last)."""
        return cls(((0, 10), *((low, low + 9) for low in range(11, OLDEST, 10))))

    @classmethod
    def parse(cls, text: str) -> AgeGroups:
        """Read groups as written on a command line: `0-12,13-19,60-`; `60-` and `60+` are 60 and older.

        Raises FacegenError for text that is empty, not understood, reversed, out of order or overlapping.
        """
        if not text.strip():
            raise FacegenError(f"no age groups given: {_EXAMPLE}")
        return cls.from_labels(text.split(","))

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> AgeGroups:
        """The inverse of `labels`: read a list such as `["0-10", "11-20", "21+"]`."""
        if len(labels) > MAX_GROUPS:
            raise FacegenError(f"{len(labels):,} age groups, more than {MAX_GROUPS:,}: {_EXAMPLE}")
        bounds = []
        for label in labels:
            match = _GROUP.fullmatch(label) if isinstance(label, str) else None
            if match is None:
                raise FacegenError(f"{reprlib.repr(label)} is not an age group: {_EXAMPLE}")
            bounds.append((int(match[1]), None if match[2] is None else int(match[2])))
        return cls(tuple(bounds))

    @property
    def labels(self) -> list[str]:
        """The groups in words: `0-10`, ..., and `60+` for an open end."""
        return [_label(low, high) for low, high in self.bounds]

    def __len__(self) -> int:
        return len(self.bounds)

    def __str__(self) -> str:
        return ",".join(self.labels)

    def index_of(self, age: int) -> int | None:
        """The group of an age in years, or None for an age in a gap or outside all groups."""
        last = len(self.bounds) - 1
        for index, (low, high) in enumerate(self.bounds):
            if low <= age and (high is None or age <= high or (index == last and high == OLDEST)):
                return index
        return None

    @property
    def oldest(self) -> int:
        """The last age in years that the groups say they show; of an open end, the oldest person's."""
        high = self.bounds[-1][1]
        return max(OLDEST_PERSON, self.bounds[-1][0]) if high is None else high

    def middle_age(self, index: int) -> int:
        """An age in years that stands for the group: its middle; ten years in where the end is open."""
        low, high = self.bounds[index]
        return low + 10 if high is None else (low + high) // 2


def _label(low: int, high: int | None) -> str:
    return f"{low}+" if high is None else f"{low}-{high}"
