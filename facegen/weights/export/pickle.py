"""Write network pickles that the tools of the StyleGAN2 family load and run.

Such a pickle carries the source code of its networks: here the text of `embedded_networks.py`, which needs nothing of
facegen. The stream names `torch_utils.persistence._reconstruct_persistent_obj` and torch's own functions only.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.weights.export import embedded_networks
from facegen.weights.export.embed import embedded
from facegen.weights.family.pickle_note import NOTE_KEY, write_note

PERSISTENCE_VERSION = 6
PROTOCOL = 4  # the newest that Python 3.7 reads, which the family's tools were made for

# torch's own layout of a storage in bytes, as `torch.storage._load_from_bytes` reads it.
_STORAGE_MAGIC, _STORAGE_PROTOCOL, _STORAGE_KEY = 0x1950A86A20F9469CFC6C, 1001, "0"
_MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def write_pickle(
    path: str | os.PathLike[str],
    networks: Mapping[str, nn.Module],
    training_set_kwargs: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write networks to a pickle in the layout of stylegan2-ada-pytorch, atomically.

    Every file of that layout has `G`, `D` and `G_ema`. Without `G` or `G_ema` one stands for both, without `D` a
    module without weights, which says so when it is called. The same networks give the same bytes.

    Args:
        path: The file, by custom `*.pkl`.
        networks: `G`, `D`, `G_ema` by name, at least one of the generators.
        training_set_kwargs: Options of the data set, which some of the family's tools start from; plain values.
        metadata: What JSON can hold, for facegen alone: age groups, alignment template, licence, ...

    Raises:
        FacegenError: no generator, or a network that this layout has no place for.
    """
    kinds = {"G": Generator, "D": Discriminator, "G_ema": Generator}
    for name, network in networks.items():
        if type(network) is not kinds.get(name):
            raise FacegenError(f"{name}: a network pickle holds G, D and G_ema, no {type(network).__name__}")
    records = {name: _Record(embedded(network), network.init_kwargs) for name, network in networks.items()}
    generator = records.get("G_ema", records.get("G"))
    if generator is None:
        raise FacegenError("a network pickle needs a generator: there is none here")
    content = {
        "training_set_kwargs": None if training_set_kwargs is None else dict(training_set_kwargs),
        "G": records.get("G", generator),
        "D": records.get("D") or _Record(embedded_networks.NoDiscriminator(), {}),
        "G_ema": generator,
        "augment_pipe": None,
        NOTE_KEY: write_note(networks, metadata or {}),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        _Pickler(file, PROTOCOL).dump(content)


class _Record:
    """A module of `embedded_networks` on its way into the file: class, state and constructor arguments."""

    def __init__(self, module: nn.Module, kwargs: Mapping[str, Any]) -> None:
        parts = {name: None if part is None else _Record(part, {}) for name, part in module._modules.items()}
        state = {**vars(module), "_modules": parts, "_init_args": (), "_init_kwargs": dict(kwargs)}
        self.class_name, self.state = type(module).__name__, state


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    raise NotImplementedError("only its name is written: the function is the reader's")


class _Pickler(pickle._Pickler):
    """Python's own pickler, which can be told how a function is named in the file."""

    _SOURCE = Path(embedded_networks.__file__).read_text(encoding="utf-8")  # one object: it is stored once

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _Record):
            meta = {
                "type": "class",
                "version": PERSISTENCE_VERSION,
                "module_src": self._SOURCE,
                "class_name": obj.class_name,
                "state": obj.state,
            }
            return _reconstruct_persistent_obj, (meta,)
        if isinstance(obj, nn.Parameter):
            return torch._utils._rebuild_parameter, (obj.data, obj.requires_grad, OrderedDict())
        if isinstance(obj, torch.Tensor):
            tensor = obj.detach().to("cpu", torch.float32).contiguous()
            storage = _Storage(tensor)
            return torch._utils._rebuild_tensor_v2, (
                storage,
                0,
                tuple(tensor.shape),
                tensor.stride(),
                False,
                OrderedDict(),
            )
        if isinstance(obj, _Storage):
            return torch.storage._load_from_bytes, (obj.to_bytes(),)
        if obj is _reconstruct_persistent_obj:
            return obj.__name__  # a global, so `save_global` is asked
        return NotImplemented

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is not _reconstruct_persistent_obj:
            return super().save_global(obj, name)
        self.save("torch_utils.persistence")
        self.save("_reconstruct_persistent_obj")
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)


class _Storage:
    """The elements of a float32 tensor, as torch writes them into a stream."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def to_bytes(self) -> bytes:
        """Return the layout of `torch.save` before zip files, with a key that is the same every time."""
        file = io.BytesIO()
        for part in (_STORAGE_MAGIC, _STORAGE_PROTOCOL, _MACHINE):
            pickle.dump(part, file, protocol=2)
        pickler = pickle.Pickler(file, protocol=2)
        pickler.persistent_id = self._persistent_id
        pickler.dump(self)
        pickle.dump([_STORAGE_KEY], file, protocol=2)
        elements = self.tensor.flatten().numpy().astype("<f4")
        file.write(struct.pack("<q", len(elements)) + elements.tobytes())
        return file.getvalue()

    def _persistent_id(self, obj: Any) -> Any:
        if obj is not self:
            return None
        return "storage", torch.FloatStorage, _STORAGE_KEY, "cpu", self.tensor.numel(), None
