"""Data sets that come with tables: reading them, and bringing together what they list and what is there."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar

from facegen.container import Container, is_image_name, leads_out
from facegen.data.sources.base import Record, Skipped, Source
from facegen.errors import FacegenError

_DELIMITERS = ",;\t"
_SEP_LINE = re.compile(r'\s*"?sep=([^\w"\s]|\t)"?[ ;,\t]*(?=[\r\n])', re.IGNORECASE)  # a first line for Excel: `sep=;`
MAX_MEMORY = 1024**3  # that a table may take: one of a million rows and ten columns does
_CELL_BYTES, _ROW_BYTES = 60, 160
SHOWN_COLUMNS = 20  # at most this many columns stand in a message


@dataclass(frozen=True)
class Table:
    """A table with a header, read whole.

    Attributes:
        name: Its file, as the container names it.
        header: The names of the columns, without the blanks around them.
        rows: (line in the file where the row ends, one text for each column).
        ragged: Rows with more or fewer texts than columns, and blank ones left out, as skipped.
    """

    name: str
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]
    ragged: list[Skipped]

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        """The rows as (line, text by column)."""
        return ((line, dict(zip(self.header, row, strict=True))) for line, row in self.rows)

    @property
    def folder(self) -> str:
        """The folder of the table, with a slash at the end; empty at the top."""
        return folder_of(self.name)

    def require(self, *columns: str) -> None:
        """Raise FacegenError, listing the columns found, unless the table has all of these."""
        missing = [column for column in columns if column not in self.header]
        if missing:
            raise FacegenError(f"{self.name}: there is no column {missing[0]!r}; found: {self.columns_in_words()}")

    def columns_in_words(self) -> str:
        """The names of the columns for a message, at most the first `SHOWN_COLUMNS`."""
        more = f", ... ({len(self.header):,d} in all)" if len(self.header) > SHOWN_COLUMNS else ""
        return ", ".join(self.header[:SHOWN_COLUMNS]) + more


def read_table(files: Container, name: str) -> Table:
    """Read a table in UTF-8 (with or without a mark at its beginning).

    Its columns end at commas, semicolons or tabs, or at what a first line `sep=|` says.

    Raises FacegenError, naming the file and line, when it is empty, not UTF-8, no table, or names a column twice.
    """
    data = files.read(name)
    told = _SEP_LINE.match(data[:200].decode("utf-8-sig", "replace"))
    if (needed := _memory(data, told[1] if told else _DELIMITERS)) > MAX_MEMORY:
        needed, most = needed // 1024**2, MAX_MEMORY // 1024**2
        raise FacegenError(f"{files.path}: {name}: would take {needed:,d} MB of memory, more than {most:,d}: refused")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FacegenError(
            f"{files.path}: {name}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the table as UTF-8"
        ) from error
    if told:
        delimiter, text = told[1], text[told.end() :]  # what remains of the line is blank: the lines keep their numbers
    else:
        delimiter = max(_DELIMITERS, key=re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0]).count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows, ragged = [], []
    header: tuple[str, ...] = ()
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = tuple(cell.strip() for cell in row)
            elif len(row) == len(header):
                rows.append((reader.line_num, row))
            else:
                detail = f"{len(row)} columns where the header has {len(header)}"
                ragged.append(Skipped(row_name(name, reader.line_num), "row not understood", detail))
    except csv.Error as error:
        raise FacegenError(f"{files.path}: {name}, line {reader.line_num}: not a table ({error})") from error
    if not header:
        raise FacegenError(f"{files.path}: {name}: the table is empty")
    twice = [column for column, count in Counter(filter(None, header)).items() if count > 1]
    if twice:
        raise FacegenError(f"{files.path}: {name}: the column {twice[0]!r} is there twice; rename one")
    return Table(name, header, rows, ragged)


def _memory(data: bytes, delimiters: str) -> int:
    """Return about how many bytes a table takes in memory whose cells end at one of these letters."""
    widest = 4 if re.search(rb"[\xf0-\xff]", data) else 2 if re.search(rb"[\xc4-\xef]", data) else 1
    cells = max(data.count(delimiter.encode()) for delimiter in delimiters)
    rows = data.count(b"\n") + data.count(b"\r")
    return len(data) * (5 + 2 * widest) + cells * _CELL_BYTES + rows * _ROW_BYTES


@dataclass(frozen=True)
class TableSource(Source):
    """A data set of pictures that tables list, beside them or in folders of their own.

    Attributes:
        tables: what the names of its tables, without their folders, fit from end to end.
        own: the same of other files that the data set ships beside its pictures: not worth a word.
    """

    tables: ClassVar[re.Pattern[str]]
    own: ClassVar[re.Pattern[str] | None] = None

    @classmethod
    def recognizes(cls, files: Container) -> bool:
        """There is a table named as in the data set."""
        return bool(find_named(files, cls.tables))

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Take all from the tables."""
        tables = [read_table(files, name) for name in find_named(files, self.tables)]
        found: dict[str, Record | Skipped] = {}
        for table in tables:
            for item in [*table.ragged, *self.read_rows(table, files)]:
                add(found, item)
        own = find_named(files, self.own) if self.own else []
        return in_order(files, found, [*own, *(table.name for table in tables)])

    @abstractmethod
    def read_rows(self, table: Table, files: Container) -> Iterator[Record | Skipped]:
        """What the rows of a table say. Raises FacegenError where it lacks a column."""


