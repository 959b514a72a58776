"""Make text from strangers safe to show: names, headers, errors.

A file's name can move the cursor, color the screen, turn the direction of reading, or pretend to be the next line.
Whatever facegen shows (terminal, logs, pages, Markdown) goes through `visible`, its JSON through `json_text`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import unicodedata
from collections.abc import Iterable
from typing import Any

# Everything that may be odd: all but the printable part of ASCII.
_CANDIDATE = re.compile(r"[^ -~]")
# Letters by their category, but drawn as nothing.
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_JOINERS = frozenset("\u200c\u200d")
_NUMBERS = re.compile(r"(\d{1,12})(?:\s*-\s*(\d{1,12}))?")
# Characters with a meaning in Markdown, of which HTML, links and pictures are made.
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", "[": "&#91;", "`": "&#96;", "|": "&#124;"})


def visible(text: str) -> str:
    r"""Return a text in one line with everything that no screen shows as `\n`, `\x1b`, `\u202e` or `\U000e0001`.

    That is what Unicode calls control, format (directions, zero width), surrogate, private, unassigned, and line and
    paragraph separators. Letters of all scripts, spaces, and what joins emoji or letters of Arabic and India stay.
    A text that is visible stays as it is, so nothing is lost where it comes by twice.
    """
    return _CANDIDATE.sub(_as_is_or_escaped, text)


def shorten(text: str, limit: int) -> str:
    """Return at most `limit` letters of a text: its middle is left out."""
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[len(text) - (limit - 1) // 2 :]}"


def shown(value: object, limit: int = 80) -> str:
    """Return text, a number or an error as one short visible line for a message.

    Of anything else only the kind: the `str` of a container whose parts refer to each other can be endless.
    """
    text = str(value) if isinstance(value, (str, int, float, BaseException)) else f"a {type(value).__name__}"
    return visible(shorten(text, limit))


def json_text(content: Any, indent: int | None = None) -> str:
    r"""Return what JSON can hold as JSON for people: its letters as they are, what `visible` escapes as `\u202e`.

    Reading it gives the same text again, halves of characters included.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    return _CANDIDATE.sub(lambda match: match[0] if match[0] == "\n" or _is_honest(match) else _units(match[0]), text)


def in_markdown(text: str) -> str:
    """Return a visible text that Markdown takes for nothing but text: no HTML, link, picture, code or table cell."""
    return visible(text).translate(_MARKUP)


def in_ranges(numbers: Iterable[int]) -> str:
    """Whole numbers, growing, in few letters: `0-3,7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def number_range(text: str) -> range | None:
    """Read one part of what `in_ranges` writes: `7`, or `0-3` with both ends, which is empty where it falls.

    None for any other text. A range may be huge: look at its ends before its numbers become a list.
    """
    match = _NUMBERS.fullmatch(text.strip())
    return range(int(match[1]), int(match[2] or match[1]) + 1) if match else None


def as_argument(path: str | os.PathLike[str]) -> str:
    """Return a path as a command that a person copies needs it: its shell finds no command in it."""
    text = visible(os.fspath(path))
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


def _is_honest(match: re.Match[str]) -> bool:
    """Whether a character that is not ASCII can be shown."""
    character, text, place = match[0], match.string, match.start()
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character not in _BLANK_LETTERS
    return character in _JOINERS and _joins(text[max(place - 1, 0) : place], text[place + 1 : place + 2])


def _joins(before: str, after: str) -> bool:
    """Whether a joiner between these two changes how they are drawn."""
    if not before or not after:
        return False
    scripts = "\u0600", "\u0dff"  # from Arabic to the scripts of India
    if scripts[0] <= before <= scripts[1] and scripts[0] <= after <= scripts[1]:
        return before.isprintable() and after.isprintable()
    # The last of an emoji may be the mark that makes it colored, or the tone of its skin.
    is_emoji = before == "\ufe0f" or unicodedata.category(before) == "So" or "\U0001f3fb" <= before <= "\U0001f3ff"
    return is_emoji and unicodedata.category(after) == "So"


def _as_is_or_escaped(match: re.Match[str]) -> str:
    return match[0] if _is_honest(match) else ascii(match[0])[1:-1]


def _units(character: str) -> str:
    """A character as JSON escapes it, in units of 16 bits."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
