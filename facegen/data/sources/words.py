"""Read ages, age ranges and genders that data sets write as text."""

from __future__ import annotations

import math
import re

from facegen.ages import OLDEST_PERSON
from facegen.data.sources.base import Record, Skipped
from facegen.text import shorten

# An age in years, `35` or `35.7`, also with the comma of a European spreadsheet or a sign.
_AGE = re.compile(r"[+-]?\d{1,30}(?:[.,]\d*)?")
# `20-29` (with any dash), and with an open end `70+` or `70-`.
_RANGE = re.compile(r"(\d{1,30}) ?(?:[-\u2013\u2014] ?(\d{1,30})?|\+)")
# Words that leave no doubt; 0 and 1 mean either in some data set.
_GENDERS = dict.fromkeys(("f", "female", "woman"), "female") | dict.fromkeys(("m", "male", "man"), "male")


def parse_age(text: str) -> tuple[int, int | None] | None:
    """Read `35`, `35.7` (35 completed years), `20-29`, `70+` or `70-`: the youngest and oldest, in years; None where
    it is not one of these. Does not check whether a person can be that old."""
    text = " ".join(text.split())
    if _AGE.fullmatch(text):
        age = math.floor(float(text.replace(",", ".")))
        return age, age
    if match := _RANGE.fullmatch(text):
        low, high = int(match[1]), None if match[2] is None else int(match[2])
        return None if high is not None and high < low else (low, high)
    return None


def face(name: str, age: str, person: str | None = None, gender: str | None = None) -> Record | Skipped:
    """The record of a file whose facts a data set gives as text, or why its age cannot be used."""
    ages = parse_age(age)
    if ages is None:
        return Skipped(name, "age not understood", shorten(repr(age), 60) if age.strip() else "it is empty")
    low, high = ages
    if not (0 <= low <= OLDEST_PERSON and (high is None or high <= OLDEST_PERSON)):
        return Skipped(name, "not the age of a person", age.strip())
    return Record(name, low, high, person or None, _GENDERS.get((gender or "").strip().lower()))
