"""APPA-REAL: photos with the real age of the person and the age that ten and more people guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped
from facegen.data.sources.tables import Table, TableSource
from facegen.data.sources.words import face
from facegen.options import option


@dataclass(frozen=True)
class AppaReal(TableSource):
    """APPA-REAL (Agustsson et al. 2017): `gt_avg_train.csv` lists `train/000000.jpg`, and so for `valid` and `test`.

    Beside most photos lies `000000.jpg_face.jpg`, the face turned upright with some margin: it is taken instead.
    """

    name: ClassVar[str] = "appa-real"
    title: ClassVar[str] = "APPA-REAL (Agustsson et al. 2017)"
    tables: ClassVar[re.Pattern[str]] = re.compile(r"gt_avg_(train|valid|test)\.csv")
    # Each guess, further labels, and per picture where its face was found: all said by the tables above or not needed.
    own: ClassVar[re.Pattern[str]] = re.compile(r"(gt|allcategories)_(train|valid|test)\.csv|\d{6}\.jpe?g\.mat")

    age: str = option(
        "real", "Which age to use: the real one, or the average of people's guesses.", choices=("real", "apparent")
    )

    def read_rows(self, table: Table, files: Container) -> Iterator[Record | Skipped]:
        """Take ages from a table."""
        there = set(files.names)
        column = "real_age" if self.age == "real" else "apparent_age_avg"
        table.require("file_name", column)
        part = table.name.rpartition("_")[2].removesuffix(".csv")
        for _, row in table:
            photo = f"{table.folder}{part}/{row['file_name']}"
            crop = f"{photo}_face.jpg"
            yield face(crop if crop in there else photo, _rounded(row[column]))
            if crop in there and photo in there:
                yield Skipped(photo, "another crop of the same picture", f"{crop} is taken")


def _rounded(age: str) -> str:
    """An average of guesses, `34.62`, in full years: `35`. Other text stays as it is."""
    return str(int(float(age) + 0.5)) if re.fullmatch(r"\s*\d{1,9}\.\d+\s*", age) else age
