"""Bytes of a file as a tensor's numbers: read once, into memory that the tensor owns and that the file really fills."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, BinaryIO

import torch

MAX_TENSORS = 100_000  # of one file; the largest networks have a few thousand
MAX_DIMENSIONS = 8
MAX_SIZE = 2**40  # elements of a tensor: beyond it, torch's own arithmetic could overflow


def read_block(file: BinaryIO, start: int, count: int) -> torch.Tensor:
    """Return `count` bytes of a file from `start` on: uint8 `[count]`, in memory of its own.

    Raises:
        ValueError: the file ends before.
    """
    # Named devices, here and elsewhere: what the caller has chosen as the default must not matter.
    block = torch.empty(count, dtype=torch.uint8, device="cpu")
    file.seek(start)
    if file.readinto(block.numpy().data) != count:  # type: ignore[attr-defined]
        raise ValueError("the file ends too early")
    return block


def as_numbers(block: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the numbers that the bytes of `read_block` are: `[count / size of dtype]`.

    Raises:
        ValueError: there are bytes left over.
    """
    if len(block) % dtype.itemsize:
        raise ValueError("bytes that are not a whole number of elements")
    # A truth value of a byte other than 0 and 1 breaks what torch relies on when it counts them.
    return block.ne(0) if dtype == torch.bool else block.view(dtype)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Return a shape as a file gives it; ValueError if it is invalid or far too large."""
    sizes = checked_sizes(shape)
    if math.prod(size or 1 for size in sizes) >= MAX_SIZE:
        raise ValueError("a shape larger than any tensor")
    return sizes


def checked_sizes(sizes: Any) -> tuple[int, ...]:
    """Return sizes or strides, one per dimension, as a file gives them; ValueError if they are invalid."""
    if not isinstance(sizes, (list, tuple)) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"a shape that is not a list of up to {MAX_DIMENSIONS} sizes")
    if any(type(size) is not int or not 0 <= size < MAX_SIZE for size in sizes):
        raise ValueError("a shape with an invalid size")
    return tuple(sizes)


def check_apart(spans: Iterable[tuple[int, int]], end: int) -> None:
    """Raise ValueError unless these parts of a file, each a start and a count of bytes, lie before `end` and apart.

    So a file cannot have the same bytes read again and again.
    """
    position = 0
    for start, count in sorted(spans):
        if start < position:
            raise ValueError("parts that overlap")
        position = start + count
    if position > end:
        raise ValueError("a part beyond the end of the file")
