"""Writes `.params` files as MXNet does, and damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import torch

CODES = {torch.float32: 0, torch.float64: 1, torch.float16: 2}


def array(
    tensor: torch.Tensor,
    magic: int = 0xF993FAC9,
    kind: int = 0,
    dtype: int | None = None,
    shape: Sequence[int] | None = None,
) -> bytes:
    """Return one array of a file; what is given replaces what is true."""
    shape = tensor.shape if shape is None else shape
    header = struct.pack("<IiI", magic, kind, len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
    code = CODES[tensor.dtype] if dtype is None else dtype
    return header + struct.pack("<iii", 1, 0, code) + tensor.contiguous().numpy().tobytes()


def params(
    tensors: Mapping[str, torch.Tensor], arrays: Sequence[bytes] | None = None, names: Sequence[bytes] | None = None
) -> bytes:
    """Return a file of these tensors; `arrays` and `names` replace what would be written of them."""
    arrays = [array(tensor) for tensor in tensors.values()] if arrays is None else arrays
    names = [name.encode() for name in tensors] if names is None else names
    counted = (struct.pack("<Q", len(name)) + name for name in names)
    head = struct.pack("<QQQ", 0x112, 0, len(arrays))
    return b"".join([head, *arrays, struct.pack("<Q", len(names)), *counted])
