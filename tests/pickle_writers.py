"""Writes pickles for the tests: of networks in the layouts of other code bases, and by single instructions.

The classes of those code bases are stand-ins of the right names, put into `sys.modules` only while a pickle is written.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

SOURCE = "raise RuntimeError('embedded source must never be executed')\n"


@contextmanager
def stand_ins(**objects: Any) -> Iterator[None]:
    """Let `pickle` find objects under the module and name that they claim to have."""
    before = {obj.__module__: sys.modules.get(obj.__module__) for obj in objects.values()}
    for obj in objects.values():
        module = sys.modules[obj.__module__] = ModuleType(obj.__module__)
        setattr(module, obj.__name__, obj)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError("writing only")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    """Pickles as a module of stylegan2-ada-pytorch does."""

    def __init__(self, class_name: str, state: dict[str, Any], **meta: Any) -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": class_name,
            "state": state,
            **meta,
        }

    def __reduce__(self) -> Any:
        return _reconstruct_persistent_obj, (self.meta,)


def persistent(module: nn.Module, kwargs: Mapping[str, Any] | None = None, class_name: str | None = None) -> Persistent:
    """Return what stands for one of our networks, built from `kwargs`, in a pickle of the PyTorch family."""
    state = {
        "training": False,
        "_parameters": dict(module._parameters),
        "_buffers": dict(module._buffers),
        "_non_persistent_buffers_set": set(),
        "_modules": {name: None if m is None else persistent(m) for name, m in module._modules.items()},
        "_init_args": (),
        "_init_kwargs": dict(kwargs or {}),
    }
    return Persistent(class_name or type(module).__name__, state)


def write_pickle(content: Any, protocol: int = 4) -> bytes:
    """Return the bytes of a pickle in the PyTorch family's layout."""
    buffer = io.BytesIO()
    with stand_ins(persistence=_reconstruct_persistent_obj):
        pickle.Pickler(buffer, protocol).dump(content)
    return buffer.getvalue()


class Network:
    """Pickles as a network of stylegan2-ada for TensorFlow does."""

    def __init__(
        self,
        name: str,
        function: str,
        variables: Mapping[str, Any],
        components: Mapping[str, Network] | None = None,
        **static_kwargs: Any,
    ) -> None:
        self.content = {
            "version": 5,
            "name": name,
            "static_kwargs": static_kwargs,
            "components": dict(components or {}),
            "build_module_src": SOURCE,
            "build_func_name": function,
            "variables": list(variables.items()),
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.content


Network.__module__ = "dnnlib.tflib.network"
Network.__qualname__ = "Network"


def write_tensorflow_pickle(content: Any, protocol: int = 4) -> bytes:
    """Return the bytes of a pickle in the TensorFlow code's layout."""
    buffer = io.BytesIO()
    with stand_ins(network=Network):
        pickle.Pickler(buffer, protocol).dump(content)
    return buffer.getvalue()


# Single instructions


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def raw(value: bytes) -> bytes:
    """BINBYTES."""
    return b"B" + struct.pack("<I", len(value)) + value


def name(module: str, attribute: str) -> bytes:
    """GLOBAL."""
    return f"c{module}\n{attribute}\n".encode()


def stack_name(module: str, attribute: str) -> bytes:
    """STACK_GLOBAL."""
    return text(module) + text(attribute) + b"\x93"


def call(function: bytes, *arguments: bytes) -> bytes:
    """REDUCE of a function with arguments, all given as instructions."""
    return function + b"(" + b"".join(arguments) + b"tR"


def pickled(*instructions: bytes, protocol: int = 4) -> bytes:
    """A whole pickle."""
    return b"\x80" + bytes([protocol]) + b"".join(instructions) + b"."


def storage(
    values: Any = (1.0, 2.0, 3.0, 4.0), *, kind: bytes | None = None, count: int | None = None, shown: int | None = None
) -> bytes:
    """The bytes that torch writes for a storage, with lies on request: another type, element count or stated count."""
    elements = torch.as_tensor(values, dtype=torch.float32).numpy().tobytes()
    number = struct.pack("<i", len(elements) // 4 if count is None else count)
    reference = text("storage") + (kind or name("torch", "FloatStorage")) + text("0") + text("cpu") + b"J" + number
    return b"".join(
        (
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
            b"\x80\x02M\xe9\x03.",
            b"\x80\x02}(" + text("protocol_version") + b"M\xe9\x03" + text("little_endian") + b"\x88u.",
            b"\x80\x02(" + reference + b"NtQ.",
            b"\x80\x02]" + text("0") + b"a.",
            struct.pack("<q", len(elements) // 4 if shown is None else shown),
            elements,
        )
    )


def tensor(
    stored: bytes, offset: bytes = b"K\x00", size: bytes = b"K\x02K\x02", stride: bytes = b"K\x02K\x01"
) -> bytes:
    """The instructions of a tensor over the bytes of a storage."""
    loaded = call(name("torch.storage", "_load_from_bytes"), raw(stored))
    return call(
        name("torch._utils", "_rebuild_tensor_v2"),
        loaded,
        offset,
        b"(" + size + b"t",
        b"(" + stride + b"t",
        b"\x89",
        call(name("collections", "OrderedDict")),
    )
