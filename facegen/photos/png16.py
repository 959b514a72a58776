"""PNG of 16 bits a channel in color, which Pillow reads as 8 bits and does not write (ISO 15948)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from facegen.images import opened, turn_upright

BAND = 256  # rows that are worked on at a time
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}  # the other order of the bytes: the low ones come out
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def is_png16(data: bytes) -> bool:
    """Tell whether a file says that it is a PNG of 16 bits a channel."""
    return data[:8] == SIGNATURE and data[12:16] == b"IHDR" and data[24:25] == b"\x10"


def read_png16(data: bytes, name: str) -> np.ndarray:
    """Return the samples of a PNG of 16 bits, turned upright by its EXIF: uint16 `[H, W]` or `[H, W, 2, 3 or 4]`.

    Pillow decodes it, within the same bounds: once for the high byte of every sample, once for the low one.
    """
    high = _bytes(data, name, low=False)
    if high.mode not in {"RGB", "RGBA"}:
        return np.asarray(high).astype(np.uint16)
    if data[25] == 4:  # gray and alpha: both bytes of both, as if they were four channels
        pixels = np.asarray(_bytes(data, name, low=True))
        return np.ascontiguousarray(pixels).view(">u2").astype(np.uint16)
    low = _bytes(data, name, low=True)
    samples = np.empty((high.height, high.width, len(high.getbands())), np.uint16)
    for top in range(0, high.height, BAND):
        box = (0, top, high.width, min(top + BAND, high.height))
        samples[top : box[3]] = np.asarray(high.crop(box)).astype(np.uint16) << 8 | np.asarray(low.crop(box))
    return samples


def _bytes(data: bytes, name: str, *, low: bool) -> Image.Image:
    with opened(data, name) as image:
        if low:
            codec, extents, offset, layout = image.tile[0]  # type: ignore[attr-defined]  # of a file
            low_layout = _LOW_BYTES.get(str(layout), "RGBA")
            image.tile = [type(image.tile[0])(codec, extents, offset, low_layout)]  # type: ignore[attr-defined]
        image.load()
        return turn_upright(image)


def write_png16(samples: np.ndarray, path: Path, chunks: bytes = b"") -> None:
    """Write samples as a PNG.

    Args:
        samples: uint16 `[H, W]` or `[H, W, 2, 3 or 4]`.
        chunks: whole chunks to stand between the header and the pixels.
    """
    height, width = samples.shape[:2]
    color_type = _COLOR_TYPES[samples[0, 0].size]
    packer = zlib.compressobj(6)
    above = np.zeros(width * samples[0, 0].size * 2, np.uint8)
    with path.open("wb") as file:
        header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
        file.write(SIGNATURE + _chunk(b"IHDR", header) + chunks)
        for top in range(0, height, BAND):
            rows = samples[top : top + BAND].astype(">u2").reshape(-1, above.size // 2).view(np.uint8)
            filtered = np.full((len(rows), 1 + above.size), 2, np.uint8)  # filter 2: less the row above
            filtered[:, 1:] = rows - np.concatenate([above[None], rows[:-1]])
            above = rows[-1]
            if packed := packer.compress(filtered.tobytes()):
                file.write(_chunk(b"IDAT", packed))
        file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
