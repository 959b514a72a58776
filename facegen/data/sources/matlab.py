"""MATLAB's `.mat` files (version 5), read in a process of its own.

scipy's reader crashes the process on some damaged files, and memory that it takes for half a million small arrays does
not come back: both end with the process that reads.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from facegen.container import Container
from facegen.errors import FacegenError
from facegen.parallel import run_in_child

MAX_MEMORY = 1024**3  # that reading may take: 460,000 pictures of imdb.mat take 0.4 GB
# What a file's compressed parts unpack to, in bytes or times the file: those 460,000 have 130 MB, in a file of 12. More
# is millions of empty parts, of which each takes as long as a text.
MAX_UNPACKED, MAX_UNPACKED_TIMES = 32 * 1024**2, 20
_COMPRESSED = 15  # the kind of a part, beside its size in the eight bytes before it; miCOMPRESSED
_PIECE = 2**14  # bytes that are unpacked at a time, to at most a thousand times as many


def read_struct(
    files: Container, name: str, variable: str, numbers: Sequence[str], texts: Sequence[str]
) -> dict[str, np.ndarray]:
    """Read fields of a 1x1 struct that each have as many entries: rows of numbers, and cells that hold a text each.

    Args:
        files, name: The `.mat` file.
        variable: The struct's name.
        numbers, texts: The names of the fields wanted.

    Returns an array [N] for each field, of float64 or of str (as objects; what is no text is empty).

    Raises FacegenError that says what is wrong: truncated, damaged, of version 7.3, no such struct, a field missing,
    fields that differ in length.
    """
    if not files.is_zip and not (files.path / name).is_file():
        raise FacegenError("it is not a plain file")  # to read a pipe or a device may never end
    # A folder's file is read as a stream; a zip's whole, 25 MB for imdb.mat.
    with tempfile.TemporaryFile() if files.is_zip else (files.path / name).open("rb") as file:
        if files.is_zip:
            file.write(files.read(name))
            file.seek(0)
        numbers_wanted = json.dumps([variable, *numbers])
        child = run_in_child(_child, numbers_wanted, *texts, stdin=file, stderr=subprocess.PIPE)
    if child.returncode != 0:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise FacegenError(f"it is damaged: reading it crashed ({last or f'code {child.returncode}'})")
    result = json.loads(child.stdout)
    if isinstance(result, str):
        raise FacegenError(result)
    fields = {field: np.array(result.pop(field), dtype=np.float64) for field in numbers}
    return fields | {field: np.array(result.pop(field), dtype=object) for field in texts}


def _child() -> None:
    """What the other process does: read standard input, write JSON, the fields as lists or a text that says why not."""
    _bound_memory()
    variable, *numbers = json.loads(sys.argv[1])
    result: dict[str, list] | str
    try:
        result = _read(sys.stdin.buffer, variable, numbers, sys.argv[2:])
    except FacegenError as error:
        result = str(error)
    sys.stdout.write(json.dumps(result))  # in C, unlike json.dump


def _read(file: BinaryIO, variable: str, numbers: Sequence[str], texts: Sequence[str]) -> dict[str, list]:
    from scipy.io import loadmat

    if file.read(10) == b"MATLAB 7.3":
        raise FacegenError("it is of MATLAB version 7.3; save it with MATLAB's `save -v7`")
    _check_unpacked(file)
    file.seek(0)
    try:
        # Squeezed, texts are str and not arrays of them: a third of the memory.
        struct = np.asarray(loadmat(file, variable_names=[variable], squeeze_me=True).get(variable))
    except Exception as error:  # scipy raises anything
        raise FacegenError(f"it is truncated or damaged ({(str(error) or repr(error)).splitlines()[0]})") from error
    if struct.dtype.names is None or struct.ndim > 0:
        raise FacegenError(f"it holds no struct named {variable}")
    missing = [field for field in (*numbers, *texts) if field not in struct.dtype.names]
    if missing:
        raise FacegenError(f"the field {missing[0]} of {variable} is missing")
    result: dict[str, list] = {}
    for field in (*numbers, *texts):
        values = np.atleast_1d(struct[field].item())
        try:
            result[field] = _texts(values) if field in texts else values.astype(np.float64).tolist()
        except (TypeError, ValueError) as error:
            raise FacegenError(f"the field {field} of {variable} is not understood ({error})") from error
        if values.ndim != 1:
            raise FacegenError(f"the field {field} of {variable} is not a row: its shape is {values.shape}")
    lengths = {field: len(values) for field, values in result.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{field} {length}" for field, length in lengths.items())
        raise FacegenError(f"the fields of {variable} differ in length: {counts}")
    return result


def _check_unpacked(file: BinaryIO) -> None:
    """Raise a FacegenError if a file's compressed parts unpack to more than they may; it is left wherever that ends."""
    left = max(MAX_UNPACKED, MAX_UNPACKED_TIMES * file.seek(0, os.SEEK_END))
    file.seek(126)
    order = "<" if file.read(2) == b"IM" else ">"
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}2I", head)
        end = file.tell() + size
        if kind == _COMPRESSED:
            left -= _unpacked(file.read(size), left)
        if left < 0:
            raise FacegenError("it unpacks to far more than metadata do")
        file.seek(end)


def _unpacked(data: bytes, most: int) -> int:
    """Return how many bytes these unpack to, counted no further than beyond `most`."""
    unpacker, count = zlib.decompressobj(), 0
    with suppress(zlib.error):  # scipy will say what is wrong
        for start in range(0, len(data), _PIECE):
            count += len(unpacker.decompress(data[start : start + _PIECE]))
            if count > most or unpacker.eof:
                break
    return count


def _bound_memory() -> None:
    """Let this process take no more than MAX_MEMORY beside what it has, where the system can see to that (Linux)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    limit = pages * resource.getpagesize() + MAX_MEMORY
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _texts(values: np.ndarray) -> list[str]:
    """Texts; an empty one is an empty array in the file (and all that is left when there is only one)."""
    return [value if isinstance(value, str) else "" for value in (values if values.size else [""])]
