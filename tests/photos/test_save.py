"""A photo's file in, the same kind of file out."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from icc import RED_IS_GREEN, gray_profile
from photo_files import MAKER_NOTE, XMP, camera_exif, chunk, png16, saved
from PIL import ExifTags, Image, JpegImagePlugin
from PIL.PngImagePlugin import PngInfo
from refusals import assert_refused

from facegen.aging.paste import paste_faces
from facegen.images import open_photo
from facegen.photos.exif import upright_exif
from facegen.photos.mark import Mark
from facegen.photos.notes import Notes, for_saving
from facegen.photos.original import Original, open_original
from facegen.photos.save import check_format, other_kind, save_photo, suffix_of

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
HEIC = Path(__file__).parents[1] / "face.heic"
MARK = Mark(("age 45",))


def opened(folder: Path, name: str, data: bytes) -> Original:
    (folder / name).write_bytes(data)
    return open_original(folder / name)


def changed(original: Original) -> Image.Image:
    """The photo with a darker square, as pasting leaves it: without notes."""
    picture = paste_faces(original.image, [])
    box = (5, 5, 15, 15)
    picture.paste(picture.crop(box).point(lambda value: value // 2), box[:2])
    return picture


def written(original: Original, folder: Path, **options) -> Image.Image:
    options = {"mark": MARK, **options}
    path = folder / f"result{suffix_of(original, options.get('kind', 'same'))}"
    save_photo(changed(original), path, original, **options)
    assert [p.name for p in folder.iterdir() if p.name.startswith((".", "result"))] == [path.name]
    image = Image.open(path)
    image.load()
    return image


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """90x60 with all kinds of colors."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((90, 60))


def thumbnail() -> bytes:
    return saved(Image.new("RGB", (16, 16), "red"), "JPEG")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_stays_a_jpeg_upright_with_its_exif(photo: Image.Image, tmp_path: Path, orientation: int):
    exif = b"Exif\0\0" + camera_exif(orientation, thumbnail())
    data = saved(photo, "JPEG", exif=exif, quality=95, subsampling=0, dpi=(300, 300), icc_profile=RED_IS_GREEN)
    original = opened(tmp_path, "x.jpg", data)
    result = written(original, tmp_path)
    assert (result.format, result.size) == ("JPEG", original.image.size)
    assert result.size == ((90, 60) if orientation < 5 else (60, 90))
    exif = result.getexif()
    assert exif[0x0112] == 1
    assert exif.get_ifd(0x8825)[1] == "N"
    assert exif.get_ifd(0x8769)[0xA002] == result.width
    assert exif.get_ifd(0x8769)[0x927C] == MAKER_NOTE
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert thumbnail() not in (tmp_path / "result.jpg").read_bytes()
    assert result.info["icc_profile"] == RED_IS_GREEN
    assert result.info["dpi"] == (300, 300)
    assert result.info["comment"].endswith(b"face shown at age 45")
    assert b"compositeWithTrainedAlgorithmicMedia" in result.info["xmp"]
    again = open_photo(tmp_path / "result.jpg")  # turned once, not twice
    assert np.abs(np.asarray(again, float) - np.asarray(open_photo(tmp_path / "x.jpg"))).mean() < 6


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_keeps_its_subsampling(photo: Image.Image, tmp_path: Path, subsampling: int):
    original = opened(tmp_path, "x.jpeg", saved(photo, "JPEG", subsampling=subsampling, quality=70))
    result = written(original, tmp_path)
    assert JpegImagePlugin.get_sampling(result) == subsampling
    assert max(result.quantization[0]) < 20  # quality 95


@pytest.mark.parametrize(("mode", "result_mode"), [("L", "L"), ("CMYK", "RGB")])
def test_gray_and_cmyk_jpegs(photo: Image.Image, tmp_path: Path, mode: str, result_mode: str):
    profile = gray_profile(1.0) if mode == "L" else b"\0" * 16 + b"CMYK" + b"\0" * 200
    original = opened(tmp_path, "x.jpg", saved(photo.convert(mode), "JPEG", icc_profile=profile))
    result = written(original, tmp_path)
    assert result.mode == result_mode
    assert result.info.get("icc_profile") == (profile if mode == "L" else None)


