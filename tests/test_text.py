"""What strangers wrote: seen by people, and the same again for programs."""

import json
import os
import shlex

import pytest

from facegen.text import as_argument, in_markdown, in_ranges, json_text, number_range, shorten, shown, visible

ODD = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x00\t\r\n\x7f": r"\x00\t\r\n\x7f",
    "\x9b31m\x9d\x85": r"\x9b31m\x9d\x85",
    "a\u202eb\u2066c\u200fd": r"a\u202eb\u2066c\u200fd",
    "a\u200bb\u00adc\ufeffd\u2060": r"a\u200bb\xadc\ufeffd\u2060",
    "a\u200cb\u200dc": r"a\u200cb\u200dc",  # they join nothing
    "\u0661\u200d": "\u0661\\u200d",
    "\u2028\u2029": r"\u2028\u2029",
    "\ud800\udc80\udfff": r"\ud800\udc80\udfff",
    "\U000e0041\ue000\u0378": r"\U000e0041\ue000\u0378",  # a tag, a private and an unassigned one
    "\u3164\u115f": r"\u3164\u115f",  # letters that are blank
}
HONEST = [
    "photo (1).png",
    r"C:\faces\x.png",
    "日本語　フォルダ",
    "قاعدة\u00a0البيانات",
    "می\u200cخواهم",
    "क्\u200dष",
    "é e\u0301 ñ ß Ω",
    "👩\u200d🚀 👩🏽\u200d🔬 🏳\ufe0f\u200d🌈 ❤\ufe0f",
]


@pytest.mark.parametrize(("text", "seen"), ODD.items(), ids=ascii)
def test_what_no_screen_shows_is_visible(text: str, seen: str):
    assert visible(text) == seen
    assert visible(seen) == seen


@pytest.mark.parametrize("text", HONEST, ids=ascii)
def test_honest_names_stay(text: str):
    assert visible(text) == text
    assert json.loads(json_text(text)) == text


@pytest.mark.parametrize("text", [*ODD, "é", '"\\'], ids=ascii)
def test_json_is_visible_and_gives_the_same_again(text: str):
    content = {text: [text, {"a": text}]}
    for indent in (None, 2):
        written = json_text(content, indent)
        assert all(visible(line) == line for line in written.split("\n"))
        assert json.loads(written) == json.loads(json.dumps(content))
    assert json_text("é") == '"é"'


def test_the_middle_of_a_long_text_is_left_out():
    assert shorten("abcdefghi", 9) == "abcdefghi"
    assert shorten("abcdefghijkl", 9) == "abcd…ijkl"
    assert shorten("abcdefghijkl", 10) == "abcde…ijkl"


def test_values_of_a_file_are_short_and_visible():
    assert shown("a\nb\x1b[31m\u202e") == r"a\nb\x1b[31m\u202e"
    assert len(shown("x" * 10**6)) == 80
    assert shown(ValueError("bad\nluck")) == r"bad\nluck"
    assert shown([[[]]]) == "a list"  # its text could be endless


def test_markdown_makes_nothing_of_a_name():
    text = in_markdown("<img src=x>|![a](http://b)`c`\n# d & e_f")
    assert not set("<[`|\n") & set(text)
    assert text.endswith(r"\n# d &amp; e_f")


@pytest.mark.skipif(os.name == "nt", reason="another shell")
def test_a_copied_command_runs_no_other():
    assert as_argument("runs/00000-a") == "runs/00000-a"
    assert shlex.split(as_argument("runs/$(touch x); a")) == ["runs/$(touch x); a"]
    assert "\x1b" not in as_argument("a\x1b[31m")


@pytest.mark.parametrize(("numbers", "written"), [([0, 1, 2, 3, 7], "0-3,7"), ([4], "4"), ([2, 1], "2,1"), ([], "")])
def test_numbers_in_ranges(numbers: list[int], written: str):
    assert in_ranges(numbers) == written


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("7", range(7, 8)), (" 0-3 ", range(4)), ("0 - 3", range(4)), ("0-999999999999", range(10**12)), ("3-1", range(0))]
    + [(text, None) for text in ("", "-1", "1-", "1-2-3", "1,2", "a", "1.5", "1" * 13)],
)
def test_a_range_of_numbers(text: str, numbers: range | None):
    assert number_range(text) == numbers