def row_name(table: str, line: int) -> str:
    """What to call a row that names no file."""
    return f"{table} line {line}"


def folder_of(name: str) -> str:
    """The folder of a file, with a slash behind; empty at the top."""
    return name[: name.rfind("/") + 1]


def find_named(files: Container, pattern: re.Pattern[str]) -> list[str]:
    """The files whose names, without their folders, fit `pattern` from end to end."""
    return [name for name in files.names if pattern.fullmatch(name.rpartition("/")[2])]


def path_in(folder: str, path: str) -> str | None:
    """The file that `path`, written in a table in `folder`, names in the container; None if it leads out of it.

    >>> path_in("tables/", "../train/1.jpg")
    'train/1.jpg'
    """
    if path.startswith("/"):
        return None
    name = posixpath.normpath(folder + path)
    if name != "." and not any(sign in name for sign in ("..", "\\", ":")):
        return name  # which `leads_out` would say too, in ten times the time; there may be half a million
    return None if leads_out(name) else name


def add(found: dict[str, Record | Skipped], item: Record | Skipped) -> None:
    """Add what a table says of a file; where it has said something else before, neither counts."""
    before = found.get(item.name)
    if before is None:
        found[item.name] = item
    elif before != item and not (isinstance(before, Skipped) and before.reason == "listed twice"):
        found[item.name] = Skipped(item.name, "listed twice", f"{_describe(before)}, and then {_describe(item)}")


def in_order(
    files: Container,
    found: dict[str, Record | Skipped],
    own: Collection[str] = (),
    unlisted: str = "",
) -> Iterator[Record | Skipped]:
    """All files and all that tables list, sorted by name: each once, as a record or with the reason why not.

    Args:
        files: The data set.
        found: What the tables say, by name of the file.
        own: Files that belong to the data set and are no pictures: not worth a word.
        unlisted: What to say in detail of pictures that no table lists.
    """
    there = set(files.names)
    own = set(own)
    for name in sorted(there.union(found)):
        item = found.get(name)
        if isinstance(item, Record) and name not in there:
            yield Skipped(name, "file missing", "it is listed but missing")
        elif isinstance(item, Record) and not is_image_name(name):
            yield Skipped(name, "not a picture file")
        elif item is not None:
            yield item
        elif name in own:
            continue
        elif is_image_name(name):
            yield Skipped(name, "not listed", unlisted)
        else:
            yield Skipped(name, "not a picture file")


def _describe(item: Record | Skipped) -> str:
    if isinstance(item, Skipped):
        return f"{item.reason} ({item.detail})" if item.detail else item.reason
    words = [f"age {item.age_text}", item.gender, item.person]
    return " ".join(word for word in words if word)
