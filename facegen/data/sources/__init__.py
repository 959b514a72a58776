"""The data sets that `facegen prepare` knows, one file each; `base.py` says what makes one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from facegen.data.container import Container
from facegen.data.sources.base import Record, Skipped, Source
from facegen.errors import FacegenError

__all__ = ["Record", "Skipped", "Source", "all_sources", "detect_source", "get_source"]


@cache
def all_sources() -> dict[str, type[Source]]:
    """Every data set by name, sorted: the subclasses of `Source` in the files of this folder."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {source.name: source for source in sorted(Source.__subclasses__(), key=lambda source: source.name)}


def get_source(name: str) -> type[Source]:
    """Return the data set of that name. Raises FacegenError, listing the known ones."""
    sources = all_sources()
    if name not in sources:
        raise FacegenError(f"{name!r} is not a known data set; known: {', '.join(sources)}")
    return sources[name]


def detect_source(files: Container) -> type[Source]:
    """Return the data set that `files` is laid out as. Raises FacegenError when none or several fit."""
    fitting = [source for source in all_sources().values() if source.recognises(files)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(source.name for source in fitting or all_sources().values())
    found = f"could be {names}" if fitting else f"is laid out as none of {names}"
    raise FacegenError(f"{files.path}: {found}; say which with --source NAME")
