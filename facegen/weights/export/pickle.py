"""Write network pickles that the tools of the StyleGAN2 family load and run.

Such a pickle carries a source text (`SOURCE`) that those tools run. Here it is short: it takes the family's own
`training.networks`, builds a network from its constructor arguments and loads the tensors. The stream names
`torch_utils.persistence._reconstruct_persistent_obj` and torch's own functions only.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.weights.family.pickle_note import NOTE_KEY, write_note
from facegen.weights.family.records import PERSISTENCE_VERSION, STORAGE_MAGIC, STORAGE_PROTOCOL

PROTOCOL = 4  # the newest that Python 3.7 reads, which the family's tools were made for

# What the loading tool runs, as text, because facegen has no package `training`. For Python 3.7.
SOURCE = '''\
"""Networks of StyleGAN2-ADA, written by facegen. Their code is that of the program which loads them."""

import torch

try:
    from training import networks_stylegan2 as networks  # of stylegan3

    FLAT = True  # its generator takes what StyleGAN2-ADA's has in `synthesis_kwargs` one by one
except ImportError:
    FLAT = False
    try:
        from training import networks  # of stylegan2-ada-pytorch
    except ImportError as error:
        raise ImportError(
            "these networks need `training.networks` of stylegan2-ada-pytorch or `training.networks_stylegan2` of "
            "stylegan3: run Python in the folder of one of them"
        ) from error


class Stored(torch.nn.Module):
    """A network that the file holds as constructor arguments and tensors by name."""

    def __setstate__(self, state):
        if state["_modules"]:  # a copy, or pickled again: a module like any other
            super().__setstate__(state)
            return
        with torch.random.fork_rng(devices=[]):  # for weights that are replaced at once
            self.__init__(*state["_init_args"], **arguments(type(self).__name__, state["_init_kwargs"]))
        tensors = self.state_dict()  # resampling filters follow from the arguments
        tensors.update({k: x for k, x in state["_parameters"].items() if not k.endswith("resample_filter")})
        self.load_state_dict(tensors)
        self.eval().requires_grad_(False)


def arguments(kind, kwargs):
    """The constructor arguments as this code takes them; its defaults may differ from StyleGAN2-ADA's."""
    kwargs = dict(kwargs)
    defaults = {"num_fp16_res": 0, "conv_clamp": None}
    if kind == "Discriminator":
        return dict(defaults, **kwargs)
    if kind != "Generator":
        return kwargs
    synthesis = dict(defaults, **kwargs.pop("synthesis_kwargs", {}))
    kwargs["mapping_kwargs"] = dict({"w_avg_beta": 0.995}, **kwargs.get("mapping_kwargs", {}))
    return dict(kwargs, **(synthesis if FLAT else {"synthesis_kwargs": synthesis}))


class Generator(Stored, networks.Generator):
    pass


class Discriminator(Stored, networks.Discriminator):
    pass


class NoDiscriminator(Stored):
    """Stands for D in a file of a generator alone."""

    def forward(self, *args, **kwargs):
        raise RuntimeError("this file was made of a generator alone: it has no discriminator")
'''

# torch's own layout of a storage in bytes, as `torch.storage._load_from_bytes` reads it.
_STORAGE_KEY = "0"
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
        path: the file, by custom `*.pkl`
        networks: `G`, `D`, `G_ema` by name, at least one of the generators
        training_set_kwargs: options of the data set, which some of the family's tools start from; plain values
        metadata: what JSON can hold, for facegen alone: age groups, alignment template, license, ...

    Raises:
        FacegenError: no generator, or a network that this layout has no place for.
    """
    kinds: dict[str, type[Generator | Discriminator]] = {"G": Generator, "D": Discriminator, "G_ema": Generator}
    records = {}
    for name, network in networks.items():
        if name not in kinds or not isinstance(network, kinds[name]):
            raise FacegenError(f"{name}: a network pickle holds G, D and G_ema, no {type(network).__name__}")
        records[name] = _Record(kinds[name].__name__, network.init_kwargs, network.state_dict())
    generator = records.get("G_ema", records.get("G"))
    if generator is None:
        raise FacegenError("a network pickle needs a generator, and there is none")
    content = {
        "training_set_kwargs": None if training_set_kwargs is None else dict(training_set_kwargs),
        "G": records.get("G", generator),
        "D": records.get("D") or _Record("NoDiscriminator", {}, {}),
        "G_ema": generator,
        "augment_pipe": None,
        NOTE_KEY: write_note(networks, metadata or {}),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        _Pickler(file, PROTOCOL).dump(content)


class _Record:
    """A class of `SOURCE` on its way into the file: constructor arguments, and tensors by dotted name."""

    def __init__(self, class_name: str, kwargs: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        self.meta = {
            "type": "class",
            "version": PERSISTENCE_VERSION,
            "module_src": SOURCE,
            "class_name": class_name,
            "state": {
                "_init_args": (),
                "_init_kwargs": dict(kwargs),
                "_parameters": dict(tensors),
                "_buffers": {},
                "_modules": {},
            },
        }


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    raise NotImplementedError("only its name is written: the function is the reader's")


_PythonPickler: Any = pickle._Pickler  # typed as the C one, which has no `save`


class _Pickler(_PythonPickler):
    """Python's own pickler, which can be told how a function is named in the file."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _Record):
            return _reconstruct_persistent_obj, (obj.meta,)
        if isinstance(obj, torch.Tensor):
            tensor = obj.detach().to("cpu", torch.float32).contiguous()
            shape, strides = tuple(tensor.shape), tensor.stride()
            return torch._utils._rebuild_tensor_v2, (_Storage(tensor), 0, shape, strides, False, OrderedDict())
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
        for part in (STORAGE_MAGIC, STORAGE_PROTOCOL, _MACHINE):
            pickle.dump(part, file, protocol=2)
        _StoragePickler(file, protocol=2).dump(self)
        pickle.dump([_STORAGE_KEY], file, protocol=2)
        elements = self.tensor.flatten().numpy().astype("<f4")
        file.write(struct.pack("<q", len(elements)) + elements.tobytes())
        return file.getvalue()


class _StoragePickler(pickle.Pickler):
    """Writes a storage as a reference to the elements that follow."""

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        return "storage", torch.FloatStorage, _STORAGE_KEY, "cpu", obj.tensor.numel(), None