def test_captions_and_comments_stay(photo: Image.Image, tmp_path: Path):
    records = b"\x1c\x02\x78\0\x07Caption"
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x0c\0\0\0\0\0\x04oldT" + b"8BIM\x04\x04\0\0\0\0\0\x0c" + records
    segment = b"\xff\xed" + (2 + len(block)).to_bytes(2, "big") + block
    original = opened(tmp_path, "x.jpg", saved(photo, "JPEG", comment="Grüße".encode(), extra=segment))
    result = written(original, tmp_path)
    assert result.info["photoshop"] == {0x0404: records}
    assert result.info["comment"].decode().startswith("Grüße\nfacegen ")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_png_of_16_bits_stays_one(tmp_path: Path, channels: int, orientation: int):
    samples = np.random.default_rng(channels).integers(0, 65536, (60, 90, channels), dtype=np.uint16)
    extra = chunk(b"eXIf", camera_exif(orientation, thumbnail())) + chunk(b"pHYs", b"\0\0\x2e\x23\0\0\x2e\x23\1")
    original = opened(tmp_path, "x.png", png16(samples, extra))
    assert original.image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    upright = np.rot90(samples, -1) if orientation == 6 else samples
    result = written(original, tmp_path)
    again = open_original(tmp_path / "result.png")
    assert result.info["Comment"].endswith("age 45")
    assert result.getexif()[0x0112] == 1
    assert "xmp" in result.info
    assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert (tmp_path / "result.png").read_bytes()[24] == 16
    after, before = again.samples.reshape(upright.shape), upright
    mask = np.zeros(upright.shape[:2], bool)
    mask[5:15, 5:15] = True
    np.testing.assert_array_equal(after[~mask], before[~mask])
    # A level of 8 bits is 257 of 16: what was halved is half, but for the rounding of 8 bits.
    np.testing.assert_allclose(after[mask].astype(float), before[mask] / 2.0, atol=257)
    np.testing.assert_array_equal(np.asarray(again.image)[~mask], np.asarray(original.image)[~mask])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_a_png_keeps_every_other_pixel(photo: Image.Image, tmp_path: Path, mode: str):
    image = photo.convert("RGB")
    if mode == "P":
        image.putalpha(photo.getchannel(0))
        image = image.quantize(20)
    else:
        image = image.convert(mode)
        if mode.endswith("A"):
            image.putalpha(photo.getchannel(0))
    profile = gray_profile(1.0) if mode in {"L", "LA"} else RED_IS_GREEN
    original = opened(tmp_path, "x.png", saved(image, "PNG", icc_profile=profile))
    result = written(original, tmp_path)
    assert (result.format, result.mode) == ("PNG", "RGBA" if mode == "P" else mode)
    expected = changed(original)
    assert result.tobytes() == expected.tobytes()
    assert result.info["icc_profile"] == profile
    before, after = np.asarray(original.image), np.asarray(result)
    assert (before != after).reshape(60, 90, -1).any(axis=2).sum() <= 100


