"""Errors in one line."""

import os

import pytest

from facegen.errors import FacegenError, one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n  two\tthree"), "one two three"),
        (RuntimeError(), "RuntimeError"),
        (FileNotFoundError(2, "No such file", os.fsencode("a.png")), "a.png: cannot be read or written (No such file)"),
        (PermissionError(13, "Permission denied", "a.zip"), "a.zip: cannot be read or written (Permission denied)"),
        (OSError("no number"), "no number"),
    ],
)
def test_an_error_in_one_line(error, line):
    assert one_line(error) == line


def test_a_long_error_is_cut():
    assert len(one_line(ValueError("x" * 1000))) == 300


def test_a_message_shows_what_strangers_wrote():
    assert str(FacegenError("a\n\x1b[31m.zip: too small")) == "a\\n\\x1b[31m.zip: too small"
    assert len(str(FacegenError("x" * 10**6))) == 2000
    assert one_line(PermissionError(13, "no", "a\u202e.zip")).startswith("a\\u202e.zip: ")


def test_a_notebook_shows_one_line():
    error = FacegenError("photo.jpg: no face found")
    assert error._render_traceback_() == ["FacegenError: photo.jpg: no face found"]
