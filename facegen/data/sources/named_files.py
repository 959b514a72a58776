"""Data sets whose file names contain the labels: UTKFace, AgeDB, CACD and FG-NET."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import ClassVar

from facegen.container import Container, is_image_name
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.words import face

_SAMPLE = 100  # pictures whose names tell a data set: a big one has half a million


def mostly_named(files: Container, pattern: re.Pattern[str]) -> bool:
    """Whether most of the first pictures have names, without their folders, that fit `pattern` from end to end."""
    names = [PurePosixPath(name).name for name in islice(filter(is_image_name, files.names), _SAMPLE)]
    return sum(pattern.fullmatch(name) is not None for name in names) > len(names) / 2


@dataclass(frozen=True)
class NamedFiles(Source):
    """Pictures, in any folders, whose names hold what there is to know.

    Attributes:
        pattern: what the name of a picture, without its folders, must fit from end to end; its groups are called
            `age`, `person` and `gender`.
        expected: the pattern in words, for the report.
        own: names, without folders, of files that the data set ships beside its pictures: not worth a word.
    """

    pattern: ClassVar[re.Pattern[str]]
    expected: ClassVar[str]
    own: ClassVar[re.Pattern[str] | None] = None

    @classmethod
    def recognizes(cls, files: Container) -> bool:
        """Most of the first pictures are named as in the data set."""
        return mostly_named(files, cls.pattern)

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take all from the names."""
        for name in files.names:
            base = PurePosixPath(name).name
            match = self.pattern.fullmatch(base)
            if self.own is not None and self.own.fullmatch(base):
                continue
            if not is_image_name(name):
                yield Skipped(name, "not a picture file")
            elif match is None:
                yield Skipped(name, "name not understood", f"expected {self.expected}")
            else:
                yield face(name, **self.in_words(match.groupdict()))

    def in_words(self, fields: dict[str, str]) -> dict[str, str]:
        """What the groups of `pattern` mean, as `words.face` takes it."""
        return fields


class UtkFace(NamedFiles):
    """UTKFace: files named `AGE_GENDER_RACE_DATE.*`."""

    name = "utkface"
    title = "UTKFace (Zhang et al. 2017), aligned and cropped"
    crop = "as-is"
    # Anything but a further field may stand behind: .webp, .jpg.chip.jpg, ` .jpg.chip.jpg`, ...
    pattern = re.compile(r"(?P<age>\d{1,3})_(?P<gender>\d)_\d_\d+[^_]*")
    expected = "AGE_GENDER_RACE_DATE, as in 26_1_2_20170116174525125.jpg"

    def in_words(self, fields: dict[str, str]) -> dict[str, str]:
        """Name the genders, which are numbers in the file names."""
        return fields | {"gender": {"0": "male", "1": "female"}.get(fields["gender"], "")}


class AgeDb(NamedFiles):
    """AgeDB: files named `NUMBER_PERSON_AGE_GENDER.jpg`, the person in any letters."""

    name = "agedb"
    title = "AgeDB (Moschoglou et al. 2017)"
    pattern = re.compile(r"\d+_(?P<person>.+)_(?P<age>\d{1,3})_(?P<gender>[fm])\.jpe?g", re.IGNORECASE | re.DOTALL)
    expected = "NUMBER_PERSON_AGE_GENDER.jpg, as in 0_MariaCallas_35_f.jpg"


class Cacd(NamedFiles):
    """CACD: `CACD2000/53_Robin_Williams_0001.jpg`, 2,000 celebrities; its `.mat` says nothing that names do not."""

    name = "cacd"
    title = "CACD (Chen et al. 2014)"
    # The person begins with no digit, else UTKFace's names fit too.
    pattern = re.compile(r"(?P<age>\d{1,3})_(?P<person>\D.*)_\d{4}\.jpe?g", re.IGNORECASE | re.DOTALL)
    expected = "AGE_PERSON_NUMBER.jpg, as in 53_Robin_Williams_0001.jpg"
    own = re.compile(r"celebrity2000\w*\.mat")

    def in_words(self, fields: dict[str, str]) -> dict[str, str]:
        """Write the person's name with blanks."""
        return fields | {"person": fields["person"].replace("_", " ")}


class FgNet(NamedFiles):
    """FG-NET: `images/001A02.JPG`, 82 people over their lives; landmarks lie in `points/` and are not needed."""

    name = "fg-net"
    title = "FG-NET (Lanitis et al. 2002)"
    # A letter follows where there are several pictures of that age: 001A43a.JPG.
    pattern = re.compile(r"(?P<person>\d{3})A(?P<age>\d{2})[a-z]?\.jpe?g", re.IGNORECASE)
    expected = "person, A and age, as in 001A02.JPG"
    own = re.compile(r"\d{3}A\d{2}[a-z]?\.pts", re.IGNORECASE)
