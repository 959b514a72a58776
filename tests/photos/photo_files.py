"""Files as cameras and programs write them, for tests: EXIF with a thumbnail, PNG of 16 bits, XMP."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

MAKER_NOTE = b"Maker\0" + bytes(range(200))
XMP = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<r:Description r:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" tiff:Orientation="6"
 tiff:Make="Camera" e:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture">
<dc:creator><r:Seq><r:li>Zo\xc3\xab &amp; co</r:li></r:Seq></dc:creator><xmp:Thumbnails>old face</xmp:Thumbnails>
</r:Description></r:RDF></x:xmpmeta><?xpacket end="w"?>"""


def camera_exif(orientation: int, thumbnail: bytes, size: tuple[int, int] = (90, 60)) -> bytes:
    """EXIF from its byte order on: a make, a place, the size, a maker's note, and a thumbnail at its end."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", orientation
    exif.get_ifd(0x8769).update({0xA002: size[0], 0xA003: size[1], 0x927C: MAKER_NOTE})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0)})
    block = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if block[:2] == b"II" else ">"
    first = struct.unpack_from(order + "I", block, 4)[0]
    link = first + 2 + 12 * struct.unpack_from(order + "H", block, first)[0]
    second = len(block)
    struct.pack_into(order + "I", block, link, second)
    tags = struct.pack(order + "HHII", 0x0201, 4, 1, second + 30) + struct.pack(
        order + "HHII", 0x0202, 4, 1, len(thumbnail)
    )
    return bytes(block) + struct.pack(order + "H", 2) + tags + bytes(4) + thumbnail


def png16(samples: np.ndarray, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits of uint16 [H, W, channels], by the book and without filters."""
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
