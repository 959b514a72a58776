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

# Ages have few digits, numbered folders such as FFHQ's 00000 more.
_FEW_DIGITS = re.compile(r"-?\d{1,3}(?:\D.*)?", re.DOTALL)
_SAMPLE = 200  # pictures whose folders tell


@dataclass(frozen=True)
class Folders(Source):
    """A folder for each age (`25`, `025`) or range of ages (`0-10`, `60+`), at any depth: the deepest one counts."""

    name: ClassVar[str] = "folders"
    title: ClassVar[str] = "a folder of pictures for each age or range of ages"

    @classmethod
    def recognizes(cls, files: Container) -> bool:
        """Most of the first pictures lie in a folder named as an age, and it is not one of IMDB-WIKI's hundred."""
        names = list(islice(filter(is_image_name, files.names), _SAMPLE))
        fitting = sum(isinstance(_face(name), Record) for name in names)
        return fitting > len(names) / 2 and not imdb_wiki.ImdbWiki.recognizes(files)

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take ages from the names of folders."""
        for name in files.names:
            yield _face(name) if is_image_name(name) else Skipped(name, "not a picture file")


def _face(name: str) -> Record | Skipped:
    folders = name.split("/")[:-1]
    ages = [folder for folder in folders if _FEW_DIGITS.fullmatch(folder) and parse_age(folder) is not None]
    if ages:
        return face(name, ages[-1])
    return Skipped(name, "folder is no age", f"folder {folders[-1]!r}" if folders else "it lies in no folder")
