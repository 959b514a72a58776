"""Files of strangers: bounded before they are decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import HOPPER
from PIL import Image

from facegen.app import upload
from facegen.app.upload import open_upload
from facegen.errors import FacegenError


def test_a_photo_is_opened():
    assert open_upload(HOPPER).image.size == (512, 600)


def test_too_many_bytes(tmp_path: Path):
    with (tmp_path / "long.jpg").open("wb") as file:
        file.truncate(upload.MAX_BYTES + 1)
    with pytest.raises(FacegenError, match=r"^long.jpg has 42 MB; this page takes up to 42 MB"):
        open_upload(tmp_path / "long.jpg")


def test_too_many_pixels(tmp_path: Path):
    Image.new("1", (10_000, 6_000)).save(tmp_path / "wide.png")
    with pytest.raises(FacegenError, match=r"^wide.png has 60 million pixels; this page takes up to 50 million"):
        open_upload(tmp_path / "wide.png")


@pytest.mark.parametrize("content", [b"", b"words", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_no_photo_is_said_without_folders(tmp_path: Path, content: bytes):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(FacegenError, match=r"a\.png") as caught:
        open_upload(tmp_path / "a.png")
    assert str(tmp_path) not in str(caught.value)
