"""CACD: photos of 2,000 celebrities over ten years, with age and name in the file name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.naming import mostly_named, read_named
from facegen.data.sources.words import face

# Age, person (begins with no digit, else UTKFace's names fit too), number of the picture: 53_Robin_Williams_0001.jpg.
_NAME = re.compile(r"(\d{1,3})_(\D.*)_\d{4}\.jpe?g", re.IGNORECASE | re.DOTALL)
_METADATA = re.compile(r"celebrity2000\w*\.mat")


@dataclass(frozen=True)
class Cacd(Source):
    """CACD (Chen et al. 2014): `CACD2000/53_Robin_Williams_0001.jpg`; the `.mat` says nothing that names do not."""

    name: ClassVar[str] = "cacd"
    title: ClassVar[str] = "CACD (Chen et al. 2014)"

    @classmethod
    def recognises(cls, files: Container) -> bool:
        """Most of the first pictures are named as in CACD."""
        return mostly_named(files, _NAME)

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take age and person from the names."""

        def record(name: str, match: re.Match[str]) -> Record | Skipped:
            return face(name, match[1], person=match[2].replace("_", " "))

        return read_named(files, _NAME, "AGE_PERSON_NUMBER.jpg, as in 53_Robin_Williams_0001.jpg", record, _METADATA)
