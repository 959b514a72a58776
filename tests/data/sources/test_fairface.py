from __future__ import annotations

import pytest

from facegen.data.sources import Record, Skipped

HEADER = "file,age,gender,race,service_test\n"
TRAIN = "fairface_label_train.csv"


def label(age: str, gender: str = "Male", number: int = 1) -> str:
    return f"train/{number}.jpg,{age},{gender},Black,True\n"


@pytest.mark.parametrize(
    ("age", "low", "high"),
    [("0-2", 0, 2), ("3-9", 3, 9), ("10-19", 10, 19), ("60-69", 60, 69), ("more than 70", 70, None)],
)
def test_ranges_of_ages_as_fairface_writes_them(read, age, low, high):
    found = read("fairface", {TRAIN: HEADER + label(age, "Female"), "train/1.jpg": ""})
    assert found == {"train/1.jpg": Record("train/1.jpg", low, high, gender="female")}


def test_train_and_val_have_the_same_numbers(read):
    val = {"fairface_label_val.csv": f"{HEADER}val/1.jpg,3-9,Male,Black,False\n", "val/1.jpg": ""}
    found = read("fairface", {TRAIN: HEADER + label("0-2"), "train/1.jpg": ""} | val)
    assert {name: item.low for name, item in found.items()} == {"train/1.jpg": 0, "val/1.jpg": 3}


def test_pictures_in_the_folder_of_the_download(read):
    folder = "fairface-img-margin025-trainval"
    found = read("fairface", {TRAIN: HEADER + label("0-2"), f"{folder}/train/1.jpg": ""})
    assert found == {f"{folder}/train/1.jpg": Record(f"{folder}/train/1.jpg", 0, 2, gender="male")}


def test_of_both_downloads_one_is_taken(read):
    found = read("fairface", {TRAIN: HEADER + label("0-2"), "margin025/train/1.jpg": "", "margin125/train/1.jpg": ""})
    assert found["margin025/train/1.jpg"].low == 0
    assert found["margin125/train/1.jpg"] == Skipped(
        "margin125/train/1.jpg", "another crop of the same picture", "margin025/train/1.jpg is taken"
    )


@pytest.mark.parametrize(
    ("files", "reasons"),
    [
        ({TRAIN: HEADER + label("0-2")}, {"train/1.jpg": "file missing"}),
        ({TRAIN: HEADER, "train/1.jpg": ""}, {"train/1.jpg": "not listed"}),
        ({TRAIN: HEADER + label("old"), "train/1.jpg": ""}, {"train/1.jpg": "age not understood"}),
        ({TRAIN: HEADER + label("0-2") + label("3-9"), "train/1.jpg": ""}, {"train/1.jpg": "listed twice"}),
        ({TRAIN: HEADER + "train/1.jpg,0-2\n"}, {f"{TRAIN} line 2": "row not understood"}),
    ],
)
def test_what_does_not_fit_is_named(read, files, reasons):
    assert {name: item.reason for name, item in read("fairface", files).items()} == reasons
