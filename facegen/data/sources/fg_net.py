"""FG-NET: family photos of 82 people over their lives; person and age stand in the file name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.naming import mostly_named, read_named
from facegen.data.sources.words import face

# Person, `A`, age, and a letter where there are several pictures of that age: 001A02.JPG, 001A43a.JPG.
_NAME = re.compile(r"(\d{3})A(\d{2})[a-z]?\.jpe?g", re.IGNORECASE)
_LANDMARKS = re.compile(r"\d{3}A\d{2}[a-z]?\.pts", re.IGNORECASE)


@dataclass(frozen=True)
class FgNet(Source):
    """FG-NET (Lanitis et al. 2002): `images/001A02.JPG`, beside them landmarks in `points/` that are not needed."""

    name: ClassVar[str] = "fg-net"
    title: ClassVar[str] = "FG-NET (Lanitis et al. 2002)"

    @classmethod
    def recognises(cls, files: Container) -> bool:
        """Most of the first pictures are named as in FG-NET."""
        return mostly_named(files, _NAME)

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take person and age from the names."""

        def record(name: str, match: re.Match[str]) -> Record | Skipped:
            return face(name, match[2], person=match[1])

        return read_named(files, _NAME, "person, A and age, as in 001A02.JPG", record, own=_LANDMARKS)
