"""Any table that lists pictures and ages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.tables import Table, add, find_named, in_order, path_in, read_table, row_name
from facegen.data.sources.words import face
from facegen.errors import FacegenError
from facegen.options import option

_TABLE = re.compile(r".+\.(csv|tsv)", re.IGNORECASE)
# Tables of data sets that have a source of their own.
_OTHERS = re.compile(r"(fairface_label|gt|gt_avg|allcategories)_\w+\.csv|ffhq_aging_labels\.csv")

# What columns are usually called, the clearest first; case, blanks and hyphens do not count.
_PATHS = "path file filename file_name filepath file_path full_path image image_path image_name image_file"
_PATHS += " imagename imagepath img img_path img_name picture photo"
_AGES = "age real_age true_age age_years age_in_years years age_group age_range agegroup"
_PERSONS = "person person_id identity identity_id subject subject_id celeb_id"
_GENDERS = "gender sex"


@dataclass(frozen=True)
class CsvTable(Source):
    """A table (.csv, .tsv) of pictures, their paths relative to its folder, and ages: `35`, `20-29` or `70+`."""

    name: ClassVar[str] = "csv"
    title: ClassVar[str] = "a table of pictures and ages"

    table: str | None = option(None, "Name of the table in the folder. Not needed if there is only one.")
    path_column: str | None = option(
        None, "Column with the picture paths. By default a column with a common name is used."
    )
    age_column: str | None = option(None, "Column with the ages. By default a column with a common name is used.")
    person_column: str | None = option(
        None, "Column that identifies people. By default a column with a common name is used."
    )
    gender_column: str | None = option(None, "Column with the gender. By default a column with a common name is used.")

    @classmethod
    def recognizes(cls, files: Container) -> bool:
        """There is a table, and none of a data set with a source of its own."""
        return bool(find_named(files, _TABLE)) and not find_named(files, _OTHERS)

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Read the table. Raises FacegenError if there is no table, more than one, or no such column."""
        table = read_table(files, self._find_table(files))
        path = _needed(table, "--path-column", _column(table, self.path_column, _PATHS))
        age = _needed(table, "--age-column", _column(table, self.age_column, _AGES))
        person = _column(table, self.person_column, _PERSONS)
        gender = _column(table, self.gender_column, _GENDERS)
        there = set(files.names)
        found: dict[str, Record | Skipped] = {}
        for skipped in table.ragged:
            add(found, skipped)
        for line, row in table:
            if not row[path].strip():
                add(found, Skipped(row_name(table.name, line), "row without a file name"))
                continue
            name = _find(row[path], table.folder, there)
            if name is None:
                detail = f"{table.name} line {line}; paths are relative to the folder of the table"
                add(found, Skipped(row[path], "path leads out of the folder", detail))
                continue
            add(found, face(name, row[age], row[person].strip() if person else None, row[gender] if gender else None))
        return in_order(files, found, own=[table.name])

    def _find_table(self, files: Container) -> str:
        if self.table is not None:
            if self.table not in files.names:
                raise FacegenError(f"{files.path}: there is no table {self.table} in it")
            return self.table
        tables = find_named(files, _TABLE)
        if len(tables) != 1:
            what = f"several tables; say which with --table: {', '.join(tables)}" if tables else "no .csv or .tsv in it"
            raise FacegenError(f"{files.path}: {what}")
        return tables[0]


def _column(table: Table, wanted: str | None, usual: str) -> str | None:
    """The column that the user names, or one with a common name; None if there is none."""
    if wanted is not None:
        table.require(wanted)
        return wanted
    plain = {column.lower().replace(" ", "_").replace("-", "_"): column for column in reversed(table.header)}
    return next((plain[name] for name in usual.split() if name in plain), None)


def _needed(table: Table, option_name: str, column: str | None) -> str:
    if column is None:
        found = table.columns_in_words()
        raise FacegenError(f"{table.name}: name the column with {option_name}; it has the columns {found}")
    return column


def _find(path: str, folder: str, there: set[str]) -> str | None:
    """The file that a table means, blanks and Windows' slashes forgiven; None if it leads out of the data set."""
    names = [path_in(folder, written) for written in (path, path.strip(), path.strip().replace("\\", "/"))]
    return next((name for name in names if name in there), names[-1])
