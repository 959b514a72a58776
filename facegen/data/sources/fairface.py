"""FairFace: faces balanced over seven ethnicities, with a range of ages each, in tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.tables import add, find_named, folder_of, in_order, read_table
from facegen.data.sources.words import face

_TABLE = re.compile(r"fairface_label_\w+\.csv")


@dataclass(frozen=True)
class FairFace(Source):
    """FairFace (Karkkainen and Joo 2021): `fairface_label_train.csv` lists `train/1.jpg`, and so for `val`.

    The pictures lie beside the tables or in a folder of any name (the two downloads, with more and less margin, are
    often kept apart); of several pictures for a line of the table the first by name is taken.
    """

    name: ClassVar[str] = "fairface"
    title: ClassVar[str] = "FairFace (Karkkainen and Joo 2021)"

    @classmethod
    def recognizes(cls, files: Container) -> bool:
        """There is a table named as FairFace's."""
        return bool(find_named(files, _TABLE))

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take range of ages and gender from the tables."""
        tables = [read_table(files, name) for name in find_named(files, _TABLE)]
        pictures = _by_path(files)
        found: dict[str, Record | Skipped] = {}
        for table in tables:
            table.require("file", "age", "gender")
            for skipped in table.ragged:
                add(found, skipped)
            for _, row in table:
                first, *others = pictures.get(row["file"]) or [table.folder + row["file"]]
                age = re.sub(r"more than (\d+)", r"\1+", row["age"])
                add(found, face(first, age, gender=row["gender"]))
                for name in others:
                    add(found, Skipped(name, "another crop of the same picture", f"{first} is taken"))
        return in_order(files, found, own=[table.name for table in tables])


def _by_path(files: Container) -> dict[str, list[str]]:
    """Files by their last folder and name, as the tables write them."""
    pictures: dict[str, list[str]] = {}
    for name in files.names:
        folder = folder_of(name)
        pictures.setdefault(name[len(folder_of(folder[:-1])) :], []).append(name)
    return pictures
