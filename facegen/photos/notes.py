"""A picture's metadata, read from any format and written to any other."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from facegen.images import fitting_profile
from facegen.photos.exif import upright_exif
from facegen.photos.xmp import edit_packet

COMMENT = "Comment"
MAX_TEXT = 1024**2  # bytes of all texts of a PNG
MAX_SEGMENT = 65_533  # bytes of a JPEG's segment
_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"
_IPTC_RECORDS = 0x0404  # the one of Photoshop's resources that holds captions and rights, and no thumbnail
# The tags of a TIFF that describe the photo, not how its pixels are stored.
_TIFF_TAGS = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
    ExifTags.Base.Rating,
    ExifTags.IFD.Exif,
    ExifTags.IFD.GPSInfo,
}


@dataclass(frozen=True)
class Notes:
    """What a file says beside its pixels; empty is nothing.

    exif: from its byte order on, for an upright picture, without a thumbnail.
    xmp: a packet in UTF-8.
    icc: the color profile that the pixels' numbers belong to.
    iptc: captions and rights as JPEGs of Photoshop have them (IPTC-IIM).
    dpi: horizontal and vertical.
    texts: a PNG's texts with their keywords; a JPEG's comment has the keyword Comment.
    """

    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""
    iptc: bytes = b""
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()

    def stripped(self) -> Notes:
        """Return only what says how to show the picture: colors and resolution."""
        return Notes(icc=self.icc, dpi=self.dpi)


def read_notes(opened: Image.Image, upright: Image.Image) -> Notes:
    """Return the notes of a picture, as they are true of it turned upright.

    Args:
        opened: as it was opened, decoded; `upright` is made of it.
    """
    info = opened.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    records = info.get("photoshop", {}).get(_IPTC_RECORDS) if isinstance(info.get("photoshop"), dict) else b""
    return Notes(
        exif=upright_exif(_exif(opened), upright.size),
        xmp=edit_packet(xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp)),
        icc=fitting_profile(upright),
        iptc=records if isinstance(records, bytes) and len(records) < MAX_SEGMENT - 100 else b"",
        dpi=_dpi(info.get("dpi")),
        texts=_texts(opened),
    )


def for_saving(kind: str, notes: Notes) -> dict[str, Any]:
    """Return notes as what `Image.save` takes for a kind of file; those that it has no room for are left out."""
    if kind == "GIF":
        return {"comment": _comment(notes)}
    exif = b"Exif\0\0" + notes.exif if notes.exif else b""
    options: dict[str, Any] = {"icc_profile": notes.icc or None, "exif": exif, "xmp": notes.xmp}
    if kind == "HEIF":  # where empty ones are taken for broken ones
        options = {name: value for name, value in options.items() if value}
    if kind == "JPEG":
        options |= {"exif": exif if len(exif) <= MAX_SEGMENT else b"", "comment": b"", "xmp": b""}
        options["extra"] = _segments(notes)
    elif kind == "AVIF" and not _is_readable(exif):
        options["exif"] = b""
    elif kind == "PNG":
        options["pnginfo"] = _png_texts(notes)
    elif kind == "TIFF":
        tags = Image.Exif()
        tags.load(exif)
        if notes.xmp:
            tags[ExifTags.Base.XMLPacket] = notes.xmp
        options["exif"] = tags
        if {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo} & set(tags):
            options["compression"] = "raw"  # Pillow writes a compressed one without directories of its own
    if notes.dpi and kind in {"JPEG", "PNG", "TIFF"}:
        options["dpi"] = notes.dpi
    return options


def _exif(image: Image.Image) -> bytes:
    """The EXIF of a decoded picture as its file has it; for a TIFF, which is its own EXIF, it is rebuilt."""
    raw = image.info.get("exif")
    if isinstance(raw, bytes) and image.format != "TIFF":
        return raw
    with suppress(Exception):  # Pillow raises anything on broken ones
        exif = image.getexif()
        if image.format == "TIFF":
            for tag in set(exif) - _TIFF_TAGS:
                del exif[tag]
        if len(exif):
            return exif.tobytes()
    return b""


def _is_readable(exif: bytes) -> bool:
    """Whether Pillow can read EXIF and write it again, which it does for an AVIF."""
    with suppress(Exception):  # it raises anything on broken ones
        tags = Image.Exif()
        tags.load(exif)
        tags.tobytes()
        return True
    return False


def _dpi(dpi: Any) -> tuple[float, float] | None:
    with suppress(TypeError, ValueError, ZeroDivisionError, OverflowError):
        x, y = map(float, dpi)
        if 1 <= x < 2**16 and 1 <= y < 2**16:
            return x, y
    return None


def _texts(image: Image.Image) -> tuple[tuple[str, str], ...]:
    comment = image.info.get("comment")
    if isinstance(comment, bytes) and image.format in {"JPEG", "MPO", "GIF"}:
        try:
            return ((COMMENT, comment.decode("utf-8").rstrip("\0")),)
        except UnicodeDecodeError:
            return ((COMMENT, comment.decode("latin-1").rstrip("\0")),)
    if image.format != "PNG":
        return ()
    found, room = [], MAX_TEXT
    for key, text in getattr(image, "text", {}).items():
        room -= len(key) + 4 * len(text)
        if room > 0 and key != "XML:com.adobe.xmp" and not key.startswith("Raw profile type"):
            found.append((key, str(text)))
    return tuple(found)


def _comment(notes: Notes) -> bytes:
    """A JPEG's or GIF's only comment."""
    return "\n".join(text for key, text in notes.texts if key == COMMENT).encode("utf-8", "replace")[-MAX_SEGMENT:]


def _segments(notes: Notes) -> bytes:
    """XMP, IPTC and the comment as a JPEG's segments: Pillow takes no IPTC, and fails on the long ones of others."""
    comment = _comment(notes)
    parts = struct.pack(">HH", 0xFFFE, 2 + len(comment)) + comment if comment else b""
    if notes.xmp and len(_XMP_SEGMENT + notes.xmp) <= MAX_SEGMENT:
        parts += struct.pack(">HH", 0xFFE1, 2 + len(_XMP_SEGMENT + notes.xmp)) + _XMP_SEGMENT + notes.xmp
    if notes.iptc:
        padding = bytes(len(notes.iptc) % 2)
        block = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", _IPTC_RECORDS, 0, len(notes.iptc)) + notes.iptc
        parts += struct.pack(">HH", 0xFFED, 2 + len(block + padding)) + block + padding
    return parts


def _png_texts(notes: Notes) -> PngInfo:
    info = PngInfo()
    for key, text in notes.texts:
        with suppress(ValueError, UnicodeError):  # a key that PNG does not allow
            info.add_text(key, text)
    if notes.xmp:
        info.add_itxt("XML:com.adobe.xmp", notes.xmp.decode())
    return info


def png_chunks(notes: Notes, mode: str) -> bytes:
    """Return notes as the chunks of a PNG of this mode, for one whose pixels Pillow cannot write."""
    buffer = io.BytesIO()
    Image.new(mode, (1, 1)).save(buffer, "PNG", **for_saving("PNG", notes))
    data, place, chunks = buffer.getvalue(), 8, b""
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] not in {b"IHDR", b"IDAT", b"IEND"}:
            chunks += data[place:end]
        place = end
    return chunks
