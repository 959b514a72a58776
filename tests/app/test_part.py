"""The part of a photo that the page compares: where it is, and that faces in it are those of the whole photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegen.aging.edit import Edit
from facegen.aging.transfer import AgeTransfer
from facegen.app.part import LEAST, around, whole
from facegen.app.session import PREVIEW, PhotoSession, Settings


@pytest.mark.parametrize("box", [(900, 500, 1000, 640), (0, 0, 60, 80), (1960, 1400, 1999, 1499)])
def test_a_part_holds_the_face_and_some_of_the_photo_around(box):
    photo = Image.new("RGB", (2000, 1500))
    part = around(photo, [box], 1024)
    assert part.picture.size != photo.size
    assert part.picture.width >= LEAST / 2  # at a corner, half of the stretch is outside
    left, top, right, bottom = part.box_of(box)
    assert left >= 0
    assert top >= 0
    assert right <= part.picture.width
    assert bottom <= part.picture.height


def test_a_photo_of_little_else_is_shown_whole():
    photo = Image.new("RGB", (2000, 1500))
    for boxes in ([(700, 400, 1300, 1200)], [(0, 0, 200, 200), (1800, 1300, 2000, 1500)]):
        part = around(photo, boxes, 1024)
        assert (part.left, part.top, part.scale) == (0, 0, whole(photo, 1024).scale)


@pytest.mark.parametrize("method", [None, "editor"])
def test_faces_in_the_part_are_those_of_the_whole_photo(tmp_path, hopper, method):
    photo = Image.new("RGB", (2400, 1800), "teal")
    photo.paste(hopper, (1500, 700))
    photo.save(tmp_path / "photo.png", icc_profile=b"kept")
    session = PhotoSession(AgeTransfer.from_files(), tmp_path / "photo.png")
    settings = Settings(Edit(method=method, strength=1.0))
    session.draw(settings)
    assert session.shows_part
    part = session._part
    assert part.scale == 1  # no pixel is lost
    assert session.before.info["icc_profile"] == b"kept"
    seen = np.asarray(session.preview(20, settings)).astype(int)
    with Image.open(session.save_photo(20, settings)) as saved:
        box = (part.left, part.top, part.left + part.picture.width, part.top + part.picture.height)
        aged = np.asarray(saved.crop(box)).astype(int)
    assert np.abs(seen - np.asarray(session.before).astype(int)).max() > 30  # it is another age
    assert np.abs(seen - aged).max() <= 1
    session.close()


def test_rotated_and_gray_photos_are_shown_as_they_are(tmp_path: Path, hopper):
    exif = Image.Exif()
    exif[0x112] = 6
    hopper.convert("L").transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.jpg", exif=exif)
    session = PhotoSession(AgeTransfer.from_files(), tmp_path / "photo.jpg")
    for picture in (session.small, session.before, session.preview(20, Settings())):
        assert picture.size == hopper.size  # upright
        assert max(picture.size) <= PREVIEW
        assert picture.mode == "L"
    session.close()
