"""UTKFace, FG-NET, AgeDB and CACD: all that they say stands in file names."""

from __future__ import annotations

import pytest

from facegen.data.sources import Record


@pytest.mark.parametrize(
    ("source", "name", "record"),
    [
        ("utkface", "26_1_2_20170116174525125.webp", (26, None, "female")),
        ("utkface", "100_0_0_20170112215240346.jpg.chip.jpg", (100, None, "male")),
        ("utkface", "0_0_0_20170110212554987.JPG", (0, None, "male")),
        # Three names of the real data set: a dot missing, a blank, a gender 3 that is none.
        ("utkface", "part1/55_0_0_20170116232725357jpg.chip.jpg", (55, None, "male")),
        ("utkface", "deep/down/24_0_1_20170116220224657 .jpg.chip.jpg", (24, None, "male")),
        ("utkface", "53_3_0_20170116184028385.jpg", (53, None, None)),
        ("utkface", "116_1_3_20170120134646399.png", (116, None, "female")),
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
        ("utkface", "61_1_20170109142408075.jpg.chip.jpg"),  # real: its race is missing
        ("utkface", "39_1_20170116174525125.jpg"),
        ("utkface", "holiday.jpg"),
        ("utkface", "2017_01_02_20170116174525125.jpg"),
        ("utkface", "-5_0_0_20170116174525125.jpg"),
        ("utkface", "26_1_2_x.jpg"),
        ("utkface", "26_1_2_20170116_1.jpg"),
        ("utkface", "1000_1_2_20170116174525125.jpg"),
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


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("agedb", "0_X_123_f.jpg", "not the age of a person"),
        ("cacd", "999_X_0001.jpg", "not the age of a person"),
        ("utkface", "123_1_2_20170116174525125.jpg", "not the age of a person"),
        ("utkface", "26_1_2_20170116174525125.txt", "not a picture file"),
        ("utkface", "readme", "not a picture file"),
    ],
)
def test_ages_that_nobody_reached_and_other_files_are_reported(read, source, name, reason):
    assert read(source, [name])[name].reason == reason


def test_landmarks_of_fg_net_are_not_reported_and_other_files_are(read):
    found = read("fg-net", ["points/001a02.pts", "images/001A02.JPG", "data.pts"])
    assert list(found) == ["data.pts", "images/001A02.JPG"]


def test_metadata_of_cacd_is_not_reported_and_other_files_are(read):
    assert list(read("cacd", ["celebrity2000.mat", "celebrity2000_meta.mat", "x.mat"])) == ["x.mat"]
