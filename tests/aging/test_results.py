"""What is said of the faces of a photo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from facegen.aging.change import UNDERSTOOD
from facegen.aging.results import CUT_OFF, FROM_THE_SIDE, AgedFace, FaceResult, doubts_in_words, found_in_words
from facegen.aging.strips import photo_strip
from facegen.faces.mask import share_inside


@pytest.fixture
def plain() -> FaceResult:
    """A face of which all is expected, of an age that was given."""
    picture = Image.new("RGB", (8, 8))
    return FaceResult((0.0, 0.0, 8.0, 8.0), np.eye(2, 3), picture, picture, 44.4, 4, [], np.zeros(4))


def test_strips_wrap(plain: FaceResult):
    """Input, reconstruction and three ages in rows of three; the photo and three ages in rows of two."""
    aged = [AgedFace(f"age {age}", age, 4, plain.input) for age in (10, 20, 30)]
    face = replace(plain, aged=aged)
    assert face.strip(tile=32, columns=3).width == 3 * 34 - 2
    assert face.strip(tile=32).width == 5 * 34 - 2
    photo = Image.new("RGB", (40, 30))
    assert photo_strip(photo, [photo] * 3, face, tile=40, columns=2).width == 2 * 42 - 2


def test_ages_that_nobody_told_are_said(plain: FaceResult):
    seen = replace(plain, age_is_estimated=True)
    assert found_in_words([plain]) == ""
    assert found_in_words([seen]) == "looks 44"
    assert found_in_words([plain] * 3) == "3 faces"
    assert found_in_words([seen, seen]) == "2 faces look 44, 44 (largest first)"


def test_many_faces_are_said_in_a_short_line(plain: FaceResult):
    crowd = [replace(plain, age_is_estimated=True, input_age=float(age)) for age in range(10, 70)]
    assert found_in_words(crowd) == "60 faces look 10 to 69"
    assert found_in_words([plain] * 60) == "60 faces"
    (line,) = doubts_in_words([replace(plain, yaw=70.0)] * 60, pasted=True)
    assert line.startswith("60 of 60 faces are ")


def test_nothing_is_said_of_faces_of_which_all_is_expected(plain: FaceResult):
    nearly = replace(plain, yaw=-FROM_THE_SIDE, inside=CUT_OFF, understood=UNDERSTOOD)
    assert doubts_in_words([plain, nearly], pasted=True) == []


def test_each_doubt_is_a_line_with_the_numbers_of_its_faces(plain: FaceResult):
    side, cut, strange = replace(plain, yaw=-50.0), replace(plain, inside=0.5), replace(plain, understood=0.1)
    first, second, third = doubts_in_words([plain, side, cut, strange, side], pasted=True)
    assert first.startswith("faces 2, 5 are ")
    assert second.startswith("face 3 is ")
    assert third.startswith("face 4 is ")
    # How far a change reaches is of no interest where it goes into no photo.
    assert doubts_in_words([plain, strange], pasted=False) == []


def test_share_of_a_face_inside_of_its_photo():
    matrix = np.array([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]])  # the crop of 64 pixels lies on the first 128 of the photo
    assert share_inside(matrix, 64, (128, 128)) == 1
    assert share_inside(matrix, 64, (64, 128)) == pytest.approx(0.5, abs=0.02)
    assert share_inside(matrix, 64, (0, 128)) == 0
