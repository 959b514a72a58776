"""The only way to open files that may come from a stranger: plain files only, and never more than memory can hold.

A small file can claim any size: a zip unpacks to a thousand times its size, `[[],[],...]` takes twenty times its bytes
once it is parsed, a pipe never ends. So sizes are checked before anything is read. `docs/security.md` lists the bounds;
to raise one, set the constant here, as in `facegen.reading.MAX_JSON_MEMORY = 2**33`.
"""

from __future__ import annotations

import json
import lzma
import os
import reprlib
import stat
import sys
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from facegen.errors import DamagedError, FacegenError

MAX_BYTES = 4 * 1024**3  # of any file that is read as a whole
MAX_TEXT_BYTES = 64 * 1024**2  # of notes: options, statistics, logs; a training of years writes a tenth
MAX_NOTE_BYTES = 4 * 1024**2  # of an object of options and the like
MAX_LINES = 500_000  # of statistics
MAX_JSON_MEMORY = 1024**3  # estimated, of a parsed document; a table of a million faces takes half
MAX_JSON_DEPTH = 64
MAX_ZIP_ENTRIES = 3_000_000

# What a parsed container or item takes at most, in bytes, by the character in the text that stands for it.
_JSON_MEMORY = {b"{": 240, b"[": 72, b",": 128}
_FOUR_BYTES = [bytes([first]) for first in range(0xF0, 0xF5)]  # what letters of four bytes in UTF-8 begin with
MAX_DIGITS = 99  # of a whole number in JSON: larger ones overflow wherever they are used, and take long to read
# What zipfile raises on a broken zip; RuntimeError: an encrypted entry, or an unknown compression.
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, OverflowError)


