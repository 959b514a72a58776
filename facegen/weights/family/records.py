"""What a network pickle may hold, and what stands for it here: numpy arrays, plain containers and inert records.

Tensors come as numpy arrays that look into the file's bytes, so nothing is copied or reserved on a file's word.
A pickled module (`Persistent`) is its class's name, its source text and its state; the text is kept as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facegen.errors import FacegenError
from facegen.reading import read_bytes
from facegen.text import shown
from facegen.weights.family.safe_pickle import Budget, Global, Record, checked_key, read_pickle

MAX_DIMENSIONS = 8
MAX_FILE_BYTES = 8 * 2**30
PERSISTENCE_VERSION = 6  # the newest layout of pickled modules that is known

# The file inside the file: what torch writes before a storage's elements.
STORAGE_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_PROTOCOL = 1001
STORAGE_TYPES = {
    f"{module}.{name}Storage": np.dtype(code)
    for module in ("torch", "torch.cuda")
    for name, code in {
        "Float": "<f4",
        "Double": "<f8",
        "Half": "<f2",
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "?",
    }.items()
}


class Persistent(Record):
    """A pickled module of the family's PyTorch code: class name, source text (never run) and state."""

    def __init__(self, class_name: str, module_src: str, version: int, state: dict[str, Any]) -> None:
        super().__init__()
        self.class_name, self.module_src, self.version, self.state = class_name, module_src, version, state


class TensorflowNetwork(Record):
    """A pickled network of the family's TensorFlow code; `state` is filled by the file."""

    def __init__(self) -> None:
        super().__init__()
        self.state: dict[str, Any] = {}

    def build(self, state: Any) -> TensorflowNetwork:
        if type(state) is not dict:
            raise TypeError("the state of a network is a dictionary")
        self.state = state
        return self


class Dtype(Record):
    """An element type of numpy: a number or truth value, never an object."""

    def __init__(self, code: str, *_: Any) -> None:
        super().__init__()
        if type(code) is not str:
            raise TypeError("a numpy type in an unknown layout")
        if not re.fullmatch(r"[<>|=]?(f[248]|[iu][1248]|b1|\?)", code):
            raise FacegenError(f"holds an array of the type {shown(code)!r}, not of numbers: refused")
        self.value = np.dtype(code)

    def build(self, state: Any) -> Dtype:
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("a numpy type in an unknown layout")
        self.value = self.value.newbyteorder(state[1])
        return self


class UnfinishedArray(Record):
    """A numpy array before the file gives its shape and bytes."""

    def build(self, state: Any) -> np.ndarray:
        _, shape, dtype, column_major, data = state
        return array(data, dtype, shape, "F" if column_major is True else "C")