def test_texts_and_xmp_of_a_png_stay(photo: Image.Image, tmp_path: Path):
    info = PngInfo()
    info.add_text("Author", "Zoë")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    original = opened(tmp_path, "x.png", saved(photo, "PNG", pnginfo=info))
    result = written(original, tmp_path)
    assert result.text["Author"] == "Zoë"
    assert b"Zo\xc3\xab &amp; co" in bytes(result.info["xmp"])
    plain = written(original, tmp_path, mark=None)
    assert "Comment" not in plain.text
    assert b"digitalCapture" in bytes(plain.info["xmp"])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_metadata_can_be_left_out(photo: Image.Image, tmp_path: Path, kind: str):
    exif = b"Exif\0\0" + camera_exif(6, thumbnail())
    options = {"exif": exif, "icc_profile": RED_IS_GREEN, **({"comment": b"hello"} if kind == "JPEG" else {})}
    original = opened(tmp_path, "x", saved(photo, kind, **options))
    assert written(original, tmp_path).getexif()[0x010F] == "Camera"
    result = written(original, tmp_path, strip_metadata=True, mark=None)
    assert 0x010F not in result.getexif()
    assert not {"exif", "xmp", "comment", "Comment"} & set(result.info)
    assert result.info["icc_profile"] == RED_IS_GREEN
    result = written(original, tmp_path, strip_metadata=True)
    assert b"compositeWith" in bytes(result.info["xmp"])


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_stays_one_with_its_alpha(photo: Image.Image, tmp_path: Path, lossless: bool):
    image = photo.copy()
    image.putalpha(photo.getchannel(0))
    data = saved(image, "WEBP", lossless=lossless, exact=True, exif=b"Exif\0\0" + camera_exif(1, b""), xmp=XMP)
    original = opened(tmp_path, "x.webp", data)
    result = written(original, tmp_path)
    assert (result.format, result.mode) == ("WEBP", "RGBA")
    assert result.getexif().get_ifd(0x8825)[1] == "N"
    assert b"Zo\xc3\xab" in result.info["xmp"]
    if lossless:
        assert result.tobytes() == changed(original).tobytes()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_a_tiff_stays_one(photo: Image.Image, tmp_path: Path, compression: str):
    exif = Image.Exif()
    if compression == "raw":
        exif.load(b"Exif\0\0" + camera_exif(6, b""))
    exif[0x8298] = "Zoe"
    original = opened(tmp_path, "x.tif", saved(photo, "TIFF", compression=compression, exif=exif, dpi=(240, 240)))
    result = written(original, tmp_path)
    assert result.format == "TIFF"
    assert result.tobytes() == changed(original).tobytes()
    assert result.info["compression"] == ("tiff_adobe_deflate" if compression == "jpeg" else compression)
    assert result.info["dpi"] == (240, 240)
    assert result.getexif()[0x8298] == "Zoe"
    if compression == "raw":
        assert (result.size, result.getexif().get(0x0112, 1)) == ((60, 90), 1)
        assert result.getexif().get_ifd(0x8825)[2] == (48.0, 12.0, 30.0)
        compressed = opened(tmp_path, "x.tif", saved(photo, "TIFF", compression="tiff_lzw"))
        save_photo(photo, tmp_path / "x.tif", replace(compressed, notes=original.notes))
        assert Image.open(tmp_path / "x.tif").getexif().get_ifd(0x8825)[2] == (48.0, 12.0, 30.0)


def test_a_gray_tiff_of_16_bits_stays_one(tmp_path: Path):
    samples = np.random.default_rng(0).integers(0, 65536, (60, 90), dtype=np.uint16)
    original = opened(tmp_path, "x.tif", saved(Image.fromarray(samples), "TIFF"))
    after = np.asarray(written(original, tmp_path))
    assert after.dtype == np.uint16
    assert (after != samples).sum() <= 100
    assert (tmp_path / "result.tif").exists()


def test_a_phones_jpeg_with_further_pictures_becomes_a_plain_one(photo: Image.Image, tmp_path: Path):
    original = opened(tmp_path, "x.jpg", saved(photo, "MPO", save_all=True, append_images=[photo.convert("L")]))
    assert Image.open(tmp_path / "x.jpg").format == "MPO"
    assert original.kind == "JPEG"
    assert written(original, tmp_path).format == "JPEG"


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "TGA"])
def test_kinds_of_few_colors_or_without_notes_become_png(photo: Image.Image, tmp_path: Path, kind: str):
    options = {"save_all": True, "append_images": [photo.rotate(90)]} if kind == "GIF" else {}
    original = opened(tmp_path, "x", saved(photo, kind, **options))
    assert suffix_of(original) == ".png"
    assert not other_kind(original)
    result = written(original, tmp_path)
    assert result.format == "PNG"
    assert result.convert(original.image.mode).tobytes() == changed(original).tobytes()


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "avif"])
def test_another_format_on_demand(photo: Image.Image, tmp_path: Path, kind: str):
    if kind == "avif":
        pytest.importorskip("PIL._avif")
    check_format(kind)
    image = photo.copy()
    image.putalpha(photo.getchannel(0))
    exif = b"Exif\0\0" + camera_exif(3, thumbnail())
    original = opened(tmp_path, "x.png", saved(image, "PNG", exif=exif, icc_profile=RED_IS_GREEN))
    result = written(original, tmp_path, kind=kind)
    assert result.format == {"jpg": "JPEG"}.get(kind, kind.upper())
    assert result.mode == ("RGB" if kind == "jpg" else "RGBA")
    assert result.getexif().get(0x0112, 1) == 1
    assert result.getexif().get_ifd(0x8825)[1] == "N"
    assert result.info["icc_profile"] == RED_IS_GREEN
    if kind == "jpg":
        assert JpegImagePlugin.get_sampling(result) == 0
        clear = np.asarray(photo)[::-1, ::-1, 0] < 5
        assert np.asarray(result)[clear].mean() > 240  # over white


