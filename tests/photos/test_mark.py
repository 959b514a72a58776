"""Pictures and videos say how they were made, and every kind of file says it so that it is read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import facegen
from facegen.aging.video import save_morph
from facegen.images import save_picture
from facegen.photos.mark import Mark, marked
from facegen.photos.notes import Notes
from facegen.photos.save import save_marked

LINE = f"facegen {facegen.__version__}: face shown at age 45"


def test_its_line_tells_what_was_done():
    assert Mark(("age 45",)).line == LINE
    assert Mark(("age 5", "age 25"), 2, generated=True).line.endswith(": 2 generated faces shown at age 5, age 25")
    assert "\n" not in Mark(("a\nb\u202eé",)).line
    assert Mark(("a\nb\u202eé",)).line.isascii()
    assert len(Mark(tuple(f"age {n}" for n in range(1000))).line) < 400


def test_a_photo_is_a_composite_and_a_generated_face_is_none():
    assert b"/compositeWithTrainedAlgorithmicMedia" in marked(Notes(), Mark(("x",))).xmp
    assert b"/trainedAlgorithmicMedia" in marked(Notes(), Mark(("x",), generated=True)).xmp
    assert marked(Notes(), None) == Notes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif"])
def test_a_picture_carries_it(face: Image.Image, tmp_path: Path, suffix: str):
    save_picture(face, tmp_path / f"plain.{suffix}")
    path = save_marked(face, tmp_path / f"x.{suffix}", Mark(("age 45",), generated=True))
    with Image.open(path) as image:
        image.load()
        if suffix != "gif":  # has no room for it
            assert b"/trainedAlgorithmicMedia" in bytes(image.info["xmp"])
        comment = {"png": "Comment", "jpg": "comment", "gif": "comment"}.get(suffix)
        if comment:
            assert image.info[comment] in (
                LINE.replace("face ", "generated face "),
                LINE.replace("face ", "generated face ").encode(),
            )
        with Image.open(tmp_path / f"plain.{suffix}") as plain:
            assert plain.convert("RGB").tobytes() == image.convert("RGB").tobytes()
            assert not plain.info.get("xmp")


def test_videos_carry_it(face: Image.Image, tmp_path: Path):
    pictures = [face, face.rotate(5)]
    with Image.open(save_morph(pictures, tmp_path / "x.gif", mark=Mark(("age 45",)))) as gif:
        assert gif.info["comment"] == LINE.encode()
    with Image.open(save_morph(pictures, tmp_path / "plain.gif")) as gif:
        assert "comment" not in gif.info
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    data = save_morph(pictures, tmp_path / "x.mp4", mark=Mark(("age 45",))).read_bytes()
    assert LINE.encode() in data[: data.index(b"mdat")]  # in its index, as players read it
    length = len(data) - data.rindex(b"uuid") + 4
    assert int.from_bytes(data[-length:][:4], "big") == length
    assert b"/compositeWithTrainedAlgorithmicMedia" in data[-length:]
    frames, _ = imageio_ffmpeg.count_frames_and_secs(tmp_path / "x.mp4")
    assert frames > 10
    assert b"uuid" not in save_morph(pictures, tmp_path / "plain.mp4").read_bytes()
