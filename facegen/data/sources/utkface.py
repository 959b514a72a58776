"""UTKFace: aligned faces with age, gender and ethnicity in the file name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import ClassVar

from facegen.data.container import Container, is_image_name
from facegen.data.sources.base import OLDEST_PERSON, Record, Skipped, Source

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
        names = [PurePosixPath(name).name for name in islice(filter(is_image_name, files.names), 100)]
        return sum(_NAME.fullmatch(name) is not None for name in names) > len(names) / 2

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take age and gender from the names."""
        for name in files.names:
            match = _NAME.fullmatch(PurePosixPath(name).name)
            if not is_image_name(name):
                yield Skipped(name, "not a picture file")
            elif match is None:
                expected = "expected AGE_GENDER_RACE_DATE, as in 26_1_2_20170116174525125.jpg"
                yield Skipped(name, "name not understood", expected)
            elif int(match[1]) > OLDEST_PERSON:
                yield Skipped(name, "name not understood", f"{int(match[1])} is not the age of a person")
            else:
                yield Record(name, int(match[1]), int(match[1]), gender=_GENDERS.get(match[2]))