def array(data: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """Return a read-only array over a file's bytes, which must be exactly as many as it needs."""
    if type(dtype) is not Dtype or type(data) is not memoryview or order not in ("C", "F"):
        raise TypeError("an array in an unknown layout")
    return np.frombuffer(data, dtype.value).reshape(checked_shape(shape), order=order)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Return a shape; TypeError or ValueError if it is invalid."""
    if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS:
        raise TypeError(f"a shape is a tuple of up to {MAX_DIMENSIONS} numbers")
    if any(type(size) is not int or not 0 <= size < 2**40 for size in shape):
        raise ValueError("a shape with an invalid size")
    return shape


def as_set(values: Any = None) -> set[Any]:
    """Return a set of the values that a pickle gives for it; TypeError where they are no list."""
    if values is None:
        return set()
    if type(values) is not list:
        raise TypeError("a set of something that is not a list")
    made = {checked_key(value) for value in values}
    values.clear()  # so that the file cannot have it copied again and again
    return made


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    if type(storage) is not np.ndarray or type(offset) is not int or offset < 0:
        raise TypeError("a tensor in an unknown layout")
    shape, strides = checked_shape(size), checked_shape(stride)
    if len(shape) != len(strides) or np.prod(shape, dtype=float) > storage.size:
        raise ValueError("a tensor larger than its storage")
    if 0 in shape:
        return np.empty(shape, storage.dtype)
    itemsize = storage.itemsize
    # numpy refuses to look beyond the buffer's end.
    return np.ndarray(shape, storage.dtype, storage, offset * itemsize, [itemsize * step for step in strides])


def _parameter(tensor: Any, *_: Any) -> np.ndarray:
    if type(tensor) is not np.ndarray:
        raise TypeError("a parameter that is not a tensor")
    return tensor


def _persistent(meta: Any) -> Persistent:
    if type(meta) is not dict or meta.get("type") != "class":
        raise TypeError("a pickled module in an unknown layout")
    class_name, source, version, state = (meta.get(key) for key in ("class_name", "module_src", "version", "state"))
    if type(class_name) is not str or type(source) is not str or type(state) is not dict or type(version) is not int:
        raise TypeError("a pickled module in an unknown layout")
    if version > PERSISTENCE_VERSION:
        raise FacegenError(
            f"its modules are pickled in layout {shown(version)}, facegen knows layouts up to {PERSISTENCE_VERSION}: "
            "not supported"
        )
    return Persistent(class_name, source, version, state)


def read_storage(data: Any, budget: Budget) -> np.ndarray:
    """Read the elements of a torch storage, `[count]`, from the bytes that torch writes for it.

    They are four pickles (a magic number, a version, the machine's properties, a persistent id that names type and
    length), one more with the list of storages, a count and the elements. The only globals are the types.
    """
    if type(data) is not memoryview:
        raise TypeError("a storage that is not bytes")
    position, parts = 0, []
    for _ in range(5):
        part, position = read_pickle(
            data, _STORAGE_BUILDERS, "inside a tensor", budget=budget, start=position, persistent_ids=True
        )
        parts.append(part)
        if parts[0] != STORAGE_MAGIC:
            raise ValueError("a tensor's bytes in an unknown layout")
    _, version, machine, reference, keys = parts
    if version != STORAGE_PROTOCOL or type(machine) is not dict or machine.get("little_endian") is not True:
        raise ValueError("a tensor's bytes in an unknown layout")
    if type(reference) is not tuple or len(reference) != 6 or reference[0] != "storage" or reference[5] is not None:
        raise ValueError("a tensor's bytes hold something other than a storage")
    _, kind, key, _, count, _ = reference
    if type(kind) is not Global or type(key) is not str or type(count) is not int:
        raise ValueError("a tensor's bytes hold something other than a storage")
    dtype = STORAGE_TYPES[kind.name]
    if type(keys) is not list or len(keys) != 1 or keys[0] != key:
        raise ValueError("a tensor's bytes hold other than one storage")
    if int.from_bytes(data[position : position + 8], "little") != count:
        raise ValueError("a storage of another length than announced")
    elements = data[position + 8 :]
    if len(elements) != count * dtype.itemsize:
        raise ValueError("a storage of another length than announced")
    return np.frombuffer(elements, dtype)


def _no_call(*_: Any) -> None:
    raise TypeError("a type is not called")


_STORAGE_BUILDERS: dict[str, Callable[..., Any]] = dict.fromkeys(STORAGE_TYPES, _no_call)
_ARRAYS: dict[str, Callable[..., Any]] = {
    # The arguments are placeholders in every file; BUILD brings the real ones.
    "multiarray._reconstruct": lambda kind, shape, code: UnfinishedArray(),
    "multiarray.scalar": lambda dtype, data: array(data, dtype, ()).item(),
    "numeric._frombuffer": array,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    # before and since numpy 2
    **{f"{package}.{name}": call for package in ("numpy.core", "numpy._core") for name, call in _ARRAYS.items()},
    "numpy.dtype": Dtype,
    "numpy.ndarray": _no_call,
    "builtins.set": as_set,
    "__builtin__.set": as_set,
    "collections.OrderedDict": lambda: {},  # the file fills it
    "dnnlib.util.EasyDict": lambda: {},
    "dnnlib.EasyDict": lambda: {},
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "dnnlib.tflib.network.Network": TensorflowNetwork,
}


def read_records(path: str | Path) -> Any:
    """Read a network pickle into arrays, plain containers and records; nothing of it is run.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is damaged, or it holds something that no network file needs.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such weights file")
    data = read_bytes(path, MAX_FILE_BYTES)
    if not data.startswith(b"\x80"):
        raise FacegenError(f"{path}: not a pickle of protocol 2 or newer (a web page, or another format?)")
    budget = Budget(len(data))
    builders: dict[str, Callable[..., Any]] = {
        **BUILDERS,
        "torch.storage._load_from_bytes": partial(read_storage, budget=budget),
    }
    return read_pickle(data, builders, str(path), budget=budget)[0]
