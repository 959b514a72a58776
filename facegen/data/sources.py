"""Readers of face data sets with ages: one function each, from a folder or zip to records.

A reader takes a `Container` and yields a `Record` for each face with an age, or a `Skipped` with the reason
for each file that it cannot use. It decodes no picture: `prepare` does. A new data set is a new function here
and its line in `SOURCES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from facegen.data.container import Container, is_image_name
from facegen.errors import FacegenError

OLDEST_PERSON = 122  # years; Jeanne Calment


@dataclass(frozen=True)
class Record:
    """A face of a data set: the file that shows it and the person's age in years."""

    files: Container
    name: str
    age: int
    source: str

    def open(self) -> bytes:
        """The encoded picture. Raises FacegenError when it cannot be read."""
        return self.files.read(self.name)


@dataclass(frozen=True)
class Skipped:
    """A file that does not become a face of the archive: which, why, and what was wrong in detail."""

    name: str
    reason: str
    detail: str = ""


Reader = Callable[[Container], Iterator[Record | Skipped]]

# AGE_GENDER_RACE_DATE with anything but a further field behind: .webp, .jpg.chip.jpg, ` .jpg.chip.jpg`, ...
_UTKFACE_NAME = re.compile(r"(\d{1,3})_\d_\d_\d+[^_]*")


def read_utkface(files: Container) -> Iterator[Record | Skipped]:
    """UTKFace (Zhang et al., 2017): aligned faces named `AGE_GENDER_RACE_DATE.*`, in any folders."""
    for name in files.names:
        match = _UTKFACE_NAME.fullmatch(PurePosixPath(name).name)
        if not is_image_name(name):
            yield Skipped(name, "not a picture file")
        elif match is None:
            yield Skipped(
                name,
                "name not understood",
                "expected AGE_GENDER_RACE_DATE, as in 26_1_2_20170116174525125.jpg",
            )
        elif int(match[1]) > OLDEST_PERSON:
            yield Skipped(name, "name not understood", f"{int(match[1])} is not the age of a person")
        else:
            yield Record(files, name, int(match[1]), "utkface")


SOURCES: dict[str, Reader] = {
    "utkface": read_utkface,
}


def get_reader(source_name: str) -> Reader:
    """The reader of a data set by its name in `SOURCES`."""
    if source_name not in SOURCES:
        raise FacegenError(f"{source_name!r} is not a known data set; known: {', '.join(sorted(SOURCES))}")
    return SOURCES[source_name]
