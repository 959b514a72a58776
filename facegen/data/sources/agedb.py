"""AgeDB: photos of known people, with name, age and gender in the file name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.naming import mostly_named, read_named
from facegen.data.sources.words import face

# Number, person (in any letters), age, gender: 0_MariaCallas_35_f.jpg.
_NAME = re.compile(r"\d+_(.+)_(\d{1,3})_([fm])\.jpe?g", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class AgeDb(Source):
    """AgeDB (Moschoglou et al. 2017): files named `NUMBER_PERSON_AGE_GENDER.jpg`, in any folders."""

    name: ClassVar[str] = "agedb"
    title: ClassVar[str] = "AgeDB (Moschoglou et al. 2017)"

    @classmethod
    def recognises(cls, files: Container) -> bool:
        """Most of the first pictures are named as in AgeDB."""
        return mostly_named(files, _NAME)

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take person, age and gender from the names."""

        def record(name: str, match: re.Match[str]) -> Record | Skipped:
            return face(name, match[2], match[1], match[3])

        return read_named(files, _NAME, "NUMBER_PERSON_AGE_GENDER.jpg, as in 0_MariaCallas_35_f.jpg", record)
