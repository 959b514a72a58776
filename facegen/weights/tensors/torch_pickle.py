"""The pickle in a file of `torch.save`: which names it may have, and how tensors come about.

Here, as in the family's pickles, a name stays a name (see `facegen.weights.family.safe_pickle`). A tensor is a view of
a storage, that is of a row of numbers elsewhere in the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from facegen.errors import FacegenError
from facegen.weights.family.records import as_set
from facegen.weights.family.safe_pickle import Budget, Global, Record, checked_key, read_pickle
from facegen.weights.tensors import blocks
from facegen.weights.tensors.blocks import MAX_SIZE, as_numbers, checked_shape, checked_sizes

MAX_CLAIM = 4  # times the file's bytes: what all its tensors together may have; views can repeat numbers

STORAGES = {
    f"{module}.{name}Storage": dtype
    for module in ("torch", "torch.cuda")
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "ComplexFloat": torch.complex64,
        "ComplexDouble": torch.complex128,
    }.items()
} | dict.fromkeys(("torch.storage.UntypedStorage", "torch.UntypedStorage"), torch.uint8)
# Types that came without a kind of storage: their tensors look into one of bytes.
_WITHOUT_STORAGE = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        *("uint16", "uint32", "uint64"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
    if hasattr(torch, name)
}
_TYPES = {f"torch.{str(dtype).removeprefix('torch.')}" for dtype in STORAGES.values()} | set(_WITHOUT_STORAGE)

# Gives the bytes of a storage, uint8 `[count]`, by its key and their count; ValueError if the file has none such.
ReadStorage = Callable[[str, int], torch.Tensor]


class _Namespace(Record):
    """An `argparse.Namespace` with a training's options; what it becomes is a dictionary of them."""

    def build(self, state: Any) -> dict[Any, Any]:
        if type(state) is not dict:
            raise TypeError("the state of a namespace is a dictionary")
        return state


class TorchPickle:
    """Reads the pickle of one file.

    Args:
        size: Bytes of the whole file; bound what its tensors may claim together.
        storage: Gives the bytes of its storages.
        where: What to call it in messages.
    """

    def __init__(self, size: int, storage: ReadStorage, where: str) -> None:
        self.left, self.tensors = MAX_CLAIM * size, blocks.MAX_TENSORS
        self.storage, self.where = storage, where
        self.numbers: dict[str, torch.Tensor] = {}  # by storage

    def read(self, data: bytes, start: int = 0, budget: Budget | None = None) -> tuple[Any, int]:
        """Return what the pickle at `start` holds, and the position behind it; FacegenError as `read_pickle`."""
        return read_pickle(data, self._builders(), self.where, budget=budget, start=start, persistent_ids=True)

    def _builders(self) -> dict[str, Callable[..., Any]]:
        return {
            **dict.fromkeys((*STORAGES, *_TYPES), _no_call),
            "collections.OrderedDict": _ordered,
            "collections.Counter": _ordered,
            "builtins.set": as_set,
            "__builtin__.set": as_set,
            "argparse.Namespace": _Namespace,
            "torch.Size": lambda sizes: sizes,
            "torch.device": lambda name, *index: name,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_of_bytes,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
        }

    def _tensor(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        grad: Any = None,
        hooks: Any = None,
        metadata: Any = None,
    ) -> torch.Tensor:
        """A tensor as torch writes it. Whether it had a gradient does not matter to who reads it."""
        _check_plain(metadata)
        return self._view(self._numbers(storage), offset, size, stride)

    def _tensor_of_bytes(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, metadata: Any = None
    ) -> torch.Tensor:
        _check_plain(metadata)
        if type(dtype) is not Global or dtype.name not in _WITHOUT_STORAGE:
            raise TypeError("a tensor of an unknown type")
        numbers = self._numbers(storage)
        if numbers.dtype != torch.uint8:
            raise TypeError("a tensor in an unknown layout")
        return self._view(as_numbers(numbers, _WITHOUT_STORAGE[dtype.name]), offset, size, stride)

    def _numbers(self, reference: Any) -> torch.Tensor:
        """The numbers of a storage, by the persistent id that stands for it."""
        if type(reference) is not tuple or len(reference) not in (5, 6) or reference[0] != "storage":
            raise TypeError("a tensor without a storage")
        _, kind, key, _, count = reference[:5]
        if type(kind) is not Global or kind.name not in STORAGES or reference[5:] not in ((), (None,)):
            raise TypeError("a storage in an unknown layout")
        if type(checked_key(key)) is not str or type(count) is not int or not 0 <= count < MAX_SIZE:
            raise TypeError("a storage in an unknown layout")
        dtype = STORAGES[kind.name]
        if key not in self.numbers:
            self.numbers[key] = as_numbers(self.storage(key, count * dtype.itemsize), dtype)
        if len(self.numbers[key]) != count or self.numbers[key].dtype != dtype:
            raise ValueError("a storage of two lengths or types")
        return self.numbers[key]

    def _view(self, numbers: torch.Tensor, offset: Any, size: Any, stride: Any) -> torch.Tensor:
        """The tensor of this shape in a row of numbers; torch would make the row longer where it is too short."""
        shape, strides = checked_shape(size), checked_sizes(stride)
        if type(offset) is not int or offset < 0 or len(shape) != len(strides):
            raise ValueError("a tensor in an unknown layout")
        last = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
        if math.prod(shape) and last >= len(numbers):
            raise ValueError("a tensor larger than its storage")
        self.left -= math.prod(shape) * numbers.itemsize
        self.tensors -= 1
        if self.left < 0:
            raise FacegenError("its tensors claim more than the file holds: refused")
        if self.tensors < 0:
            raise FacegenError(f"has more than {blocks.MAX_TENSORS:,} tensors, no network has so many: refused")
        if not math.prod(shape):
            return torch.empty(shape, dtype=numbers.dtype, device="cpu")
        return numbers.as_strided(shape, strides, offset)


def _check_plain(metadata: Any) -> None:
    if metadata:
        raise FacegenError("holds a tensor that must still be conjugated or negated: refused")


def _ordered(items: Any = None) -> dict[Any, Any]:
    """An ordered dictionary: the file fills it, but that of Python 2 comes with its items."""
    if items is None or type(items) is dict:
        return items or {}
    if type(items) is not list or not all(type(item) in (list, tuple) and len(item) == 2 for item in items):
        raise TypeError("a dictionary of something that is not a list of pairs")
    made = {checked_key(key): value for key, value in items}
    items.clear()  # so that the file cannot have it copied again and again
    return made


def _parameter(tensor: Any, *_: Any) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError("a parameter that is not a tensor")
    return tensor


def _no_call(*_: Any) -> None:
    raise TypeError("a type is not called")
