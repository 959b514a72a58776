"""Errors in one line, and names that no terminal shows."""

import os

import pytest

from facegen.errors import one_line, printable, shorten


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


def test_printable():
    assert printable("a\nb\u202ec\udc80ü") == "a\\nb\\u202ec\\udc80ü"


def test_the_middle_of_a_long_text_is_left_out():
    assert shorten("abcdefghi", 9) == "abcdefghi"
    assert shorten("abcdefghijkl", 9) == "abcd…ijkl"
