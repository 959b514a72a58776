"""A folder or a zip as a list of files: the one way in which data sets and archives are read from disk."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from facegen.errors import FacegenError
from facegen.files import at_home
from facegen.reading import open_zip, parse_json, read_bytes, read_entry

# What `facegen.images` decodes, under any name: .jfif is what Windows calls downloaded JPEGs.
IMAGE_SUFFIXES = frozenset(
    f".{end}"
    for end in "png jpg jpeg jpe jfif webp bmp gif tif tiff jp2 avif heic heif ppm pgm pbm pnm tga".split()  # noqa: SIM905
)
MAX_FILE_BYTES = 256 * 1024**2  # no face and no table has more, but a small zip can hold any size
# Of all pictures of a zip: they are compressed already, so that zips of them hold little more than their own size.
MAX_UNPACKED, MAX_UNPACKED_TIMES = 1024**3, 20
MAX_FILES = 3_000_000  # in a folder


def is_image_name(name: str) -> bool:
    """Tell whether a file name ends as a picture's does."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


DOUBLE = "the zip holds two files of this name"
AGAIN = "a link to a folder that was already read"


class Container:
    """The files of a folder (recursive) or of a zip, by relative name with forward slashes, sorted.

    Hidden files (a part of the name begins with a dot) and macOS's `__MACOSX` are left out. It may be
    pickled, forked and read from several threads: every process opens the zip for itself.

    Args:
        path: the folder or zip.
        strict: refuse what is dangerous (names in a zip that lead out of it) or endless (a link to a folder that
            contains it). Otherwise these are left out and listed in `refused`.

    Attributes:
        names: the files, sorted.
        refused: what was left out as dangerous, endless or the same again, and why.

    Raises FileNotFoundError when there is nothing at `path`, FacegenError when it is neither a folder nor a
    zip, holds more than memory is meant for, or what `strict` refuses.
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
        if self.is_zip:
            entries = [info.filename for info in self._open_zip().infolist()]
            self._check_unpacked()
            # Older programs of Windows write backslashes between folders.
            self._entry_of = {name.replace("\\", "/"): name for name in entries if "\\" in name}
            found = [name for name in (entry.replace("\\", "/") for entry in entries) if not name.endswith("/")]
            self.refused = {name: DOUBLE for name, times in Counter(found).items() if times > 1}
            self.refused |= {name: "the file name leads out of the archive" for name in found if leads_out(name)}
        else:
            found = self._list_folder()
        if strict:
            for name, why in self.refused.items():
                if why == AGAIN:
                    continue
                raise FacegenError(f"{self.path}: {why}: {name!r}; remove it, or do not use this archive")
        self.names: list[str] = sorted({n for n in found if not _is_noise(n) and n not in self.refused})

    def read(self, name: str) -> bytes:
        """The content of one file. Raises FacegenError, naming the file, when it cannot be read."""
        try:
            if self.is_zip:
                return read_entry(self._open_zip(), self._entry_of.get(name, name), str(self.path), MAX_FILE_BYTES)
            return read_bytes(self.path / name, MAX_FILE_BYTES)
        except OSError as error:
            raise FacegenError(f"{self.path}: cannot read {name} ({error.strerror or error})") from error

    def read_json(self, name: str) -> Any:
        """The content of a JSON file. Raises FacegenError, naming the file, as `read` and `parse_json` do."""
        return parse_json(self.read(name), f"{self.path}: {name}")

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

        names: list[str] = []
        visited: set[str] = set()
        # Links to folders are followed, as class folders are often links to another disk, but no folder is read twice:
        # a few dozen links make millions of paths. What is no link comes first.
        starts = deque([self.path])
        while starts:
            start = starts.popleft()
            real_start = os.path.realpath(start)
            for parent, folders, files in os.walk(start, onerror=fail):
                here, real = Path(parent), real_start + parent[len(str(start)) :]
                if real in visited:
                    self.refused[here.relative_to(self.path).as_posix()] = AGAIN
                    folders.clear()
                    continue
                visited.add(real)
                starts += self._links(here, sorted(folders))
                # Plain strings: half a million Path objects take minutes.
                prefix = "" if here == self.path else here.relative_to(self.path).as_posix() + "/"
                names += [prefix + file for file in files]
                if len(names) > MAX_FILES:
                    raise FacegenError(f"{self.path}: a folder of more than {MAX_FILES:,d} files: refused")
        return names

    def _links(self, here: Path, folders: Iterable[str]) -> list[Path]:
        """Return the folders that are links, but for those to a folder that they lie in."""
        links = [here / name for name in folders if Path(here / name).is_symlink()]
        above = {os.path.realpath(path) for path in (here, *here.parents)} if links else set()
        endless = [link for link in links if os.path.realpath(link) in above]
        self.refused |= {
            link.relative_to(self.path).as_posix(): "a link to a folder that contains it" for link in endless
        }
        return [link for link in links if link not in endless]

    def _check_unpacked(self) -> None:
        """Raise a FacegenError if the pictures unpack to far more than the zip, or are read from the same bytes."""
        unpacked = sum(info.file_size for info in self._open_zip().infolist() if is_image_name(info.filename))
        if unpacked > max(MAX_UNPACKED, MAX_UNPACKED_TIMES * self.path.stat().st_size):
            raise FacegenError(
                f"{self.path}: its pictures unpack to {unpacked // 1024**2:,d} MB, far too much for pictures: refused"
            )

    def _open_zip(self) -> zipfile.ZipFile:
        # A forked process shares the file position of its parent, so it must not share the parent's handle.
        if self._zip is None or self._zip_process != os.getpid():
            self._zip = open_zip(self.path)
            self._zip_process = os.getpid()
        return self._zip

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None, "_zip_process": -1}


def leads_out(name: str) -> bool:
    """Tell whether a file name is absolute or leads out of the folder that it is relative to."""
    parts = name.replace("\\", "/").split("/")  # a Path of each of a million names would take seconds
    is_absolute = not parts[0] or re.match("[A-Za-z]:", name) is not None
    return is_absolute or ".." in parts or set(parts) <= {"", "."}


def _is_noise(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
