"""The data sets that `facegen prepare` knows, a class each; `base.py` says what makes one."""

from __future__ import annotations

import importlib
import os
import pkgutil
from dataclasses import fields, replace
from functools import cache
from typing import Any

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.csv_table import CsvTable
from facegen.errors import FacegenError
from facegen.files import at_home

__all__ = ["Record", "Skipped", "Source", "all_sources", "detect_source", "get_source", "open_source"]


@cache
def all_sources() -> dict[str, type[Source]]:
    """Every data set by name, sorted: the classes in the files of this folder that no other class builds on."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {source.name: source for source in sorted(_final(Source), key=lambda source: source.name)}


def _final(source: Any) -> list[Any]:
    """The subclasses of a class, of its subclasses, and so on, that have none of their own."""
    return [final for below in source.__subclasses__() for final in _final(below)] or [source]


def get_source(name: str) -> type[Source]:
    """Return the data set of that name. Raises FacegenError, listing the known ones."""
    sources = all_sources()
    if name not in sources:
        raise FacegenError(f"{name!r} is not a known data set; known: {', '.join(sources)}")
    return sources[name]


def detect_source(files: Container) -> type[Source]:
    """Return the data set that `files` is laid out as. Raises FacegenError when none or several fit."""
    fitting = [source for source in all_sources().values() if source.recognizes(files)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(source.name for source in fitting or all_sources().values())
    found = f"could be {names}" if fitting else f"does not look like any of {names}"
    pack = "" if fitting else ", or use `facegen pack` for pictures without ages"
    raise FacegenError(f"{files.path}: {found}; say which with --source NAME{pack}")


def open_source(
    path: str | os.PathLike[str], source: Source | str | None = None, **options: Any
) -> tuple[Container, Source]:
    """Open the data set in a folder, zip or CSV table.

    Args:
        path: the data set; a table stands for its folder.
        source: which data set it is, or its name; None detects it.
        options: the options of the data set, when `source` is a name or None.

    Raises FileNotFoundError or FacegenError if there is nothing, if the data set is not recognized, or if it has no
    such option.
    """
    path = at_home(path)
    is_table = path.suffix.lower() in {".csv", ".tsv"} and path.is_file()
    files = Container(path.parent if is_table else path, strict=False)
    if not isinstance(source, Source):
        kind = get_source(source or "csv") if source or is_table else detect_source(files)
        unknown = sorted(options.keys() - {field.name for field in fields(kind)})
        if unknown:
            raise FacegenError(f"--{unknown[0].replace('_', '-')} is not an option of {kind.name}")
        source = kind(**options)
    if is_table:
        if not isinstance(source, CsvTable):
            raise FacegenError(f"{path}: is a table; for {source.name} give the folder of the data set")
        source = replace(source, table=path.name)
    return files, source
