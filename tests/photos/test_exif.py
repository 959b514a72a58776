"""EXIF of an upright photo."""

from __future__ import annotations

import numpy as np
import pytest
from photo_files import MAKER_NOTE, camera_exif
from PIL import ExifTags, Image

from facegen.photos.exif import upright_exif

THUMBNAIL = b"\xff\xd8" + b"the face as it was" * 50 + b"\xff\xd9"


def read(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + block)
    return exif


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_it_is_upright_and_without_thumbnail_and_the_rest_stays(prefix: bytes):
    before = camera_exif(6, THUMBNAIL)
    assert read(before).get_ifd(ExifTags.IFD.IFD1)  # there is a thumbnail
    after = upright_exif(prefix + before, (60, 90))
    exif = read(after)
    assert exif[0x0112] == 1
    assert exif[0x010F] == "Camera"
    assert exif.get_ifd(0x8825)[2] == (48.0, 12.0, 30.0)
    details = exif.get_ifd(0x8769)
    assert (details[0xA002], details[0xA003]) == (60, 90)
    assert details[0x927C] == MAKER_NOTE
    assert after.index(MAKER_NOTE) == before.index(MAKER_NOTE)  # where it was: others point to its parts
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert b"the face as it was" not in after
    assert len(after) < len(before) - len(THUMBNAIL) + 1


def test_a_thumbnail_in_the_middle_is_blackened():
    before = camera_exif(1, THUMBNAIL) + b"something else"
    after = upright_exif(before, (60, 90))
    assert after.endswith(b"something else")
    assert b"the face as it was" not in after


@pytest.mark.parametrize(
    "exif",
    [b"", b"II", b"Exif\0\0", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\xff\xff\xff\xff", b"hello", b"MM\0\x80" + bytes(20)],
)
def test_what_cannot_be_read_is_left_out(exif: bytes):
    assert upright_exif(exif, (1, 1)) == b""


def test_damaged_ones_raise_nothing():
    random = np.random.default_rng(0)
    block = camera_exif(3, THUMBNAIL)
    for _ in range(500):
        damaged = np.frombuffer(block, np.uint8).copy()
        damaged[random.integers(0, 300, 5)] = random.integers(0, 256, 5)
        after = upright_exif(damaged[: random.integers(0, len(block))].tobytes(), (60, 90))
        assert len(after) <= len(block)
