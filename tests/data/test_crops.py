from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFilter
from refusals import assert_refused

from facegen.data import crops
from facegen.data.crops import Cropped, crop_pictures, difference_hash, sharpness
from facegen.data.options import CROPS, CropOptions
from facegen.data.sources.base import Skipped
from facegen.errors import FacegenError
from facegen.faces.find import find_faces
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.images import center_square, decode, encode_png

TEMPLATE = np.array(UTKFACE_TEMPLATE.points)


def as_bytes(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def crop_all(items: Sequence[tuple[str, bytes]], options: CropOptions) -> list[Cropped | Skipped]:
    return crop_pictures([name for name, _ in items], dict(items).__getitem__, options)


def crop(image: Image.Image | bytes, name: str = "x.png", **options) -> Cropped | Skipped:
    data = image if isinstance(image, bytes) else as_bytes(image)
    return crop_all([(name, data)], CropOptions(**options))[0]


def opened(cropped: Cropped | Skipped) -> Image.Image:
    assert isinstance(cropped, Cropped), cropped
    return Image.open(io.BytesIO(cropped.png))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference in gray levels."""
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


def as_large_as_bomb(width: int, height: int) -> bytes:
    """A PNG whose header says so many pixels; there are none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def portrait(hopper) -> Image.Image:
    """Grace Hopper's head and shoulders, 400x400."""
    return hopper.crop((50, 40, 450, 440))


# -- whole pictures


def test_as_is_takes_the_whole_picture(face):
    result = crop(as_bytes(face, "PNG"), resolution=32)
    picture = opened(result)
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (32, 32))
    assert difference(picture, face.resize((32, 32), Image.Resampling.LANCZOS)) == 0
    assert result.sha256 == hashlib.sha256(as_bytes(face)).hexdigest()
    assert result.notes == ()


def test_as_is_refuses_what_is_not_square(hopper):
    assert crop(hopper) == Skipped("x.png", "not square", "512x600 pixels; --crop center uses the middle")


def test_center_takes_the_middle(hopper):
    result = crop(hopper, crop="center")
    middle = hopper.crop((0, 44, 512, 556)).resize((64, 64), Image.Resampling.LANCZOS)
    # The filter at the square's edge sees what lies beyond it.
    assert difference(opened(result), middle) < 0.3
    assert result.notes == ("cut to a square",)


@pytest.mark.parametrize("side", [500, 1000, 2000])
@pytest.mark.parametrize("kind", ["as-is", "center"])
def test_large_jpegs_keep_their_quality(portrait, side, kind):
    # They are decoded at a fraction of their size: no gray level of difference on average.
    large = portrait.resize((side, side if kind == "as-is" else side + 300), Image.Resampling.BICUBIC)
    data = as_bytes(large, "JPEG", quality=92)
    result = crop(data, "x.jpg", crop=kind)
    assert crop(data, "x.jpg", crop=kind, min_size=side) == result  # of the file, not of what was decoded
    assert crop(data, "x.jpg", crop=kind, min_size=side + 1).reason == "too small"
    whole = center_square(decode(data, "x"))
    assert difference(opened(result), whole.resize((64, 64), Image.Resampling.LANCZOS)) < 1
    assert "enlarged" not in result.notes


def test_exif_turns_the_picture_upright(portrait):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = as_bytes(portrait.transpose(Image.Transpose.ROTATE_90), exif=exif)
    for kind in CROPS:
        assert difference(opened(crop(data, crop=kind)), opened(crop(portrait, crop=kind))) == 0


def test_exif_turns_the_middle_too(hopper):
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = as_bytes(hopper.resize((1024, 1200)).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    assert difference(opened(crop(lying, "x.jpg", crop="center")), opened(crop(hopper, crop="center"))) < 2


def test_notes_say_what_is_odd(face):
    result = crop(as_bytes(face.convert("CMYK"), "JPEG"), "x.png", resolution=256)
    assert result.notes == ("a JPEG picture named .png", "colors converted from CMYK", "enlarged")
    frames = [face, face.convert("L").convert("RGB")]
    animated = as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert "animated: the first picture was used" in crop(animated, "x.gif").notes


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I;16"])
def test_every_mode_becomes_rgb(face, mode):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257)
    else:
        image = face.convert(mode)
    assert opened(crop(image)).mode == "RGB"


# -- what cannot be read


