from __future__ import annotations

import pytest

from facegen.data.sources import Record, Skipped

HEADER = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n"


def release(*rows: str, pictures: tuple[str, ...] = ("000000.jpg", "000000.jpg_face.jpg")) -> dict[str, str]:
    files = {f"appa-real-release/train/{name}": name for name in pictures}
    return files | {"appa-real-release/gt_avg_train.csv": HEADER + "".join(f"{row}\n" for row in rows)}


PHOTO = "appa-real-release/train/000000.jpg"
FACE = f"{PHOTO}_face.jpg"


@pytest.mark.parametrize(
    ("age", "guess", "expected"),
    [
        ("real", "5.18", 4),
        ("apparent", "5.18", 5),
        ("apparent", "34.5", 35),
        ("apparent", "35.5", 36),
        ("apparent", "34.49", 34),
    ],
)
def test_real_or_apparent_age_of_the_face(read, age, guess, expected):
    found = read("appa-real", release(f"000000.jpg,36,{guess},1.2,4"), age=age)
    assert found[FACE] == Record(FACE, expected, expected)
    assert found[PHOTO] == Skipped(PHOTO, "another crop of the same picture", f"{FACE} is taken")


def test_the_photo_where_there_is_no_face(read):
    assert read("appa-real", release("000000.jpg,36,5.1,1.2,4", pictures=("000000.jpg",))) == {
        PHOTO: Record(PHOTO, 4, 4)
    }


def test_the_same_number_in_another_part_is_another_picture(read):
    valid = {"appa-real-release/gt_avg_valid.csv": f"{HEADER}000000.jpg,36,5.1,1.2,60\n"}
    valid |= {"appa-real-release/valid/000000.jpg": ""}
    found = read("appa-real", release("000000.jpg,36,5.1,1.2,4") | valid)
    assert (found[FACE].age, found["appa-real-release/valid/000000.jpg"].age) == (4, 60)


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        ("000001.jpg,36,5.1,1.2,4", ["not listed", "not listed", "file missing"]),
        ("000000.jpg,36,5.1,1.2,", ["another crop of the same picture", "age not understood"]),
        ("000000.jpg,36,5.1,1.2,1000", ["another crop of the same picture", "not the age of a person"]),
        ("000000.jpg,36", ["row not understood", "not listed", "not listed"]),
    ],
)
def test_what_does_not_fit_is_named(read, row, reasons):
    assert [item.reason for item in read("appa-real", release(row)).values()] == reasons
