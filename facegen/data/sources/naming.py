"""Data sets whose file names say it all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import PurePosixPath

from facegen.container import Container, is_image_name
from facegen.data.sources.base import Record, Skipped

_SAMPLE = 100  # pictures whose names tell a data set: a big one has half a million


def mostly_named(files: Container, pattern: re.Pattern[str]) -> bool:
    """Whether most of the first pictures have names, without their folders, that fit `pattern` from end to end."""
    names = [PurePosixPath(name).name for name in islice(filter(is_image_name, files.names), _SAMPLE)]
    return sum(pattern.fullmatch(name) is not None for name in names) > len(names) / 2


def read_named(
    files: Container,
    pattern: re.Pattern[str],
    expected: str,
    record: Callable[[str, re.Match[str]], Record | Skipped],
    own: re.Pattern[str] | None = None,
) -> Iterator[Record | Skipped]:
    """Go through files whose names hold what there is to know.

    Args:
        files: The data set.
        pattern: What the name of a picture, without its folders, must fit from end to end.
        expected: The pattern in words, for the report.
        record: From a file and the match of its name to its record.
        own: Names, without folders, of files that the data set ships beside its pictures: not worth a word.
    """
    for name in files.names:
        base = PurePosixPath(name).name
        match = pattern.fullmatch(base)
        if own is not None and own.fullmatch(base):
            continue
        if not is_image_name(name):
            yield Skipped(name, "not a picture file")
        elif match is None:
            yield Skipped(name, "name not understood", f"expected {expected}")
        else:
            yield record(name, match)
