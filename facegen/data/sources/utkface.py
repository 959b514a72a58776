"""UTKFace: aligned faces with age, gender and ethnicity in the file name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.naming import mostly_named, read_named
from facegen.data.sources.words import face

# AGE_GENDER_RACE_DATE with anything but a further field behind: .webp, .jpg.chip.jpg, ` .jpg.chip.jpg`, ...
_NAME = re.compile(r"(\d{1,3})_(\d)_\d_\d+[^_]*")
_GENDERS = {"0": "male", "1": "female"}


@dataclass(frozen=True)
class UtkFace(Source):
    """UTKFace (Zhang et al. 2017): files named `AGE_GENDER_RACE_DATE.*`, in any folders."""

    name: ClassVar[str] = "utkface"
    title: ClassVar[str] = "UTKFace (Zhang et al. 2017), aligned and cropped"
    crop: ClassVar[str] = "as-is"

    @classmethod
    def recognises(cls, files: Container) -> bool:
        """Most of the first pictures are named as in UTKFace."""
        return mostly_named(files, _NAME)

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take age and gender from the names."""

        def record(name: str, match: re.Match[str]) -> Record | Skipped:
            return face(name, match[1], gender=_GENDERS.get(match[2]))

        return read_named(files, _NAME, "AGE_GENDER_RACE_DATE, as in 26_1_2_20170116174525125.jpg", record)
