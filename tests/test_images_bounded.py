"""Pictures of strangers: refused by their headers, or by how many parts they have, before they take memory or time."""

from __future__ import annotations

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from refusals import assert_refused

from facegen import images
from facegen.aging.paste import paste_faces
from facegen.errors import FacegenError
from facegen.images import decode, open_photo, read_header
from facegen.photos.original import open_original

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, before: bytes = b"") -> bytes:
    """A PNG whose header is right and whose pixels are missing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


JPEG = saved(Image.new("RGB", (8, 8)), "JPEG")


@pytest.mark.parametrize(("depth", "color"), [(16, 0), (8, 0), (16, 2), (8, 3), (16, 4), (8, 6), (1, 0)])
def test_what_would_fill_the_memory_is_refused_by_its_header(tmp_path, depth, color):
    data = png(13_376, 13_376, depth, color, chunk(b"PLTE", b"\0\0\0"))
    (tmp_path / "bomb.png").write_bytes(data)
    for read in (decode, read_header):
        with pytest.raises(images.TooManyPixelsError, match=r"bomb.png: .*13376"):
            read(data, "bomb.png")
    for read in (open_photo, open_original):
        assert_refused("bomb.png", read, tmp_path / "bomb.png")


def test_a_color_photo_of_100_megapixels_is_not_refused():
    assert read_header(png(10_000, 10_000, 8, 2), "x") == (10_000, 10_000, False)
    with pytest.raises(FacegenError, match=r"MB to decode"):
        read_header(png(10_000, 10_000, 8, 6), "x")


def test_a_photo_of_16_bits_has_fewer_pixels(tmp_path):
    for side, depth in ((10_000, 8), (6500, 16), (6000, 16)):
        (tmp_path / f"{side}.png").write_bytes(png(side, side, depth, 2))
    assert_refused("cannot decode the picture", open_original, tmp_path / "10000.png")  # it has none
    assert_refused("6500x6500 pixels in RGB would take", open_original, tmp_path / "6500.png")
    assert_refused("cannot decode the picture", open_original, tmp_path / "6000.png")


def test_a_large_file_may_take_ten_times_its_size(monkeypatch):
    monkeypatch.setattr(images, "MAX_MEMORY", 1024**2)
    assert_refused("MB to decode", read_header, png(1000, 1000, 8, 6), "x")
    assert read_header(png(1000, 1000, 8, 6, chunk(b"prIv", bytes(1_000_000))), "x")[:2] == (1000, 1000)


@pytest.mark.parametrize(
    "data",
    [
        png(64, 64, 8, 2, chunk(b"abCd", b"") * 100_000),
        JPEG.replace(b"\xff\xd8", b"\xff\xd8" + b"\xff\xfe\0\3x" * 100_000, 1),
        saved(Image.new("RGB", (8, 8)), "JPEG").replace(
            b"\xff\xd8", b"\xff\xd8" + b"\xff\xe1\0\x09Exif\0\0x" * 2000, 1
        ),
        png(64, 64, 8, 2, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**7)))),
        png(64, 64, 8, 2, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(10**7)))),
    ],
    ids=["chunks", "comments", "exif", "text", "profile"],
)
def test_a_file_of_ever_so_many_parts_is_refused(data):
    with pytest.raises(FacegenError, match=r"^x"):
        decode(data, "x")


def test_a_jpeg_of_many_scans_is_refused():
    data = saved(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data[:-2] + last * 5 + b"\xff\xd9", "x").size == (64, 64)
    assert_refused("scans", decode, data[:-2] + last * 300 + b"\xff\xd9", "x")


def test_frames_are_not_counted():
    frame = Image.new("P", (4, 4))
    data = saved(frame, "GIF", save_all=True, append_images=[Image.new("P", (4, 4), 1)] * 2)
    one, many = data[:-1], b"\x21\xf9\x04\0\1\0\0\0" + data[data.index(b"\x2c") : -1]
    with images.opened(one + many * 20_000 + b";", "x.gif") as image:
        assert "animated: the first picture was used" in images.oddities(image, "x.gif")


PICTURES = {
    "I;16": Image.fromarray(np.arange(6400, dtype=np.uint16).reshape(80, 80) * 10),
    "I": Image.fromarray(np.arange(6400, dtype=np.int32).reshape(80, 80)),
    "F": Image.fromarray(np.linspace(0, 1, 6400, dtype=np.float32).reshape(80, 80)),
    **{
        mode: Image.radial_gradient("L").resize((80, 80)).convert(mode)
        for mode in ("L", "LA", "RGBA", "CMYK", "P", "1")
    },
}


@pytest.mark.parametrize("mode", PICTURES)
def test_strips_make_no_difference(monkeypatch, mode):
    image = PICTURES[mode]
    if mode in {"LA", "RGBA"}:
        image.putalpha(Image.linear_gradient("L").resize((80, 80)))
    whole = images.to_rgb_or_gray(image)
    with_alpha = images.upright_with_alpha(image.copy())
    monkeypatch.setattr(images, "STRIP", 80 * 7)
    for one, other in ((whole, images.to_rgb_or_gray(image)), (with_alpha, images.upright_with_alpha(image.copy()))):
        assert one.mode == other.mode
        assert np.array_equal(one, other)


def test_white_is_that_of_the_whole_picture(monkeypatch):
    values = np.zeros((80, 80), np.int32)
    values[-1] = 65535
    values[0] = 200
    monkeypatch.setattr(images, "STRIP", 80)
    assert np.asarray(images.to_rgb_or_gray(Image.fromarray(values)))[[0, -1], 0].tolist() == [1, 255]


@pytest.mark.filterwarnings("error")
def test_floats_that_are_none_become_levels():
    values = np.array([[np.nan, np.inf, -np.inf, 0.5]], np.float32)
    levels = np.asarray(images.to_rgb_or_gray(Image.fromarray(values)))
    assert levels[0, 1:3].tolist() == [255, 0]


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turned_as_pillow_does_it_and_once(face, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(face.crop((0, 0, 100, 60)), kind, exif=exif)
    picture = decode(data, "x")
    assert np.array_equal(picture, ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.array_equal(images.to_rgb(picture), picture)


def test_large_pictures_are_decoded_one_after_another(monkeypatch, face):
    data = saved(face.resize((500, 500)), "PNG")
    monkeypatch.setattr(images, "LARGE", -(10**12))
    at_once, most = [], []

    def work() -> None:
        with images.opened(data, "x") as image, images.in_turn(image, data):
            at_once.append(1)
            most.append(len(at_once))
            image.load()
            at_once.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_pasting_leaves_what_belongs_to_the_file(face):
    photo = face.copy()
    photo.info |= {"exif": b"Exif\0\0", "dpi": (1, 1)}
    assert paste_faces(photo, []).info == {}
    assert np.array_equal(paste_faces(photo, []), face)
