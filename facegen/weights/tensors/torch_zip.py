"""The zip that `torch.save` writes: nothing is compressed, so every file in it is a part of the whole one.

torch has a zip reader of its own, which finds other directories than Python's: what one reader checks, the other need
not see. So only this module looks into the file, and only at what lies in it unchanged.
"""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from facegen.errors import DamagedError, FacegenError
from facegen.reading import open_plain, open_zip
from facegen.weights.tensors import blocks
from facegen.weights.tensors.blocks import check_apart

_LOCAL_HEADER = b"PK\3\4"
_LOCAL_HEADER_SIZE = 30


class TorchZip:
    """Where the files of a torch zip lie.

    Args:
        file: The zip, open for reading.
        where: What to call it in messages.

    Raises:
        DamagedError: cut short, or otherwise not as it was written.
        FacegenError: not such a zip.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self.file = file
        with open_zip(file, where) as archive:
            entries = archive.infolist()
        if len(entries) > blocks.MAX_TENSORS:
            raise FacegenError(
                f"{where}: more than {blocks.MAX_TENSORS:,} files inside, no network has so many: refused"
            )
        names = [entry.filename for entry in entries]
        if any("/code/" in name for name in names):
            raise FacegenError(
                f"{where}: TorchScript, which is a program: facegen writes such files but does not read them"
            )
        if any(_is_packed(entry) for entry in entries):
            raise FacegenError(f"{where}: compressed inside, which torch never does: refused")
        try:
            self.spans = {entry.filename: self._span(entry) for entry in entries}
            if len(self.spans) < len(entries):
                raise ValueError("two files of one name inside")
            check_apart(self.spans.values(), os.fstat(file.fileno()).st_size)
        except (ValueError, OSError) as error:  # OSError: a place before the file's start
            raise DamagedError(f"{where}: not a PyTorch file, or damaged ({error})") from error
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise FacegenError(f"{where}: a zip file without weights in it")
        self.folder = pickles[0].partition("/")[0]

    def _span(self, entry: zipfile.ZipInfo) -> tuple[int, int]:
        """Where the bytes of an entry start, and how many there are."""
        self.file.seek(entry.header_offset)
        header = self.file.read(_LOCAL_HEADER_SIZE)
        if len(header) < _LOCAL_HEADER_SIZE or not header.startswith(_LOCAL_HEADER):
            raise ValueError("no file where its directory says")
        name, extra = struct.unpack_from("<HH", header, 26)
        return entry.header_offset + _LOCAL_HEADER_SIZE + name + extra, entry.file_size

    def span(self, name: str) -> tuple[int, int] | None:
        """Return where the bytes of a file in the zip's folder start, and how many there are; None without one."""
        return self.spans.get(f"{self.folder}/{name}")

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file in the zip's folder; None if there is none."""
        if (span := self.span(name)) is None:
            return None
        self.file.seek(span[0])
        return self.file.read(span[1])


def _is_packed(entry: zipfile.ZipInfo) -> bool:
    """Whether it could unpack to any size."""
    return (
        entry.compress_type != zipfile.ZIP_STORED or bool(entry.flag_bits & 1) or entry.file_size != entry.compress_size
    )


def is_zip(path: Path) -> bool:
    """Whether a plain file begins as a zip does."""
    with open_plain(path) as file:
        return file.read(2) == b"PK"
