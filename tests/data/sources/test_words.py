from __future__ import annotations

import pytest

from facegen.data.sources import Record, Skipped
from facegen.data.sources.words import face


@pytest.mark.parametrize(
    ("text", "ages"),
    [
        ("35", (35, 35)),
        (" 035 ", (35, 35)),
        ("0", (0, 0)),
        ("122", (122, 122)),
        ("35.0", (35, 35)),
        ("35,0", (35, 35)),
        ("35.", (35, 35)),
        ("35.9", (35, 35)),  # completed years
        ("20-29", (20, 29)),
        ("20 - 29", (20, 29)),
        ("20–29", (20, 29)),
        ("7-7", (7, 7)),
        ("70+", (70, None)),
        ("70-", (70, None)),
        ("70 +", (70, None)),
    ],
)
def test_ages(text, ages):
    assert face("a.jpg", text) == Record("a.jpg", *ages)


@pytest.mark.parametrize("text", ["abc", "nan", "inf", "1e1", "29-20", "20-29-30", "+", "-", "20_29", "0x10", "19-Oct"])
def test_other_words_are_not_understood(text):
    assert face("a.jpg", text) == Skipped("a.jpg", "age not understood", repr(text))


@pytest.mark.parametrize("text", ["", "  "])
def test_no_age(text):
    assert face("a.jpg", text) == Skipped("a.jpg", "age not understood", "it is empty")


@pytest.mark.parametrize("text", ["-5", "123", "1000", "-0.5", "1000000000000000000000", "60-150", "130+"])
def test_ages_of_nobody(text):
    assert face("a.jpg", text) == Skipped("a.jpg", "not the age of a person", text)


@pytest.mark.parametrize(
    ("text", "gender"),
    [("F", "female"), (" Female ", "female"), ("woman", "female"), ("m", "male"), ("MALE", "male"), ("Man", "male")]
    + [(word, None) for word in ("", "0", "1", "x", "nan", "w", "girl", "female male")],
)
def test_genders(text, gender):
    assert face("a.jpg", "30", gender=text).gender == gender


def test_a_cell_of_any_length_is_shown_in_short():
    skipped = face("a.jpg", "9" * 5000)
    assert isinstance(skipped, Skipped)
    assert len(skipped.detail) < 100
