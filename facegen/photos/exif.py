"""EXIF of a photo that was turned upright: patched where it lies, so that notes of a camera's maker stay as they are.

EXIF is a little TIFF file (CIPA DC-008, TIFF 6.0): directories of tags, the second of which belongs to a thumbnail.
Rewriting it would move what a maker's note points to by position.
"""

from __future__ import annotations

import struct

_ORIENTATION, _EXIF_DIRECTORY = 0x0112, 0x8769
_WIDTHS, _HEIGHTS = {0x0100, 0xA002}, {0x0101, 0xA003}
_THUMBNAIL, _STRIPS = (0x0201, 0x0202), (0x0111, 0x0117)  # where its bytes are, and how many
_SHORT, _LONG = 3, 4
_MAX_TAGS = 1000  # of a directory
_MAX_BYTES = 1024**2  # a JPEG has room for 64 KB


def upright_exif(exif: bytes, size: tuple[int, int]) -> bytes:
    """Return a photo's EXIF as it is true of the upright photo, without its thumbnail, which shows the face as it was.

    Args:
        exif: from its byte order on, or from `Exif` and two zeros on.
        size: width and height of the upright photo.

    Returns:
        From its byte order on; empty if it cannot be read.
    """
    block = bytearray(exif.removeprefix(b"Exif\0\0"))
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    try:
        return _patched(block, order, size) if order and len(block) <= _MAX_BYTES else b""
    except (struct.error, ValueError):
        return b""


def _patched(block: bytearray, order: str, size: tuple[int, int]) -> bytes:
    magic, first = struct.unpack_from(order + "HI", block, 2)
    if magic != 42:
        raise ValueError("no TIFF")
    tags, link = _directory(block, order, first)
    directories = [tags]
    if _EXIF_DIRECTORY in tags:
        directories.append(_directory(block, order, _values(block, order, tags[_EXIF_DIRECTORY])[0])[0])
    for directory in directories:
        for place in (directory[name] for name in directory.keys() & {_ORIENTATION}):
            struct.pack_into(order + "HHIHH", block, place, _ORIENTATION, _SHORT, 1, 1, 0)
        for names, number in ((_WIDTHS, size[0]), (_HEIGHTS, size[1])):
            for name in directory.keys() & names:
                struct.pack_into(order + "HHII", block, directory[name], name, _LONG, 1, number)
    second = struct.unpack_from(order + "I", block, link)[0]
    if second:
        struct.pack_into(order + "I", block, link, 0)
        _erase_thumbnail(block, order, second)
    return bytes(block)


def _erase_thumbnail(block: bytearray, order: str, second: int) -> None:
    """Zero the bytes of a thumbnail, or cut them off where they end the block."""
    tags, _ = _directory(block, order, second)
    for where, count in (_THUMBNAIL, _STRIPS):
        if where in tags and count in tags:
            parts = zip(_values(block, order, tags[where]), _values(block, order, tags[count]), strict=True)
            for start, length in sorted(parts, reverse=True):
                end = min(start + length, len(block))
                block[start:end] = bytes(max(0, end - start))
                if end == len(block):
                    del block[start:]


def _directory(block: bytearray, order: str, place: int) -> tuple[dict[int, int], int]:
    """The places of a directory's tags by their numbers, and the place of the link to the next directory."""
    count = struct.unpack_from(order + "H", block, place)[0]
    if count > _MAX_TAGS or place < 8:
        raise ValueError("no directory")
    places = range(place + 2, place + 2 + 12 * count, 12)
    return {_tag(block, order, entry): entry for entry in places}, place + 2 + 12 * count


def _tag(block: bytearray, order: str, place: int) -> int:
    return int(struct.unpack_from(order + "H", block, place)[0])


def _values(block: bytearray, order: str, place: int) -> list[int]:
    """The whole numbers of a tag."""
    kind, count = struct.unpack_from(order + "HI", block, place + 2)
    if kind not in {_SHORT, _LONG} or not 0 < count <= _MAX_TAGS:
        raise ValueError("no whole numbers")
    letter, width = ("H", 2) if kind == _SHORT else ("I", 4)
    start = place + 8 if count * width <= 4 else struct.unpack_from(order + "I", block, place + 8)[0]
    return list(struct.unpack_from(f"{order}{count}{letter}", block, start))
