"""Files of MXNet's parameters (`.params`), of which nothing is run.

A magic number and 8 bytes of nothing; a count of arrays, each a header and its numbers; as many names, each its length
and its letters, `arg:` or `aux:` before it.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import torch

from facegen.errors import DamagedError
from facegen.reading import open_plain
from facegen.text import shown
from facegen.weights.tensors import blocks
from facegen.weights.tensors.blocks import as_numbers, checked_shape, read_block

START = struct.pack("<QQ", 0x112, 0)
ARRAY = 0xF993FAC9  # begins an array, in the version of the format that MXNet has written since 1.0
DTYPES = {0: torch.float32, 1: torch.float64, 2: torch.float16}
MAX_NAME_BYTES = 1000


def is_mxnet_file(path: Path) -> bool:
    """Whether a file begins as MXNet's parameters do; OSError where it cannot be read."""
    with open_plain(path) as file:
        return file.read(len(START)) == START


def read_mxnet_file(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read the arrays of a `.params` file by their names, without `arg:` and `aux:`.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it is damaged, no such file, or holds other arrays than dense ones of floating-point numbers.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such weights file")
    with open_plain(path) as file:
        try:
            return _read(file)
        except (ValueError, struct.error, OSError) as error:
            raise DamagedError(f"{path}: damaged, or not a .params file of MXNet ({shown(error, 200)})") from error


def _read(file: BinaryIO) -> dict[str, torch.Tensor]:
    if file.read(len(START)) != START:
        raise ValueError("another beginning")
    arrays = [_array(file) for _ in range(_count(file))]
    if _count(file) != len(arrays):
        raise ValueError("another number of names than of arrays")
    names = [_name(file) for _ in arrays]
    if file.read(1) or len(set(names)) != len(names):
        raise ValueError("a name that comes twice, or bytes left over")
    return dict(zip(names, arrays, strict=True))


def _array(file: BinaryIO) -> torch.Tensor:
    magic, kind, dimensions = _numbers(file, "<IiI")
    if magic != ARRAY or kind != 0 or not 1 <= dimensions <= blocks.MAX_DIMENSIONS:
        raise ValueError("an array of an unknown kind")
    shape = checked_shape(_numbers(file, f"<{dimensions}q"))
    _, _, dtype = _numbers(file, "<iii")  # where it was kept, of which type it is
    if dtype not in DTYPES:
        raise ValueError("an array of other numbers than floating-point ones")
    size = math.prod(shape) * DTYPES[dtype].itemsize
    if size > os.fstat(file.fileno()).st_size - file.tell():  # before any memory is taken
        raise ValueError("the file ends too early")
    return as_numbers(read_block(file, file.tell(), size), DTYPES[dtype]).reshape(shape)


def _name(file: BinaryIO) -> str:
    (length,) = _numbers(file, "<Q")
    text = file.read(min(length, MAX_NAME_BYTES))
    if len(text) != length:
        raise ValueError("a name that is too long, or ends too early")
    return text.decode("utf-8").rpartition(":")[2]


def _count(file: BinaryIO) -> int:
    (count,) = _numbers(file, "<Q")
    if count > blocks.MAX_TENSORS:
        raise ValueError(f"more than {blocks.MAX_TENSORS:,} arrays")
    return count


def _numbers(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
