"""A photo as its file has it: upright pixels, and everything needed to write the same format again."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from facegen.images import in_turn, opened, read_photo, turn_upright, upright_with_alpha
from facegen.photos.notes import Notes, read_notes
from facegen.photos.png16 import is_png16, read_png16

DEEP = 16  # bytes that a pixel of 16 bits a channel takes, all its copies together
_LOSSLESS_TIFF = {"raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate"}


@dataclass(frozen=True)
class Original:
    """A photo that was opened to be changed and written again.

    image: upright, 8 bits a channel, mode L, LA, RGB or RGBA; `info["icc_profile"]` is what its numbers mean.
    kind: the format of its file as Pillow calls it: JPEG, PNG, WEBP, TIFF, HEIF, AVIF, GIF, ...
    notes: EXIF and the like, as they are true of the upright photo.
    options: how the file was written, as `Image.save` takes it: a JPEG's subsampling, a TIFF's compression.
    samples: upright, uint16 [H, W] or [H, W, channels]; None unless the file has 16 bits a channel (PNG, gray TIFF).
    """

    image: Image.Image
    kind: str
    notes: Notes = field(default_factory=Notes)
    options: dict[str, Any] = field(default_factory=dict)
    samples: np.ndarray | None = None


def open_original(path: str | os.PathLike[str]) -> Original:
    """Open a photo as `open_photo` does, but keep gray, transparency and metadata.

    If a file has several pictures, the first is used.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is a folder, empty, damaged, or not a picture; one line that names the file.
    """
    data, name = read_photo(path), str(path)
    with opened(data, name, at_least=DEEP if is_png16(data) else 0) as image, in_turn(image, data):
        kind = "JPEG" if image.format == "MPO" else image.format or ""
        options = _options(image, kind, data)
        mode = image.mode
        image.load()
        samples = _samples(image, data, name)
        upright = upright_with_alpha(image)
        if is_png16(data) and mode == "RGBA" and samples is not None and samples.shape[2] == 2:
            upright = upright.convert("LA")  # Pillow makes four channels of it
        if samples is not None and samples.ndim == 2 and "icc_profile" in image.info:
            upright.info["icc_profile"] = image.info["icc_profile"]
        return Original(upright, kind, read_notes(image, upright), options, samples)


def _options(image: Image.Image, kind: str, data: bytes) -> dict[str, Any]:
    """How the file of an opened picture was written."""
    if kind == "JPEG":
        return {"subsampling": max(JpegImagePlugin.get_sampling(image), 0)}  # the rare kinds become 4:4:4
    if kind == "WEBP":
        return {"lossless": _is_lossless_webp(data)}
    if kind == "TIFF":
        compression = image.info.get("compression")
        return {"compression": compression if compression in _LOSSLESS_TIFF else "tiff_adobe_deflate"}
    return {}


def _samples(image: Image.Image, data: bytes, name: str) -> np.ndarray | None:
    """The samples of a picture of 16 bits, turned upright."""
    if is_png16(data):
        return read_png16(data, name)
    if image.format == "TIFF" and image.mode.startswith("I;16"):
        return np.asarray(turn_upright(image)).astype(np.uint16)
    return None


def _is_lossless_webp(data: bytes) -> bool:
    """Whether a WebP's first picture is of the lossless kind (RFC 9649)."""
    place = 12
    while place < len(data) and data[place : place + 4] not in {b"VP8 ", b"VP8L", b"ANMF"}:
        place += 8 + (length := int.from_bytes(data[place + 4 : place + 8], "little")) + length % 2
    return data[place : place + 4] == b"VP8L"
