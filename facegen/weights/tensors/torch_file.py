"""Files of `torch.save`, in both of its formats; torch itself never sees them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from facegen import reading
from facegen.errors import DamagedError, FacegenError
from facegen.reading import open_plain
from facegen.text import shown
from facegen.weights.family.records import STORAGE_MAGIC, STORAGE_PROTOCOL
from facegen.weights.family.safe_pickle import Budget
from facegen.weights.tensors import blocks
from facegen.weights.tensors.blocks import check_apart, read_block
from facegen.weights.tensors.torch_pickle import TorchPickle
from facegen.weights.tensors.torch_zip import TorchZip


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """Read what `torch.save` wrote: tensors and plain values, in dictionaries, lists, tuples and sets.

    Tensors come on the CPU, without gradients, and share memory where they did. An `argparse.Namespace` comes as a
    dictionary. Whatever else is in the file (quantized and sparse tensors, networks, code) is refused.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it is damaged.
        FacegenError: it holds anything else.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such weights file")
    with open_plain(path) as file:
        start = file.read(2)
        try:
            if start == b"PK":
                return _read_zip(file, str(path))
            if start.startswith(b"\x80"):
                return _read_legacy(file, str(path))
        except FacegenError:
            raise
        except (ValueError, LookupError, RuntimeError, OSError) as error:  # RuntimeError: torch has no memory left
            raise DamagedError(f"{path}: damaged ({shown(error, 200)})") from error
    raise DamagedError(f"{path}: damaged, or not a PyTorch file")


def _read_zip(file: BinaryIO, where: str) -> Any:
    """The format since PyTorch 1.6: a zip of a pickle, and of the bytes of every storage."""
    archive = TorchZip(file, where)
    if archive.read("byteorder") not in (None, b"little"):
        raise FacegenError(f"{where}: written by a machine with another byte order: not supported")

    def storage(key: str, count: int) -> torch.Tensor:
        span = archive.span(f"data/{key}")
        if span is None or span[1] != count:
            raise ValueError("a storage that the file does not have, or of another length")
        return read_block(file, *span)

    data = archive.read("data.pkl") or b""
    return TorchPickle(os.fstat(file.fileno()).st_size, storage, where).read(data)[0]


def _read_legacy(file: BinaryIO, where: str) -> Any:
    """The format before PyTorch 1.6: a magic number, a version, the machine, the content, the storages' keys; each is a
    pickle. Then the storages, each a count of its elements (8 bytes) and these.

    Only the content says of which type, and so how long, the storages are: it is read twice, the first time without.
    """
    file.seek(0)
    size, data = (
        os.fstat(file.fileno()).st_size,
        file.read(reading.MAX_TEXT_BYTES),
    )  # no pickles without storages are longer
    without = TorchPickle(size, lambda _, count: torch.empty(count, dtype=torch.uint8, device="meta"), where)
    budget, position, parts = Budget(size), 0, []
    for _ in range(5):
        begin = position
        part, position = without.read(data, begin, budget)
        parts.append((begin, part))
        if parts[0][1] != STORAGE_MAGIC:
            raise FacegenError(f"{where}: a pickle, but not a PyTorch file")
    (_, _), (_, version), (_, machine), (content, _), (_, keys) = parts
    if version != STORAGE_PROTOCOL or type(machine) is not dict or machine.get("little_endian") is not True:
        raise FacegenError(f"{where}: written by a machine with another byte order: not supported")
    if type(keys) is not list or len(keys) > blocks.MAX_TENSORS or sorted(keys) != sorted(without.numbers):
        raise DamagedError(f"{where}: damaged: its storages do not match its tensors")
    spans = {}
    for key in keys:
        count, length = without.numbers[key].numel(), without.numbers[key].nbytes
        file.seek(position)
        if int.from_bytes(file.read(8), "little") != count:
            raise DamagedError(f"{where}: damaged, a storage of another length than announced")
        spans[key] = (position + 8, length)
        position += 8 + length
    check_apart(spans.values(), size)
    return TorchPickle(size, lambda key, _: read_block(file, *spans[key]), where).read(data, content)[0]
