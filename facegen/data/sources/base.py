"""What a source of faces is: the protocol that every data set in this folder fulfills."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from facegen.container import Container
from facegen.options import Options
from facegen.reading import check_types

_TEXT_OR_NONE = (str, type(None))
_RECORD_TYPES = {
    "name": (str,),
    "low": (int,),
    "high": (int, type(None)),
    "person": _TEXT_OR_NONE,
    "gender": _TEXT_OR_NONE,
}
_SKIPPED_TYPES = dict.fromkeys(("name", "reason", "detail"), (str,))


@dataclass(frozen=True, slots=True)
class Record:
    """A face of a data set: which file shows it, and what the data set says of the person.

    Attributes:
        name: the file, as its container names it.
        low, high: the youngest and the oldest that the person may be, in years, both included; equal where the age is
            known exactly, `high` None for an open end ("70 and more").
        person: who it is, where the data set tells persons apart.
        gender: `female` or `male`, where known.
    """

    name: str
    low: int
    high: int | None
    person: str | None = None
    gender: str | None = None

    @property
    def age(self) -> int | None:
        """The age in years where it is known exactly."""
        return self.low if self.low == self.high else None

    @property
    def age_text(self) -> str:
        """The age or range of ages in words: `26`, `20-29`, `70+`."""
        if self.high is None:
            return f"{self.low}+"
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or row that does not become a face of the archive: which, why, and what was wrong in detail."""

    name: str
    reason: str
    detail: str = ""


def read_item(row: Any) -> Record | Skipped:
    """Return a record, or what was skipped, from its fields in JSON. Raises FacegenError if it is neither."""
    if isinstance(row, dict) and "reason" in row:
        return Skipped(**check_types(row, _SKIPPED_TYPES))
    return Record(**check_types(row, _RECORD_TYPES))


@dataclass(frozen=True)
class Source(Options, ABC):
    """A data set of faces with ages. A subclass is a frozen dataclass whose fields, made by `option`, are its options.

    Such a class in a file of this folder is all that a new data set needs.

    Attributes:
        name: what is written after `--source`.
        title: the data set's name and origin in a few words.
        crop: how its pictures are cropped unless the user says otherwise: `as-is`, `center` or `align`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    crop: ClassVar[str] = "align"

    @classmethod
    @abstractmethod
    def recognizes(cls, files: Container) -> bool:
        """Tell from file names alone whether `files` is this data set, laid out as it ships."""

    @abstractmethod
    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Go through the data set: every picture comes out once, as a record or with the reason why not."""