def open_plain(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading bytes, unless it is a pipe, a device or a socket: to read one may never end.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        FacegenError: it is not a plain file.
        OSError: it cannot be read.
    """
    # Opened first and looked at then, so that nobody can exchange it in between; without O_NONBLOCK a pipe would wait.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        opened = os.open(path, flags)
    except PermissionError:
        if Path(path).is_dir():  # as Windows says it
            raise FacegenError(f"{path}: a folder, not a file") from None
        raise
    except OSError:
        check_plain(path)  # a socket cannot even be opened
        raise
    try:
        _check_kind(os.fstat(opened).st_mode, path)
    except BaseException:
        os.close(opened)
        raise
    return os.fdopen(opened, "rb")


def check_plain(path: str | os.PathLike[str]) -> None:
    """Raise as `open_plain` does, for libraries that open a file by its name themselves."""
    _check_kind(Path(path).stat().st_mode, path)


def _check_kind(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(mode):
        raise FacegenError(f"{path}: a folder, not a file")
    if not stat.S_ISREG(mode):
        raise FacegenError(f"{path}: not a plain file but a pipe, a device or a socket: refused")


def read_bytes(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """Return a plain file's content.

    Args:
        path: The file.
        limit: Bytes that it may have; None for MAX_BYTES.

    Raises:
        As `open_plain`; FacegenError, too, if it has more bytes.
    """
    limit = MAX_BYTES if limit is None else limit
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= limit else None  # memory is reserved for what is asked
    if data is None or len(data) > limit:
        raise FacegenError(f"{path}: more than {_mb(limit)}, too large for a file of this kind: refused")
    return data


def read_text(path: str | os.PathLike[str]) -> str:
    """Return a note's text, at most MAX_TEXT_BYTES. Raises as `read_bytes`, and FacegenError if it is not UTF-8."""
    try:
        return read_bytes(path, MAX_TEXT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FacegenError(f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start:,})") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return a JSON file's content; raises as `read_bytes` and `parse_json` do."""
    return parse_json(read_bytes(path), str(path))


def read_note(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a small JSON object; raises as `read_json`, and FacegenError if it has more than MAX_NOTE_BYTES."""
    content = parse_json(read_bytes(path, MAX_NOTE_BYTES), str(path))
    if not isinstance(content, dict):
        raise FacegenError(f"{path}: not an object of names and values")
    return content


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the JSON objects of a file with one per line; other lines, such as one cut short, are skipped.

    Raises:
        As `open_plain`; FacegenError, too, if it has more than MAX_TEXT_BYTES, MAX_LINES or MAX_JSON_MEMORY.
    """
    data = read_bytes(path, MAX_TEXT_BYTES)
    if data.count(b"\n") > MAX_LINES:
        raise FacegenError(f"{path}: more than {MAX_LINES:,} lines: refused")
    _check_memory(data, str(path))
    found = []
    for line in data.split(b"\n"):
        with suppress(ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
            if isinstance(content := json.loads(line), dict):
                found.append(content)
    return found


def parse_json(data: bytes | str, where: str) -> Any:
    """Return the content of a JSON document whose bytes are in memory.

    Args:
        data: The document; bytes are UTF-8, with or without a byte order mark.
        where: What to call it in messages.

    Raises:
        DamagedError: not JSON.
        FacegenError: nested deeper than MAX_JSON_DEPTH, with whole numbers of more than MAX_DIGITS, or so that it would
            take more than MAX_JSON_MEMORY once it is parsed.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    _check_memory(raw, where)
    try:
        content = json.loads(raw.decode("utf-8-sig", "surrogatepass"), parse_int=_whole)
    except FacegenError as error:
        raise FacegenError(f"{where}: {error}") from None
    except RecursionError:
        raise FacegenError(f"{where}: nested deeper than {MAX_JSON_DEPTH} levels: refused") from None
    except ValueError as error:
        raise DamagedError(f"{where}: not JSON ({error})") from error
    containers, depth = [content] if isinstance(content, (dict, list)) else [], 0
    while containers:
        depth += 1
        if depth > MAX_JSON_DEPTH:
            raise FacegenError(f"{where}: nested deeper than {MAX_JSON_DEPTH} levels: refused")
        containers = [
            value
            for container in containers
            for value in (container.values() if isinstance(container, dict) else container)
            if isinstance(value, (dict, list))
        ]
    return content


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise FacegenError(f"holds a number of more than {MAX_DIGITS} digits: refused")
    return int(digits)


def _check_memory(raw: bytes, where: str) -> None:
    if _json_memory(raw) > MAX_JSON_MEMORY:
        raise FacegenError(f"{where}: would take more than {_mb(MAX_JSON_MEMORY)} of memory: refused")


def _json_memory(raw: bytes) -> int:
    """Return about how many bytes a JSON document takes while it is parsed: the text, its strings and the rest."""
    # One letter of four bytes makes every letter of its text take four; an escaped one, of its string alone.
    text = 1 if raw.isascii() else 4 if any(first in raw for first in _FOUR_BYTES) else 2
    strings = max(text, 4 if b"\\ud" in raw or b"\\uD" in raw else 2 if b"\\u" in raw else 1)
    containers = sum(size * raw.count(character) for character, size in _JSON_MEMORY.items())
    return len(raw) * (text + strings) + containers


def check_types(row: Any, types: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """Return a JSON object all of whose values are of these types; true and false are no whole numbers.

    Raises:
        FacegenError: it is no object, lacks a name or has another, or a value is of another type.
    """
    if not isinstance(row, dict) or row.keys() != types.keys():
        raise FacegenError(f"{reprlib.repr(row)} is not an object of {', '.join(types)}")
    for name, kinds in types.items():
        if type(row[name]) not in kinds:
            raise FacegenError(f"{name} is {reprlib.repr(row[name])}")
    return row


def open_zip(file: str | os.PathLike[str] | BinaryIO, where: str | None = None) -> zipfile.ZipFile:
    """Open a zip for reading: a plain file by its path, or one that is open already.

    Args:
        file: The path, or the file.
        where: What to call it in messages; None for the path.

    Raises:
        As `open_plain`; DamagedError, too, if it is no zip or a broken one; FacegenError if it has more than
            MAX_ZIP_ENTRIES entries.
    """
    where = str(file) if where is None else where
    if isinstance(file, (str, os.PathLike)):
        check_plain(file)
    try:
        archive = zipfile.ZipFile(file)
    except BROKEN_ZIP as error:
        raise DamagedError(f"{where}: not a readable zip ({error})") from error
    if len(archive.filelist) > MAX_ZIP_ENTRIES:
        archive.close()
        raise FacegenError(f"{where}: a zip of more than {MAX_ZIP_ENTRIES:,} files: refused")
    return archive


def read_entry(archive: zipfile.ZipFile, entry: str | zipfile.ZipInfo, where: str, limit: int | None = None) -> bytes:
    """Return one file of a zip; what it unpacks to is bounded whatever the zip claims.

    Args:
        archive: The zip, from `open_zip`.
        entry: The file in it, or its name.
        where: What to call the zip in messages.
        limit: Bytes that it may have; None for MAX_BYTES.

    Raises:
        FacegenError: there is no such file, it has more bytes, or it is damaged or encrypted.
    """
    limit = MAX_BYTES if limit is None else limit
    name = entry if isinstance(entry, str) else entry.filename
    try:
        info = archive.getinfo(entry) if isinstance(entry, str) else entry
        data = None
        if info.file_size <= limit:
            with archive.open(info) as file:
                data = file.read(limit + 1)
    except KeyError:
        raise FacegenError(f"{where}: it has no file {name}") from None
    except (*BROKEN_ZIP, OSError) as error:
        raise FacegenError(f"{where}: cannot read {name} ({error})") from error
    if data is None or len(data) > limit:
        raise FacegenError(f"{where}: cannot read {name} (it has more than {_mb(limit)})")
    return data


def is_number(value: object) -> bool:
    """Whether a value of a JSON document is a finite number, and no larger than a float can be."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _mb(size: int) -> str:
    return f"{size // 1024**2:,d} MB"
