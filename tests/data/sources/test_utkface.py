from __future__ import annotations

import zipfile

import pytest

from facegen.container import Container
from facegen.data.sources import Record, Skipped, get_source
from facegen.errors import FacegenError


@pytest.mark.parametrize(
    ("name", "age", "gender"),
    [
        ("26_1_2_20170116174525125.webp", 26, "female"),
        ("100_0_0_20170112215240346.jpg.chip.jpg", 100, "male"),
        ("0_0_0_20170110212554987.JPG", 0, "male"),
        ("part1/55_0_0_20170116232725357jpg.chip.jpg", 55, "male"),  # a name of the real data set, its dot missing
        ("deep/down/24_0_1_20170116220224657 .jpg.chip.jpg", 24, "male"),  # another
        ("53_3_0_20170116184028385.jpg", 53, None),  # another: there is no gender 3
        ("116_1_3_20170120134646399.png", 116, "female"),
    ],
)
def test_names_of_utkface(read, name, age, gender):
    assert read("utkface", [name]) == {name: Record(name, age, age, gender=gender)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("61_1_20170109142408075.jpg.chip.jpg", "name not understood"),  # real: its race is missing
        ("39_1_20170116174525125.jpg", "name not understood"),
        ("holiday.jpg", "name not understood"),
        ("2017_01_02_20170116174525125.jpg", "name not understood"),
        ("-5_0_0_20170116174525125.jpg", "name not understood"),
        ("26_1_2_x.jpg", "name not understood"),
        ("26_1_2_20170116_1.jpg", "name not understood"),
        ("1000_1_2_20170116174525125.jpg", "name not understood"),
        ("123_1_2_20170116174525125.jpg", "not the age of a person"),
        ("26_1_2_20170116174525125.txt", "not a picture file"),
        ("readme", "not a picture file"),
    ],
)
def test_other_names_are_reported(read, name, reason):
    skipped = read("utkface", [name])[name]
    assert isinstance(skipped, Skipped)
    assert skipped.reason == reason


def test_order_is_that_of_the_names_in_folder_and_zip(read, tmp_path):
    names = ["b/9_0_0_1.jpg", "a/10_0_0_1.jpg", "a/1_0_0_1.jpg"]
    found = list(read("utkface", names))
    assert found == sorted(names)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    assert [item.name for item in get_source("utkface")().read(Container(tmp_path / "set.zip"))] == found


def test_links_to_folders_are_followed(read, tmp_path):
    read("utkface", ["1_0_0_1.jpg"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "2_0_0_1.jpg").write_bytes(b"x")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "other")
    assert "linked/2_0_0_1.jpg" in read("utkface")


def test_container_refuses_a_file_that_is_not_there(read, tmp_path):
    read("utkface", ["1_0_0_1.jpg"])
    with pytest.raises(FacegenError, match=r"cannot read 2_0_0_1.jpg"):
        Container(tmp_path / "set").read("2_0_0_1.jpg")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", b"")
    with pytest.raises(FacegenError, match="there is no file y in it"):
        Container(tmp_path / "a.zip").read("y")