def test_avif_stays_avif(photo: Image.Image, tmp_path: Path):
    pytest.importorskip("PIL._avif")
    exif = b"Exif\0\0" + camera_exif(6, b"")
    original = opened(tmp_path, "x.avif", saved(photo, "AVIF", exif=exif))
    result = written(original, tmp_path)
    assert (result.format, result.size) == ("AVIF", (60, 90))
    assert b"compositeWith" in result.info["xmp"]
    assert result.getexif().get_ifd(0x8825)[1] == "N"


def test_damaged_exif_does_not_stop_an_avif():
    pytest.importorskip("PIL._avif")
    random = np.random.default_rng(0)
    block = camera_exif(3, b"")
    for _ in range(100):  # Pillow reads it, and raises anything on some
        damaged = np.frombuffer(block, np.uint8).copy()
        damaged[random.integers(0, len(block), 5)] = random.integers(0, 256, 5)
        notes = Notes(exif=upright_exif(damaged.tobytes(), (8, 8)))
        Image.new("RGB", (8, 8)).save(io.BytesIO(), "AVIF", **for_saving("AVIF", notes))


def test_heic_stays_heic_where_it_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pillow_heif")
    original = open_original(HEIC)
    assert not other_kind(original)
    result = written(original, tmp_path)
    assert (result.format, result.size) == ("HEIF", original.image.size)
    assert b"compositeWith" in result.info["xmp"]


def test_heic_becomes_a_jpeg_where_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pi_heif")
    original = open_original(HEIC)
    monkeypatch.setattr(Image, "SAVE", {key: value for key, value in Image.SAVE.items() if key != "HEIF"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert written(original, tmp_path).format == "JPEG"
    assert "pillow-heif" in other_kind(original)
    assert not other_kind(original, "jpg")
    assert_refused("pillow-heif", check_format, "heic")


def test_what_a_format_cannot_hold_is_said_in_one_line_and_leaves_nothing(tmp_path: Path):
    original = opened(tmp_path, "x.png", saved(Image.new("RGB", (17_000, 20)), "PNG"))
    assert_refused("cannot be written as WEBP", written, original, tmp_path, kind="webp")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    "options",
    [
        {"exif": b"Exif\0\0MM\0*" + b"\xff" * 50},
        {"xmp": b"<!DOCTYPE a><a/>"},
        {"xmp": b"\xff" * 60_000},
        {"dpi": (65535, 1)},
        {"comment": b"\xff" * 65_000},
        {"icc_profile": b"broken" * 20_000},
        {"extra": b"\xff\xed\0\x1cPhotoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_broken_notes_do_not_stop_a_photo(photo: Image.Image, tmp_path: Path, options: dict):
    result = written(opened(tmp_path, "x.jpg", saved(photo, "JPEG", **options)), tmp_path)
    assert result.format == "JPEG"
    assert b"compositeWith" in result.info["xmp"]
    result.getexif()


def test_long_exif_is_left_out_of_a_jpeg(photo: Image.Image, tmp_path: Path):
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8769)[0x927C] = bytes(100_000)
    original = opened(tmp_path, "x.png", saved(photo, "PNG", exif=exif))
    assert len(original.notes.exif) > 100_000
    assert written(original, tmp_path, kind="jpg").format == "JPEG"
    (tmp_path / "result.jpg").unlink()
    assert written(original, tmp_path, kind="png").getexif().get_ifd(0x8769)[0x927C] == bytes(100_000)


def test_opening_says_what_open_photo_says(tmp_path: Path):
    (tmp_path / "text.png").write_text("hello")
    assert_refused("text.png: not a picture", open_original, tmp_path / "text.png")
    assert_refused("a folder", open_original, tmp_path)
    with pytest.raises(FileNotFoundError):
        open_original(tmp_path / "none.png")
