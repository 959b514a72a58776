"""Write a changed photo in the format it came from."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.images import save_picture
from facegen.photos.mark import Mark, marked
from facegen.photos.notes import Notes, for_saving, png_chunks
from facegen.photos.original import Original
from facegen.photos.png16 import write_png16

# What `--format` takes, and what Pillow calls it. `same`: as the photo.
SAME = "same"
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "heic": "HEIF", "avif": "AVIF"}
_SUFFIXES = {**{kind: f".{name}" for name, kind in FORMATS.items()}, "TIFF": ".tif"}
# Lossy formats, at a quality that looks the same, without losing more of the colors.
_QUALITY: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
    "HEIF": {"quality": 90, "chroma": 444},
}
_MODES = {"JPEG": {"L", "RGB"}, "WEBP": {"RGB", "RGBA"}}
BAND = 256  # rows that are worked on at a time


def check_format(name: str) -> None:
    """Raise a FacegenError if a format of `--format` cannot be written here; to be called before hours of work."""
    if name != SAME and not _can_write(FORMATS[name]):
        raise FacegenError(f"--format {name}: {_missing(FORMATS[name])}; or use jpg or png")


def suffix_of(original: Original, kind: str = SAME) -> str:
    """Return what the file of a photo's result is called at the end: `.jpg`, `.png`, ...

    Args:
        kind: one of FORMATS, or `same` for that of the photo. Where that cannot be written, a HEIC or AVIF
            becomes a JPEG; what has few colors or no room for notes (GIF, BMP, PPM, ...) becomes a PNG.
    """
    return _SUFFIXES[_kind_of(original, kind)]


def other_kind(original: Original, kind: str = SAME) -> str:
    """Return why a result has another format than its photo, as text for the user; empty if the format is the same."""
    found = _kind_of(original, kind)
    if kind != SAME or found == original.kind or original.kind not in _SUFFIXES:
        return ""
    return f"written as {found}: {_missing(original.kind)}"


def save_photo(
    picture: Image.Image,
    path: str | os.PathLike[str],
    original: Original,
    *,
    kind: str = SAME,
    strip_metadata: bool = False,
    mark: Mark | None = None,
) -> Path:
    """Write a changed photo atomically, with the metadata of its original, and return the path.

    Lossless formats (PNG, TIFF, lossless WebP) keep every unchanged pixel to the last bit, including 16-bit ones. JPEG,
    lossy WebP, HEIC and AVIF are encoded again.

    Args:
        picture: a picture with the size and mode of `original.image`, as `paste_results` makes it.
        path: should end as `suffix_of` says.
        kind: see `suffix_of`.
        strip_metadata: leave out all metadata except color profile and resolution.
        mark: the mark that says what was done; None writes none.

    Raises:
        FacegenError: the format cannot hold the picture, such as a WebP with a side over 16,383 pixels.
    """
    path, found = Path(path), _kind_of(original, kind)
    notes = marked(original.notes.stripped() if strip_metadata else original.notes, mark)
    deep = _samples16(picture, original, found)
    try:
        with atomic_path(path) as temporary:
            if deep is not None and found == "PNG":
                write_png16(deep, temporary, png_chunks(notes, picture.mode))
            else:
                _save(Image.fromarray(deep) if deep is not None else picture, temporary, found, notes, original)
    except (ValueError, RuntimeError) as error:
        raise FacegenError(f"{path}: cannot be written as {found} ({error}); use --format png") from error
    return path


def save_marked(picture: Image.Image, path: str | os.PathLike[str], mark: Mark | None) -> Path:
    """Write a picture that is no photo, such as a strip, with a mark or without, and return the path."""
    kind = Image.registered_extensions().get(Path(path).suffix.lower(), "")
    return save_picture(picture, path, **(for_saving(kind, marked(Notes(), mark)) if mark else {}))


def _save(picture: Image.Image, path: Path, kind: str, notes: Notes, original: Original) -> None:
    options = _QUALITY.get(kind, {}) | (original.options if kind == original.kind else {}) | for_saving(kind, notes)
    if options.get("lossless"):
        options |= {"quality": 80, "exact": True}  # effort; colors of transparent pixels
    if kind in _MODES and picture.mode not in _MODES[kind]:
        is_gray = picture.mode in {"L", "LA"}
        picture = _flat(picture) if kind == "JPEG" else picture.convert("RGBA" if picture.mode[-1] == "A" else "RGB")
        if is_gray and kind == "WEBP":
            options["icc_profile"] = None  # is one of gray
    picture.save(path, format=kind, **options)


def _flat(picture: Image.Image) -> Image.Image:
    """A picture with what is transparent laid over white."""
    flat = Image.new("RGB" if picture.mode == "RGBA" else "L", picture.size, "white")
    flat.paste(picture.convert(flat.mode), mask=picture.getchannel("A"))
    return flat


def _samples16(picture: Image.Image, original: Original, kind: str) -> np.ndarray | None:
    """The original's 16-bit samples with the changes of the picture; None if there are none to write."""
    samples, before = original.samples, original.image
    if samples is None or not (kind == "PNG" or (kind == "TIFF" and samples.ndim == 2)):
        return None
    if picture.size != before.size or picture.mode != before.mode or samples[0, 0].size != len(before.getbands()):
        return None
    result = np.empty_like(samples)
    for top in range(0, picture.height, BAND):
        box = (0, top, picture.width, min(top + BAND, picture.height))
        change = np.asarray(picture.crop(box)).astype(np.int32) - np.asarray(before.crop(box))
        result[top : box[3]] = (samples[top : box[3]] + 257 * change).clip(0, 65535)
    return result


def _kind_of(original: Original, kind: str) -> str:
    if kind != SAME:
        return FORMATS[kind]
    if original.kind not in _SUFFIXES:
        return "PNG"
    return original.kind if _can_write(original.kind) else "JPEG"


def _can_write(kind: str) -> bool:
    if kind == "HEIF" and importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return kind in Image.SAVE


def _missing(kind: str) -> str:
    """What is to be installed to write a kind of file."""
    if kind == "HEIF":
        return "writing HEIC needs pillow-heif (pip install pillow-heif)"
    return f"{kind} needs a newer Pillow (pip install --upgrade pillow)"
