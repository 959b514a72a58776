from __future__ import annotations

import pytest
from dataset_layouts import FFHQ_HEADER, FFHQ_REST

from facegen.data.sources import Record, Skipped

TABLE = "ffhq_aging_labels.csv"
PICTURE = "00000/00000.png"


def labels(*rows: str) -> dict[str, str]:
    return {TABLE: FFHQ_HEADER + "".join(f"{row},{FFHQ_REST}" for row in rows)}


@pytest.mark.parametrize(
    ("group", "low", "high"), [("0-2", 0, 2), ("3-6", 3, 6), ("50-69", 50, 69), ("70-120", 70, None)]
)
def test_ranges_of_ages_as_the_table_writes_them(read, group, low, high):
    found = read("ffhq-aging", labels(f"0,{group},0.99,male") | {PICTURE: ""})
    assert found == {PICTURE: Record(PICTURE, low, high, gender="male")}


@pytest.mark.parametrize(("confidence", "taken"), [("0.6", True), ("0.59", False), ("1.0", True), ("", False)])
def test_confidence_is_at_least_0_6(read, confidence, taken):
    item = read("ffhq-aging", labels(f"0,0-2,{confidence},male") | {PICTURE: ""})[PICTURE]
    assert isinstance(item, Record) == taken
    assert taken or item == Skipped(
        PICTURE, "age not certain", f"confidence {confidence or 'not given'}, at least 0.6 required"
    )


def test_another_confidence(read):
    files = labels("0,0-2,0.42,male") | {PICTURE: ""}
    assert isinstance(read("ffhq-aging", files, min_confidence=0.4)[PICTURE], Record)


@pytest.mark.parametrize(
    "name",
    [
        "00012.png",
        "00000/00012.png",
        "images1024x1024/00000/00012.png",
        "thumbnails128x128/00012.png",
        "ffhq256/00012.jpg",
        "ffhq256/00012.webp",
    ],
)
def test_pictures_are_found_by_number_in_any_folder(read, name):
    assert read("ffhq-aging", labels("12,20-29,0.9,female") | {name: ""})[name].gender == "female"


def test_of_several_sizes_the_largest_is_taken(read):
    names = ["in-the-wild-images/00000.png", "thumbnails128x128/00000.png", "ffhq256/00000.png"]
    best = "images1024x1024/00000/00000.png"
    found = read("ffhq-aging", labels("0,0-2,0.9,male") | dict.fromkeys([*names, best], ""))
    assert {name for name, item in found.items() if isinstance(item, Record)} == {best}
    assert {found[name] for name in names} == {
        Skipped(name, "another size of the same picture", f"{best} is taken") for name in names
    }


def test_without_the_large_ones_any_size_comes_before_thumbnails(read):
    names = ["in-the-wild-images/00000.png", "thumbnails128x128/00000.png", "zz256/00000.png"]
    found = read("ffhq-aging", labels("0,0-2,0.9,male") | dict.fromkeys(names, ""))
    assert isinstance(found["zz256/00000.png"], Record)


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        ("1,0-2,0.9,male", {PICTURE: "not listed", "00001.png": "file missing"}),
        ("0,,0.9,male", {PICTURE: "age not understood"}),
        ("0,-1,0.9,male", {PICTURE: "not the age of a person"}),
        ("x,0-2,0.9,male", {PICTURE: "not listed", f"{TABLE} line 2": "row not understood"}),
        ("0,0-2", {PICTURE: "not listed", f"{TABLE} line 2": "row not understood"}),
    ],
)
def test_what_does_not_fit_is_named(read, row, reasons):
    assert {name: item.reason for name, item in read("ffhq-aging", labels(row) | {PICTURE: ""}).items()} == reasons
