"""CIFAR-10's and MNIST's files, as their authors wrote them: pickles of Python 2, and IDX."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def text(value: str) -> bytes:
    return b"U" + struct.pack("<B", len(value)) + value.encode()


def array(pixels: np.ndarray) -> bytes:
    """A uint8 array as Python 2 and its numpy pickle it (protocol 2)."""
    shape = b"".join(b"M" + struct.pack("<H", size) for size in pixels.shape)
    data = pixels.tobytes()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + (b"(K\x01" + shape + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN")
        + (b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<I", len(data)) + data + b"tb")
    )


def listed(values: list[bytes]) -> bytes:
    return b"](" + b"".join(values) + b"e"


def pickled(**items: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in items.items()) + b"u."


def write_cifar(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write the .tar.gz of CIFAR-10 with these files, and return its path."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def idx(values: np.ndarray) -> bytes:
    """An array of bytes as an IDX file."""
    return struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.tobytes()
