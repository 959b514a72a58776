"""Pictures in a folder for each age or range of ages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from facegen.container import Container, is_image_name
from facegen.data.sources import imdb_wiki
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.words import face, parse_age
from facegen.errors import FacegenError
from facegen.options import option

# Ages have few digits, numbered folders such as FFHQ's 00000 more.
_FEW_DIGITS = re.compile(r"-?\d{1,3}(?:\D.*)?", re.DOTALL)
_SAMPLE = 200  # pictures whose folders tell
_AFAD_GENDERS = {"111": "male", "112": "female"}  # Niu et al. 2016, "Ordinal regression with multiple output CNN"


@dataclass(frozen=True)
class Folders(Source):
    """A folder for each age (`25`, `025`) or range of ages (`0-10`, `60+`), at any depth, or AFAD's AGE/GENDER.

    A range may hold folders of ages that lie in it, which count then. Other paths of two folders that could be ages are
    refused, unless `age_folder` says which it is.
    """

    name: ClassVar[str] = "folders"
    title: ClassVar[str] = "a folder of pictures for each age or range of ages"

    age_folder: int | None = option(
        None,
        "Which folder in a path gives the age: 1 is the folder of the picture, 2 its parent.",
        min=1,
        unset="any that can be",
    )

    @classmethod
    def recognizes(cls, files: Container) -> bool:
        """Most of the first pictures lie in a folder named as an age, and it is not one of IMDB-WIKI's hundred."""
        names = list(islice(filter(is_image_name, files.names), _SAMPLE))
        fitting = sum(isinstance(_face(name, _ages(name)[-1:]), Record) for name in names)
        return fitting > len(names) / 2 and not imdb_wiki.ImdbWiki.recognizes(files)

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take ages from the names of folders. Raises FacegenError where two folders of a path could be the age."""
        unclear = [] if self.age_folder else [n for n in filter(is_image_name, files.names) if len(_ages(n)) > 1]
        is_afad = bool(unclear) and {name.split("/")[-2] for name in unclear} <= _AFAD_GENDERS.keys()
        if unclear and not is_afad:
            first, second = _ages(unclear[0])[:2]
            raise FacegenError(
                f"{files.path}: {unclear[0]}: {first} or {second}: two folders could be the age; "
                "--age-folder 1 uses the picture's own folder, --age-folder 2 the one above"
            )
        for name in files.names:
            if not is_image_name(name):
                yield Skipped(name, "not a picture file")
            elif self.age_folder:
                yield _face(name, name.split("/")[:-1][-self.age_folder :][:1])
            elif is_afad and len(_ages(name)) > 1:
                yield face(name, _ages(name)[-2], gender=_AFAD_GENDERS[name.split("/")[-2]])
            else:
                yield _face(name, _ages(name))


def _ages(name: str) -> list[str]:
    """Return the folders of a path that could be its age, outer ones first; of a range and an age in it, the age."""
    found: list[str] = []
    low, high = 0, None
    for folder in name.split("/")[:-1]:
        ages = parse_age(folder) if _FEW_DIGITS.fullmatch(folder) else None
        if ages is None:
            continue
        is_within = found and low <= ages[0] and (high is None or (ages[1] is not None and ages[1] <= high))
        if is_within:
            found.pop()
        found.append(folder)
        low, high = ages
    return found


def _face(name: str, ages: list[str]) -> Record | Skipped:
    if ages and parse_age(ages[-1]) is not None:
        return face(name, ages[-1])
    folders = name.split("/")[:-1]
    return Skipped(name, "folder is no age", f"folder {folders[-1]!r}" if folders else "it lies in no folder")