def test_unreadable_pictures_are_named(face):
    whole = as_bytes(face, "JPEG")
    items = [
        ("cut.jpg", whole[: len(whole) // 2]),
        ("empty.jpg", b""),
        ("page.jpg", b"<html>404</html>"),
        ("gone.jpg", None),
        ("good.jpg", whole),
    ]

    def read(name: str) -> bytes:
        if name == "gone.jpg":
            raise FacegenError("gone.jpg: permission denied")
        return dict(items)[name]

    for options in (CropOptions("as-is"), CropOptions("center"), CropOptions("align")):
        results = crop_pictures([name for name, _ in items], read, options)
        assert [result.name for result in results] == [name for name, _ in items]
        assert [result.reason for result in results[:4]] == ["unreadable picture"] * 4
        assert isinstance(results[4], Cropped)
        assert all("\n" not in result.detail for result in results[:4])
    assert "permission denied" in results[3].detail


@pytest.mark.parametrize("kind", CROPS)
def test_a_bomb_is_refused_by_its_header(kind):
    result = crop(as_large_as_bomb(30_000, 30_000), crop=kind)
    assert result.reason == "too large"
    assert "178,956,970 pixels" in result.detail


def test_big_pictures_print_no_warning():
    # In a process of its own: pytest changes what becomes of warnings.
    code = """
import sys
from facegen.data.crops import crop_pictures
from facegen.data.options import CropOptions
print(crop_pictures(["x.png"], lambda name: sys.stdin.buffer.read(), CropOptions())[0].reason)
"""
    command, bomb = [sys.executable, "-W", "always", "-c", code], as_large_as_bomb(10_000, 10_000)
    done = subprocess.run(command, input=bomb, capture_output=True, check=True)
    assert done.stdout.strip() == b"unreadable picture"  # there are no pixels behind the header
    assert b"DecompressionBomb" not in done.stderr


def test_one_pixel_is_too_small():
    for kind in ("as-is", "center"):
        assert crop(Image.new("RGB", (1, 1)), crop=kind).reason == "too small"
    assert crop(Image.new("RGB", (1, 1)), crop="align").reason == "no face"
    assert crop(Image.new("RGB", (1, 1)), min_size=0).notes == ("enlarged",)


# -- aligned faces


def landmarks_of(cropped: Cropped | Skipped) -> np.ndarray:
    """Found again in the crop, as fractions of it."""
    picture = opened(cropped)
    return find_faces(picture)[0].landmarks / picture.size


def at_the_edge(portrait: Image.Image) -> Image.Image:
    return portrait.crop((120, 60, 400, 400))  # her temple touches the left edge


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x.rotate(30, Image.Resampling.BICUBIC, fillcolor="gray"),
        lambda x: x.rotate(-30, Image.Resampling.BICUBIC, fillcolor="gray"),
        lambda x: x.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda x: x.resize((1200, 1200)),
        at_the_edge,
        lambda x: x.convert("L"),
    ],
    ids=["as it is", "turned left", "turned right", "mirrored", "1200 pixels", "at the edge", "gray"],
)
def test_align_puts_eyes_and_mouth_on_the_template(portrait, change):
    found = landmarks_of(crop(change(portrait), crop="align", resolution=128))
    # A similarity cannot fit one person's proportions to the median face, and MTCNN is good to some hundredths.
    np.testing.assert_allclose(found, TEMPLATE, atol=0.07)
    eyes = found[1] - found[0]
    assert abs(np.degrees(np.arctan2(eyes[1], eyes[0]))) < 5


def test_margin_shows_more_around_the_same_middle(hopper):
    options = CropOptions("align", 128, margin=0.5)
    np.testing.assert_allclose(options.template.points, 0.5 + (TEMPLATE - 0.5) / 1.5, atol=1e-6)
    np.testing.assert_allclose(landmarks_of(crop(hopper, **vars(options))), options.template.points, atol=0.05)
    assert CropOptions("as-is").template is None
    assert CropOptions("align").template == UTKFACE_TEMPLATE


def test_a_crop_that_reaches_beyond_the_picture_says_so(face, hopper):
    assert "reaches beyond the picture" in crop(face, crop="align", margin=0.5).notes
    assert crop(hopper, crop="align").notes == ()


def test_a_face_of_a_large_picture_is_found_and_dropped_by_its_size(portrait):
    large = Image.new("RGB", (1200, 1200), (120, 130, 140))
    large.paste(portrait.resize((180, 180), Image.Resampling.LANCZOS), (800, 600))
    result = crop(large, crop="align", min_size=200)
    assert (result.reason, result.detail.split(" pixels")[1]) == ("too small", " wide, at least 200 required")
    assert 70 < int(result.detail.split()[0]) < 140
    assert crop(large, crop="align", resolution=128).notes == ("enlarged",)


def test_no_face(hopper):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    assert crop(noise, crop="align").reason == "no face"
    result = crop(noise, crop="align", no_face="center")
    assert result.notes == ("no face: the middle was used", "cut to a square")
    assert difference(opened(result), opened(crop(noise, crop="center"))) == 0
    assert crop(noise, crop="align", no_face="center", min_size=201).reason == "too small"


def test_several_faces(portrait):
    def beside(side: int) -> Image.Image:
        group = Image.new("RGB", (820, 420), "gray")
        group.paste(portrait, (0, 0))
        group.paste(portrait.resize((side, side), Image.Resampling.LANCZOS), (410, 10))
        return group

    result = crop(beside(300), crop="align", several_faces="drop")
    assert (result.reason, result.detail) == ("several faces", "2 faces")
    # A crop of the left one spans about 240 pixels, of the right one 180.
    assert isinstance(crop(beside(300), crop="align", min_size=210), Cropped)
    # A face of a quarter of the size is somebody in the background.
    assert isinstance(crop(beside(100), crop="align", several_faces="drop"), Cropped)


