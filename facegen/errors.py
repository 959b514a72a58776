"""The error that a user can cause and can put right, and errors in words."""

from __future__ import annotations

import os


class FacegenError(ValueError):
    """One clear line: what is wrong, where, and what to do. The command line prints it without a traceback."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an error as one line of at most `limit` letters; one of the system begins with its file."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: cannot be read or written ({error.strerror})"
    return " ".join(str(error).split())[:limit] or type(error).__name__


def printable(text: str) -> str:
    """Make visible what no terminal shows: file names may hold line breaks and halves of characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shorten(text: str, limit: int) -> str:
    """Return at most `limit` letters of a text: its middle is left out."""
    half = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"
