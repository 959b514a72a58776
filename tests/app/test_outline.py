"""Faces, outlined."""

from __future__ import annotations

from PIL import Image

from facegen.app.outline import CHOSEN, OTHER, outlined


def test_boxes_and_captions_show_who_changes():
    photo = Image.new("RGB", (800, 600))
    boxes = [(40.0, 60.0, 140.0, 160.0), (220.0, 60.0, 320.0, 160.0)]
    picture = outlined(photo, boxes, ["1: looks 30", "2: looks 60"], [0])
    assert picture.getpixel((40, 120)) == CHOSEN
    assert picture.getpixel((220, 120)) == OTHER
    assert picture.getpixel((90, 110)) == (0, 0, 0)
    assert photo.getcolors() == [(800 * 600, (0, 0, 0))]
    plain = outlined(photo, boxes, ["", ""], [0])
    assert picture.tobytes() != plain.tobytes()


def test_a_face_at_the_top_of_a_gray_photo():
    picture = outlined(Image.new("L", (700, 700), 90), [(0.0, 0.0, 80.0, 80.0)], ["1: looks 30"], [0])
    assert picture.mode == "RGB"
    assert picture.size == (700, 700)


def test_a_small_photo_is_enlarged():
    picture = outlined(Image.new("RGB", (200, 100)), [(50.0, 40.0, 90.0, 80.0)], ["1: looks 30"], [])
    assert picture.width >= 600
    assert picture.width == 2 * picture.height
    assert picture.getpixel((picture.width // 4, picture.height * 6 // 10)) == OTHER