@pytest.mark.parametrize("kind", CROPS)
def test_blurred_pictures(portrait, kind):
    blurred = portrait.filter(ImageFilter.GaussianBlur(8))
    result = crop(blurred, crop=kind, min_sharpness=50)
    assert result.reason == "too blurred"
    assert result.detail.endswith("at least 50 required")
    assert isinstance(crop(portrait, crop=kind, min_sharpness=50), Cropped)


def test_turned_faces(portrait):
    # A face that is squeezed on one side of the nose measures as one that is turned.
    x = np.arange(400)
    source = np.where(x < 170, x * 235 / 170, 235 + (x - 170) * (165 / 230)).round().astype(int).clip(0, 399)
    turned = Image.fromarray(np.asarray(portrait)[:, source])
    result = crop(turned, crop="align", max_turn=10)
    assert result.reason == "turned too far"
    assert "at most 10 allowed" in result.detail
    assert isinstance(crop(portrait, crop="align", max_turn=25), Cropped)


# -- batches


def test_a_batch_gives_what_each_picture_gives_alone(hopper, portrait, face):
    pictures = [hopper, face, Image.new("RGB", (50, 50)), portrait, portrait.resize((333, 291)), face.convert("L")]
    items = [(f"{i}.png", as_bytes(image)) for i, image in enumerate(pictures)]
    options = CropOptions("align")
    together = crop_all(items, options)
    assert together == [crop_all([item], options)[0] for item in items]
    assert [type(result) for result in together] == [Cropped, Cropped, Skipped, Cropped, Cropped, Cropped]


def test_memory_is_bounded_by_portions(portrait, monkeypatch):
    items = [(f"{i}.png", as_bytes(portrait.resize((200, 200)))) for i in range(5)]
    whole = crop_all(items, CropOptions("align"))
    sizes: list[int] = []
    search = crops._search
    monkeypatch.setattr(crops, "_search", lambda images: sizes.append(len(images)) or search(images))
    monkeypatch.setattr(crops, "MAX_PIXELS_AT_ONCE", 75_000)
    assert crop_all(items, CropOptions("align")) == whole
    assert sizes == [2, 2, 1]


def test_threads_give_the_same(portrait, face):
    items = [("a.png", as_bytes(portrait)), ("b.png", as_bytes(face))]
    expected = crop_all(items, CropOptions("align"))
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: crop_all(items, CropOptions("align")), range(3)))
    assert results == [expected] * 3


def test_an_empty_batch_is_fine():
    for kind in CROPS:
        assert crop_all([], CropOptions(kind)) == []


# -- measures


def test_sharpness_falls_with_blur_and_not_with_size(portrait):
    values = [sharpness(portrait.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 15 < values[0] / 10
    enlarged = portrait.resize((1600, 1600), Image.Resampling.BICUBIC)
    assert sharpness(enlarged) == pytest.approx(sharpness(portrait), rel=0.1)
    assert sharpness(Image.new("RGB", (64, 64), "red")) == 0


def test_near_duplicates_have_near_hashes(portrait, face):
    def bits(one: Image.Image, other: Image.Image) -> int:
        return (difference_hash(one) ^ difference_hash(other)).bit_count()

    again = Image.open(io.BytesIO(as_bytes(portrait.resize((150, 150)), "JPEG", quality=40)))
    assert bits(portrait, again) <= 3
    assert bits(portrait, portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > 16
    assert bits(portrait, face) > 10
    assert 0 <= difference_hash(portrait) < 2**64


def test_hash_says_where_it_grows_brighter():
    ramp = Image.fromarray(np.tile(np.arange(0, 90, dtype=np.uint8) * 2, (80, 1)))
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0
    half = np.asarray(ramp).copy()
    half[40:] = half[40:, ::-1]
    assert difference_hash(Image.fromarray(half)) == (2**32 - 1) << 32
    assert difference_hash(Image.new("L", (64, 64), 77)) is None


def test_a_flat_picture_has_no_hash():
    assert crop(Image.new("RGB", (64, 64), "green")).dhash is None


# -- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "face"}, "crop 'face': choose one of as-is, center, align"),
        ({"resolution": 100}, "power of two"),
        ({"crop": "align", "margin": -0.9}, "margin"),
        ({"crop": "align", "margin": float("nan")}, "margin"),
        ({"min_sharpness": float("nan")}, "min-sharpness"),
        ({"min_size": -1}, "min-size"),
        ({"crop": "align", "max_turn": 100.0}, "max-turn"),
        ({"crop": "align", "several_faces": "all"}, "several-faces 'all'"),
        ({"max_turn": 20.0}, "max-turn looks for faces: it needs crop align, not as-is"),
        ({"crop": "center", "no_face": "center"}, "no-face looks for faces"),
    ],
)
def test_impossible_options_are_refused(options, message):
    assert_refused(message, CropOptions, **options)


def test_png_of_a_crop_is_a_plain_one(face):
    assert crop(face, resolution=128).png == encode_png(face)
