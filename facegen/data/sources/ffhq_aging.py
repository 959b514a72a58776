"""FFHQ-Aging: a range of ages, judged by people, for each of the 70,000 pictures of FFHQ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped
from facegen.data.sources.tables import Table, TableSource, row_name
from facegen.data.sources.words import face
from facegen.options import option

_PICTURE = re.compile(r"(\d{5})\.(?:png|jpe?g|webp)", re.IGNORECASE)
# FFHQ ships in several sizes: which is taken of those that are there. Any other folder comes between.
_BEST, _WORST = "images1024x1024", ("thumbnails128x128", "in-the-wild-images")


@dataclass(frozen=True)
class FfhqAging(TableSource):
    """FFHQ-Aging (Or-El et al. 2020): `ffhq_aging_labels.csv` and FFHQ's `00000/00000.png` in any folders."""

    name: ClassVar[str] = "ffhq-aging"
    title: ClassVar[str] = "FFHQ-Aging (Or-El et al. 2020)"
    tables: ClassVar[re.Pattern[str]] = re.compile(r"ffhq_aging_labels\.csv")
    crop: ClassVar[str] = "as-is"

    min_confidence: float = option(0.6, "Drop faces on whose age a smaller share of the annotators agreed, 0 to 1.")

    def read_rows(self, table: Table, files: Container) -> Iterator[Record | Skipped]:
        """Take range of ages and gender from the table, and the largest picture of each number."""
        pictures = _by_number(files)
        table.require("image_number", "age_group", "age_group_confidence", "gender")
        for line, row in table:
            if not re.fullmatch(r"\d{1,9}", row["image_number"]):
                yield Skipped(row_name(table.name, line), "row not understood", "image_number is not a number")
                continue
            number = int(row["image_number"])
            first, *others = pictures.get(number) or [f"{table.folder}{number:05d}.png"]
            yield self._face(first, row)
            for name in others:
                yield Skipped(name, "another size of the same picture", f"{first} is taken")

    def _face(self, name: str, row: dict[str, str]) -> Record | Skipped:
        item = face(name, row["age_group"].replace("70-120", "70+"), gender=row["gender"])
        if isinstance(item, Skipped):
            return item
        try:
            confidence = float(row["age_group_confidence"])
        except ValueError:
            confidence = 0.0
        if confidence >= self.min_confidence:
            return item
        detail = f"confidence {row['age_group_confidence'] or 'not given'}, at least {self.min_confidence:g} required"
        return Skipped(name, "age not certain", detail)


def _by_number(files: Container) -> dict[int, list[str]]:
    """FFHQ's pictures by number, the best of each first."""
    pictures: dict[int, list[str]] = {}
    for name in files.names:
        if match := _PICTURE.fullmatch(name.rpartition("/")[2]):
            pictures.setdefault(int(match[1]), []).append(name)
    for names in pictures.values():
        names.sort(key=_rank)
    return pictures


def _rank(name: str) -> int:
    folders = name.split("/")[:-1]
    if _BEST in folders:
        return 0
    return next((rank for rank, folder in enumerate(_WORST, start=2) if folder in folders), 1)
