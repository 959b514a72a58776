"""FairFace: faces balanced over seven ethnicities, with a range of ages each, in tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped
from facegen.data.sources.tables import Table, TableSource, folder_of
from facegen.data.sources.words import face


@dataclass(frozen=True)
class FairFace(TableSource):
    """FairFace (Karkkainen and Joo 2021): `fairface_label_train.csv` lists `train/1.jpg`, and so for `val`.

    The pictures lie beside the tables or in a folder of any name (the two downloads, with more and less margin, are
    often kept apart); of several pictures for a line of the table the first by name is taken.
    """

    name: ClassVar[str] = "fairface"
    title: ClassVar[str] = "FairFace (Karkkainen and Joo 2021)"
    tables: ClassVar[re.Pattern[str]] = re.compile(r"fairface_label_\w+\.csv")

    def read_rows(self, table: Table, files: Container) -> Iterator[Record | Skipped]:
        """Take range of ages and gender from a table."""
        pictures = _by_path(files)
        table.require("file", "age", "gender")
        for _, row in table:
            first, *others = pictures.get(row["file"]) or [table.folder + row["file"]]
            age = re.sub(r"more than (\d+)", r"\1+", row["age"])
            yield face(first, age, gender=row["gender"])
            for name in others:
                yield Skipped(name, "another crop of the same picture", f"{first} is taken")


def _by_path(files: Container) -> dict[str, list[str]]:
    """Files by their last folder and name, as the tables write them."""
    pictures: dict[str, list[str]] = {}
    for name in files.names:
        folder = folder_of(name)
        pictures.setdefault(name[len(folder_of(folder[:-1])) :], []).append(name)
    return pictures
