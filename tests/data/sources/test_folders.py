from __future__ import annotations

import pytest

from facegen.container import Container
from facegen.data.sources import Record, Skipped, get_source


@pytest.mark.parametrize(
    ("name", "ages"),
    [
        ("25/a.jpg", (25, 25)),
        ("025/a.jpg", (25, 25)),
        ("000/a.jpg", (0, 0)),
        ("0-10/a.jpg", (0, 10)),
        ("60+/a.jpg", (60, None)),
        ("train/20-29/x.jpg", (20, 29)),
        ("20-29/male/x.jpg", (20, 29)),
        ("20-29/25/x.jpg", (25, 25)),
        ("20-29/25/größe\nx.jpg", (25, 25)),
    ],
)
def test_the_deepest_folder_that_is_an_age_counts(read, name, ages):
    assert read("folders", [name]) == {name: Record(name, *ages)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("old/a.jpg", "folder is no age"),
        ("a.jpg", "folder is no age"),
        ("25.jpg", "folder is no age"),
        ("29-20/a.jpg", "folder is no age"),
        ("200/a.jpg", "not the age of a person"),
        ("-5/a.jpg", "not the age of a person"),
        ("1000/a.jpg", "folder is no age"),
        ("00025/a.jpg", "folder is no age"),
        ("25/a.txt", "not a picture file"),
    ],
)
def test_other_folders_are_reported(read, name, reason):
    assert read("folders", [name])[name].reason == reason


def test_the_folder_is_named(read):
    assert read("folders", ["x/old/a.jpg"])["x/old/a.jpg"] == Skipped("x/old/a.jpg", "folder is no age", "folder 'old'")


@pytest.mark.parametrize(
    "names",
    [
        ["00000/00000.png", "00000/00001.png"],  # FFHQ without the table
        ["00/nm0000100_rm46373120_1955-1-6_2003.jpg"],  # IMDB-WIKI without its .mat
        ["17/10000217_1981-05-05_2009.jpg"],
        ["a/1.jpg", "b/2.jpg", "25/3.jpg"],  # one folder that happens to be a number
        ["200/1.jpg", "300/1.jpg"],
    ],
)
def test_numbers_that_are_no_ages_are_not_recognized(read, tmp_path, names):
    read("folders", names)
    assert not get_source("folders").recognizes(Container(tmp_path / "set"))
