from __future__ import annotations

import pytest

from facegen.container import Container
from facegen.data.sources import Record, Skipped, get_source
from facegen.errors import FacegenError


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


def test_afad_has_ages_and_genders(read):
    found = read("folders", ["23/111/a.jpg", "23/112/b.jpg", "AFAD-Full/30/112/c.jpg", "35/d.jpg"])
    assert found["23/111/a.jpg"] == Record("23/111/a.jpg", 23, 23, gender="male")
    assert found["23/112/b.jpg"] == Record("23/112/b.jpg", 23, 23, gender="female")
    assert found["AFAD-Full/30/112/c.jpg"] == Record("AFAD-Full/30/112/c.jpg", 30, 30, gender="female")
    assert found["35/d.jpg"] == Record("35/d.jpg", 35, 35)


@pytest.mark.parametrize(
    "name", ["23/0/a.jpg", "0/23/a.jpg", "20-29/35/a.jpg", "25/20-29/a.jpg", "23/111/5/a.jpg", "001/20-29/25/a.jpg"]
)
def test_two_folders_that_could_be_the_age_are_refused(read, name):
    with pytest.raises(FacegenError, match="--age-folder"):
        read("folders", ["30/x.jpg", name])


def test_the_folder_of_the_age_can_be_told(read):
    names = ["23/0/a.jpg", "24/1/b.jpg", "c.jpg", "25/x/d.jpg", "old/1/e.jpg", "30/111/f.jpg"]
    outer = read("folders", names, age_folder=2)
    ages = {name: item.age for name, item in outer.items() if isinstance(item, Record)}
    assert ages == {"23/0/a.jpg": 23, "24/1/b.jpg": 24, "25/x/d.jpg": 25, "30/111/f.jpg": 30}
    assert {outer[name].reason for name in ("c.jpg", "old/1/e.jpg")} == {"folder is no age"}
    assert read("folders", ["23/0/a.jpg"], age_folder=1)["23/0/a.jpg"].age == 0
