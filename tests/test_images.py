from __future__ import annotations

import importlib.util
import io
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from icc import RED_IS_GREEN, SRGB, gray_profile
from PIL import Image, features

from facegen import images
from facegen.errors import FacegenError
from facegen.images import center_square, decode, encode_png, read_header, to_rgb_or_gray
from facegen.parallel import map_in_order


def as_bytes(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_exif_turns_the_picture_upright(face):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    lying = face.transpose(Image.Transpose.ROTATE_90)
    picture = decode(as_bytes(lying, "JPEG", exif=exif, quality=95), "x.jpg")
    # JPEG at quality 95 changes a pixel by about 2 on average, a wrong rotation by 40.
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(face)).mean() < 5


def test_header_knows_size_and_color(face):
    assert read_header(as_bytes(face, "WEBP"), "x") == (128, 128, False)
    assert read_header(as_bytes(face.convert("L").resize((5, 7)), "PNG"), "x") == (5, 7, True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_truncated_pictures_are_refused_by_name(face, kind, share):
    data = as_bytes(face, kind)
    with pytest.raises(FacegenError, match=r"^folder/x\.bin: ") as caught:
        decode(data[: int(len(data) * share)], "folder/x.bin")
    assert "\n" not in str(caught.value)
    assert ("zero bytes" in str(caught.value)) == (share == 0)


def test_decompression_bomb_is_refused(monkeypatch, face):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice as many, and more
    with pytest.raises(FacegenError, match=r"x: more than .* pixels"):
        decode(encode_png(face), "x")


def test_transparent_gray_stays_gray(face):
    image = face.convert("L")
    image.putalpha(0)
    assert to_rgb_or_gray(image).mode == "L"
    assert np.asarray(to_rgb_or_gray(image)).min() == 255


def test_bilevel_picture_becomes_gray(face):
    assert decode(encode_png(face.convert("1")), "x").mode == "L"


def test_center_square_is_the_middle():
    image = Image.fromarray(np.arange(40, dtype=np.uint8).reshape(4, 10))
    assert np.asarray(center_square(image)).tolist() == np.asarray(image)[:, 3:7].tolist()
    assert center_square(image.transpose(Image.Transpose.TRANSPOSE)).size == (4, 4)


def in_profile(face: Image.Image, mode: str) -> Image.Image:
    """The face as a file of this mode has it whose profile exchanges red and green."""
    red, green, blue = face.split()
    exchanged = Image.merge("RGB", [green, red, blue])
    return exchanged.quantize(256) if mode == "P" else exchanged.convert(mode)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("PNG", "RGBA"), ("PNG", "P")]
)
def test_color_profiles_become_srgb(face, kind, mode):
    data = as_bytes(in_profile(face, mode), kind, icc_profile=RED_IS_GREEN, quality=95)
    for picture in (decode(data, "x"), images.to_rgb(Image.open(io.BytesIO(data)))):
        assert picture.mode == "RGB"
        assert "icc_profile" not in picture.info  # else it would be converted again
        # A palette of 256 colors moves a pixel by about 5 levels, exchanged channels by 35.
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(face)).mean() < 8


def test_gray_profiles_become_srgb(face):
    gray = face.convert("L")
    assert np.array_equal(decode(as_bytes(gray, "PNG", icc_profile=gray_profile(2.4)), "x"), gray)
    darker = decode(as_bytes(gray, "PNG", icc_profile=gray_profile(4.0)), "x")
    assert darker.mode == "L"
    assert np.asarray(darker).mean() < np.asarray(gray).mean() - 20


def test_profiles_that_change_nothing_leave_every_pixel(face):
    named = SRGB.replace(b"s\0R\0G\0B", b"o\0u\0r\0s")
    for profile in (SRGB, named, b"no profile", RED_IS_GREEN[:300], gray_profile(1.0)):  # the last is not for RGB
        picture = decode(as_bytes(face, "PNG", icc_profile=profile), "x")
        assert np.array_equal(picture, face)


def test_profile_and_transparency(face):
    picture = in_profile(face, "RGBA")
    picture.putalpha(0)
    assert np.asarray(decode(as_bytes(picture, "PNG", icc_profile=RED_IS_GREEN), "x")).min() == 255


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read(face):
    picture = decode(as_bytes(face, "AVIF", quality=90), "x.avif")
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(face)).mean() < 5


def test_avif_without_a_decoder_says_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FacegenError, match=r"^x.avif: .*Pillow 11.3"):
        decode(b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf" + bytes(99), "x.avif")


def test_heic_is_read_or_says_what_to_install(face, monkeypatch):
    data = (Path(__file__).parent / "face.heic").read_bytes()  # the face at 64x64
    picture = decode(data, "x.heic")
    small = np.asarray(face.resize((64, 64)), int)
    assert np.abs(np.asarray(picture) - small).mean() < 8
    with pytest.raises(FacegenError, match=r"^x.heic: "):
        decode(data[:600], "x.heic")
    monkeypatch.setitem(sys.modules, "pi_heif", None)  # as if it were not installed
    with pytest.raises(FacegenError, match=r"^x.heic: HEIC .*facegen\[heic\].*JPEG"):
        decode(data, "x.heic")


def test_map_in_order_keeps_the_order():
    def work(i: int) -> int:
        time.sleep(0.001 * (i % 3))
        return i * i

    assert list(map_in_order(work, range(100))) == [i * i for i in range(100)]
    assert list(map_in_order(work, [])) == []


def test_map_in_order_does_not_run_ahead():
    begun: list[int] = []
    results = map_in_order(begun.append, range(100_000))
    next(results)
    assert len(begun) < 1000
    results.close()


def test_map_in_order_hands_on_errors():
    results = map_in_order(lambda i: 1 // i, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_levels_as_the_networks_take_them_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert images.to_float(levels)[[0, 255]].tolist() == [-1.0, 1.0]
    assert torch.equal(images.to_uint8(images.to_float(levels)), levels)
    assert images.to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]  # networks go beyond
