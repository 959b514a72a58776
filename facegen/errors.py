"""The error for mistakes that a user can correct, and error texts."""

from __future__ import annotations

import os

from facegen.text import shorten, visible

MAX_LETTERS = 2000  # of a message; the path of a file has up to 4096


class FacegenError(ValueError):
    """One clear line that says what is wrong, where, and what to do. The command line prints it without a traceback."""

    def __str__(self) -> str:
        """The message, in which whatever strangers wrote is visible."""
        return visible(shorten(super().__str__(), MAX_LETTERS))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the one line, too."""
        return [f"{type(self).__name__}: {self}"]


class DamagedError(FacegenError):
    """A file is not as it was written: bytes are missing or changed. Another copy of it may be whole."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an error as one visible line of at most `limit` letters; one of the system begins with its file."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return visible(f"{os.fsdecode(error.filename)}: cannot be read or written ({error.strerror})")
    return visible(shorten(" ".join(str(error).split()), limit)) or type(error).__name__
