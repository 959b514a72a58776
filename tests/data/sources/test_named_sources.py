"""FG-NET, AgeDB and CACD: all that they say stands in file names."""

from __future__ import annotations

import pytest

from facegen.data.sources import Record, Skipped


@pytest.mark.parametrize(
    ("source", "name", "record"),
    [
        ("fg-net", "FGNET/images/001A02.JPG", (2, "001", None)),
        ("fg-net", "001A43a.JPG", (43, "001", None)),
        ("fg-net", "images/078a11.jpg", (11, "078", None)),
        ("fg-net", "004A00.JPG", (0, "004", None)),
        ("agedb", "AgeDB/0_MariaCallas_35_f.jpg", (35, "MariaCallas", "female")),
        ("agedb", "1000_StephenHawking_1_m.jpg", (1, "StephenHawking", "male")),
        ("agedb", "2_PeterO'Toole_40_m.jpg", (40, "PeterO'Toole", "male")),
        ("agedb", "7_ÉdithPiaf_20_f.jpg", (20, "ÉdithPiaf", "female")),
        ("agedb", "7_三船敏郎_20_m.jpg", (20, "三船敏郎", "male")),
        ("agedb", "7_Jean_Marais_20_m.jpg", (20, "Jean_Marais", "male")),
        ("agedb", "7_A\nB_101_f.jpg", (101, "A\nB", "female")),
        ("cacd", "CACD2000/53_Robin_Williams_0001.jpg", (53, "Robin Williams", None)),
        ("cacd", "14_Dakota_Fanning_0011.jpg", (14, "Dakota Fanning", None)),
        ("cacd", "40_Penélope_Cruz_0011.jpg", (40, "Penélope Cruz", None)),
        ("cacd", "30_Topher_O'Neil-Grace_Jr._0003.jpg", (30, "Topher O'Neil-Grace Jr.", None)),
        ("cacd", "30_Catherine_Zeta\nJones_0003.jpg", (30, "Catherine Zeta\nJones", None)),
    ],
)
def test_names(read, source, name, record):
    age, person, gender = record
    assert read(source, [name]) == {name: Record(name, age, age, person, gender)}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("fg-net", "1A02.JPG"),
        ("fg-net", "001A2.JPG"),
        ("fg-net", "001B02.JPG"),
        ("fg-net", "001A02ab.JPG"),
        ("agedb", "0_MariaCallas_35.jpg"),
        ("agedb", "0_MariaCallas_35_x.jpg"),
        ("agedb", "MariaCallas_35_f.jpg"),
        ("agedb", "0__35_f.jpg"),
        ("agedb", "0_MariaCallas_-5_f.jpg"),
        ("agedb", "0_MariaCallas_1000_f.jpg"),
        ("cacd", "53_Robin_Williams.jpg"),
        ("cacd", "Robin_Williams_0001.jpg"),
        ("cacd", "53_Robin_Williams_001.jpg"),
        ("cacd", "-5_Robin_Williams_0001.jpg"),
        ("cacd", "1000_Robin_Williams_0001.jpg"),
        ("cacd", "26_1_2_2017.jpg"),
    ],
)
def test_other_names_are_reported_with_an_example(read, source, name):
    skipped = read(source, [name])[name]
    assert skipped.reason == "name not understood"
    assert skipped.detail.startswith("expected ")


def test_ages_that_nobody_reached_are_reported(read):
    assert read("agedb", ["0_X_123_f.jpg"])["0_X_123_f.jpg"] == Skipped(
        "0_X_123_f.jpg", "not the age of a person", "123"
    )
    assert read("cacd", ["999_X_0001.jpg"])["999_X_0001.jpg"].reason == "not the age of a person"


def test_landmarks_of_fg_net_are_not_reported_and_other_files_are(read):
    found = read("fg-net", ["points/001a02.pts", "images/001A02.JPG", "data.pts"])
    assert list(found) == ["data.pts", "images/001A02.JPG"]


def test_metadata_of_cacd_is_not_reported_and_other_files_are(read):
    assert list(read("cacd", ["celebrity2000.mat", "celebrity2000_meta.mat", "x.mat"])) == ["x.mat"]
