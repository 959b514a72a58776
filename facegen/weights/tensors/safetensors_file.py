"""Safetensors files, read by us alone, so that what was checked is what is used.

Eight bytes with the length of the header, the header (a JSON object: the name of every tensor, its type, its shape and
where its bytes lie; strings under `__metadata__`), then the bytes of all tensors, in a row and without gaps.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from facegen import reading
from facegen.errors import DamagedError, FacegenError
from facegen.reading import open_plain, parse_json
from facegen.text import shown
from facegen.weights.tensors import blocks
from facegen.weights.tensors.blocks import as_numbers, check_apart, checked_shape, read_block

# What the format calls torch's types; those with several numbers in a byte are left out.
DTYPES = {
    name: getattr(torch, dtype)
    for name, dtype in {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "I16": "int16",
        "U16": "uint16",
        "I32": "int32",
        "U32": "uint32",
        "I64": "int64",
        "U64": "uint64",
        "F16": "float16",
        "BF16": "bfloat16",
        "F32": "float32",
        "F64": "float64",
        "C64": "complex64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "F8_E8M0": "float8_e8m0fnu",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
    }.items()
    if hasattr(torch, dtype)
}


class Entry(NamedTuple):
    """What the header says of a tensor; its bytes begin at `start` of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class SafetensorsFile:
    """An open safetensors file: its metadata, and its tensors by name, read one by one."""

    file: BinaryIO
    metadata: dict[str, str]
    entries: dict[str, Entry]

    def tensor(self, name: str) -> torch.Tensor:
        """Read a tensor; ValueError if the file has become shorter, KeyError if it has no such tensor."""
        entry = self.entries[name]
        return as_numbers(read_block(self.file, entry.start, entry.size), entry.dtype).reshape(entry.shape)


@contextmanager
def open_safetensors(path: str | os.PathLike[str]) -> Iterator[SafetensorsFile]:
    """Open a safetensors file, and check all that its header says, before any tensor is read.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: damaged, or not of this format.
        FacegenError: too large, or no plain file; also what is raised inside as a ValueError.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: there is no such weights file")
    with open_plain(path) as file:
        try:
            opened = _checked(file)
        except (ValueError, OSError) as error:
            raise _damaged(path, error) from error
        try:
            yield opened
        except FacegenError:
            raise
        except (ValueError, OSError) as error:
            raise _damaged(path, error) from error


def _damaged(path: str | os.PathLike[str], error: Exception) -> FacegenError:
    kind = FacegenError if type(error) is FacegenError else DamagedError  # what is too large is whole
    return kind(f"{path}: damaged, or not a safetensors file ({shown(error, 200)})")


def _checked(file: BinaryIO) -> SafetensorsFile:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, reading.MAX_TEXT_BYTES):
        raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
    header = parse_json(file.read(length), "its header")
    if not isinstance(header, dict):
        raise ValueError("a header that is not a JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("metadata that are not strings")
    if len(header) > blocks.MAX_TENSORS:
        raise FacegenError(f"more than {blocks.MAX_TENSORS:,} tensors, no network has so many")
    entries = {name: _entry(name, entry, 8 + length) for name, entry in header.items()}
    check_apart(((entry.start, entry.size) for entry in entries.values()), size)
    if 8 + length + sum(entry.size for entry in entries.values()) != size:
        raise ValueError("other bytes than those of its tensors")
    return SafetensorsFile(file, metadata, entries)


def _entry(name: str, entry: Any, first: int) -> Entry:
    """What the header says of one tensor; the bytes of all begin at `first`."""
    try:
        dtype, shape, (start, end) = DTYPES[entry["dtype"]], checked_shape(entry["shape"]), entry["data_offsets"]
        if type(start) is not int or type(end) is not int or start < 0:
            raise ValueError("bytes that lie nowhere")
        if end - start != math.prod(shape) * dtype.itemsize:
            raise ValueError("another number of bytes than its shape needs")
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"the tensor {shown(name)}: {shown(error)}") from error
    return Entry(dtype, shape, first + start, end - start)
