"""A folder or a zip as a list of files: the one way in which data sets and archives are read from disk."""

from __future__ import annotations

import lzma
import os
import re
import stat
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from facegen.errors import FacegenError
from facegen.files import at_home

# What `facegen.images` decodes, under any name: .jfif is what Windows calls downloaded JPEGs.
IMAGE_SUFFIXES = frozenset(
    f".{end}"
    for end in "png jpg jpeg jpe jfif webp bmp gif tif tiff jp2 avif heic heif".split()  # noqa: SIM905
)
# The largest files that are read: no face and no table has more, but a small zip can hold any size.
MAX_PICTURE_BYTES, MAX_BYTES = 256 * 1024**2, 4 * 1024**3


def is_image_name(name: str) -> bool:
    """Tell whether a file name ends as a picture's does."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


DOUBLE = "the zip holds two files of this name"


class Container:
    """The files of a folder (recursive) or of a zip, by relative name with forward slashes, sorted.

    Hidden files (a part of the name begins with a dot) and macOS's `__MACOSX` are left out. It may be
    pickled, forked and read from several threads: every process opens the zip for itself.

    Args:
        path: the folder or zip.
        strict: refuse what is dangerous (names in a zip that lead out of it) or endless (a link to a folder
            that it lies in). Otherwise these are left out and listed in `refused`.

    Attributes:
        names: the files, sorted.
        refused: what was left out as dangerous or endless, and why.

    Raises FileNotFoundError when there is nothing at `path`, FacegenError when it is neither a folder nor a
    zip, or holds what `strict` refuses.
    """

    def __init__(self, path: str | os.PathLike[str], *, strict: bool = True) -> None:
        self.path = at_home(path)
        self.refused: dict[str, str] = {}
        self._zip: zipfile.ZipFile | None = None
        self._zip_process = -1
        self._entry_of: dict[str, str] = {}  # the zip's own names, where they differ
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: there is no such folder or zip")
        self.is_zip = not self.path.is_dir()
        if self.is_zip and not self.path.is_file():  # a device would fill the memory, a pipe never end
            raise FacegenError(f"{self.path}: neither a folder nor a readable zip (it is not a plain file)")
        if self.is_zip:
            entries = [info.filename for info in self._open_zip().infolist()]
            # Older programs of Windows write backslashes between folders.
            self._entry_of = {name.replace("\\", "/"): name for name in entries if "\\" in name}
            found = [name for name in (entry.replace("\\", "/") for entry in entries) if not name.endswith("/")]
            self.refused = {name: DOUBLE for name, times in Counter(found).items() if times > 1}
            self.refused |= {name: "the file name leads out of the archive" for name in found if leads_out(name)}
        else:
            found = self._list_folder()
        if strict:
            for name, why in self.refused.items():
                raise FacegenError(f"{self.path}: {why}: {name!r}; take it out, or do not use this archive")
        self.names: list[str] = sorted({n for n in found if not _is_noise(n) and n not in self.refused})

    def read(self, name: str) -> bytes:
        """The content of one file. Raises FacegenError, naming the file, when it cannot be read."""
        limit = MAX_PICTURE_BYTES if is_image_name(name) else MAX_BYTES
        try:
            if self.is_zip:
                opened = self._open_zip()
                info = self._entry(name)
                with opened.open(info) as file:
                    claimed = info.file_size
                    data = file.read(limit + 1) if claimed <= limit else None  # never more, whatever the zip claims
            else:
                found = (self.path / name).stat()
                if not stat.S_ISREG(found.st_mode):  # to read a pipe or a device may never end
                    raise FacegenError(f"{self.path}: cannot read {name} (it is not a plain file)")
                data = (self.path / name).read_bytes() if found.st_size <= limit else None
            if data is None or len(data) > limit:
                raise FacegenError(f"{self.path}: cannot read {name} (it has more than {limit // 1024**2:,d} MB)")
            return data
        except KeyError:
            raise FacegenError(f"{self.path}: there is no file {name} in it") from None
        except (OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
            if isinstance(error, FacegenError):
                raise
            # RuntimeError: an encrypted zip; NotImplementedError, its subclass: an unknown compression; ValueError:
            # what zipfile makes of a broken header.
            raise FacegenError(f"{self.path}: cannot read {name} ({error})") from error

    def stamp(self, name: str) -> list[int]:
        """Return what changes when a file is replaced: size and time of change, of a zip's entry size and checksum.

        Zeros for a file that cannot be looked at.
        """
        try:
            if self.is_zip:
                info = self._entry(name)
                return [info.file_size, info.CRC]
            found = (self.path / name).stat()
            return [found.st_size, found.st_mtime_ns]
        except (KeyError, OSError, FacegenError):
            return [0, 0]

    def checksum(self, name: str) -> int:
        """The CRC-32 of a file; of a zip's entry as the zip tells it, without reading the entry."""
        return self._entry(name).CRC if self.is_zip else zlib.crc32(self.read(name))

    def close(self) -> None:
        """Close the zip; the next read opens it again."""
        if self._zip is not None and self._zip_process == os.getpid():
            self._zip.close()
        self._zip = None

    def _entry(self, name: str) -> zipfile.ZipInfo:
        return self._open_zip().getinfo(self._entry_of.get(name, name))

    def _list_folder(self) -> list[str]:
        def fail(error: OSError) -> None:  # os.walk would leave out, silently, what it may not read
            raise error

        names = []
        # Links to folders are followed: class folders are often links to another disk.
        for parent, folders, files in os.walk(self.path, onerror=fail, followlinks=True):
            here = Path(parent)
            for name in list(folders):
                link = here / name
                if link.is_symlink() and link.resolve() in {p.resolve() for p in (here, *here.parents)}:
                    self.refused[link.relative_to(self.path).as_posix()] = "a link to a folder that it lies in"
                    folders.remove(name)
            # Plain strings: half a million Path objects take minutes.
            prefix = "" if here == self.path else here.relative_to(self.path).as_posix() + "/"
            names += [prefix + file for file in files]
        return names

    def _open_zip(self) -> zipfile.ZipFile:
        # A forked process shares the file position of its parent, so it must not share the parent's handle.
        if self._zip is None or self._zip_process != os.getpid():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:  # of a broken list of files
                raise FacegenError(f"{self.path}: neither a folder nor a readable zip ({error})") from error
            self._zip_process = os.getpid()
        return self._zip

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None, "_zip_process": -1}


def leads_out(name: str) -> bool:
    """Tell whether a file name is absolute or leads out of the folder that it is relative to."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return not parts or ".." in parts or parts[0] == "/" or re.match("[A-Za-z]:", name) is not None


def _is_noise(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
