"""Network pickles of the StyleGAN2 family, read without running a line of them.

`stylegan2-ada-pytorch` (and its forks) writes a dictionary of modules `G`, `D` and `G_ema`, each with its source code;
of other entries only the strength of `augment_pipe` is of use. `stylegan2-ada` for TensorFlow writes a tuple
(G, D, Gs). Both become our own networks.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from facegen.errors import FacegenError
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.text import shown
from facegen.weights.family.assemble import Part, assemble
from facegen.weights.family.pickle_note import NAMES, read_note
from facegen.weights.family.records import Persistent, TensorflowNetwork, read_records
from facegen.weights.family.tensorflow import convert_networks
from facegen.weights.header import Header
from facegen.weights.locate import kimg_of_name

CLASSES = {"Generator": Generator, "Discriminator": Discriminator}
PLACEHOLDER = "NoDiscriminator"  # is D in facegen's pickles of a generator alone: the family's tools want a D
MAX_DEPTH = 8  # modules within modules; the family's networks have 4
MAX_PARTS = 20_000  # modules and tensors of one network; the largest of the family has about 600


def read_networks(
    path: str | os.PathLike[str], first_of: Sequence[str] | None = None
) -> tuple[dict[str, nn.Module], Header]:
    """Read the networks of a pickle of the StyleGAN2 family.

    Args:
        path: a file of stylegan2-ada-pytorch or a fork of it, or of stylegan2-ada for TensorFlow
        first_of: build only the first of these that is there; None builds all

    Returns:
        The networks by name, `G`, `D` and `G_ema` as far as the file has them (float32, on the CPU, in evaluation
        mode, without gradients), and what else it tells: `networks` with each one's `kind` and constructor `kwargs`,
        `augment_p`, the strength of the augmentation, `kimg`, which a snapshot's name tells, and `origin` with the
        `format`, the embedded source's `sources` (lines and SHA-256 by network) and `training_set_kwargs`.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: damaged; holds what no network file needs; or networks of another kind, such as StyleGAN3's.
    """
    path = Path(path)
    content = read_records(path)
    if _is_tensorflow(content):
        return convert_networks(content, path, first_of)
    if isinstance(content, Persistent):
        content = {"D" if content.class_name == "Discriminator" else "G_ema": content}
    if not isinstance(content, dict):
        raise FacegenError(f"{path}: a pickle, but not of networks")
    note = read_note(content)
    names = NAMES if note is None else [name for name in NAMES if name in note[0]]
    found = {name: content.get(name) for name in names}
    records = {name: x for name, x in found.items() if x is not None and getattr(x, "class_name", "") != PLACEHOLDER}
    if not records:
        raise FacegenError(f"{path}: a pickle that has no network named {', '.join(NAMES)}")
    parts = ((name, _part(record, f"{path}: {name}")) for name, record in records.items())
    networks, described = assemble(path, parts, first_of)
    if note is not None:  # a file of our own comes back as it was
        return networks, Header({**note[1], "networks": described})
    origin = {
        "format": "stylegan2-ada-pytorch",
        "sources": {name: _about_source(record.module_src) for name, record in records.items()},
        "training_set_kwargs": _plain(content.get("training_set_kwargs")),
    }
    told = {"kimg": kimg_of_name(path.name), "augment_p": _strength(content.get("augment_pipe"))}
    known = {name: number for name, number in told.items() if number is not None}
    return networks, Header({"networks": described, "origin": origin, **known})


def _part(record: Any, where: str) -> Part:
    """Our class, the arguments and the tensors of a pickled module; FacegenError, saying what it is, for another."""
    if not isinstance(record, Persistent):
        raise FacegenError(f"{where} is not a pickled network: not supported")
    if record.class_name not in CLASSES:
        raise FacegenError(
            f"{where} is of the class {shown(record.class_name)}: not supported, facegen reads the "
            f"{' and '.join(CLASSES)} of StyleGAN2-ADA"
        )
    tensors: dict[str, np.ndarray] = {}
    for name, member in _walk(record, where):
        if isinstance(member, np.ndarray):
            tensors[name] = member
        elif member.class_name == "SynthesisInput":
            raise FacegenError(f"{where} is a generator of StyleGAN3: not supported, facegen reads StyleGAN2-ADA")
    kind = CLASSES[record.class_name]
    return Part(kind, _arguments(record, kind, where), tensors)


def _strength(record: Any) -> float | None:
    """The `p` of a pickled augmentation, if there is one and it is a number that can be a strength."""
    buffers = record.state.get("_buffers") if isinstance(record, Persistent) else None
    p = buffers.get("p") if isinstance(buffers, Mapping) else None
    if not isinstance(p, np.ndarray) or p.size != 1:
        return None
    return value if 0 <= (value := float(p.item())) < math.inf else None


def _about_source(source: str) -> dict[str, Any]:
    encoded = source.encode("utf-8", "replace")
    return {"lines": encoded.count(b"\n") + 1, "sha256": hashlib.sha256(encoded).hexdigest()}


def _is_tensorflow(content: Any) -> bool:
    """Whether it is one of TensorFlow's networks, or a tuple of some."""
    parts = content if type(content) in (tuple, list) else [content]
    return len(parts) > 0 and all(isinstance(part, TensorflowNetwork) for part in parts)


def _arguments(record: Persistent, kind: type[nn.Module], where: str) -> dict[Any, Any]:
    """The constructor arguments that the pickled module keeps, by name."""
    positional, named = record.state.get("_init_args"), record.state.get("_init_kwargs")
    names = list(inspect.signature(kind).parameters)
    if type(positional) is not tuple or type(named) is not dict or len(positional) > len(names):
        raise FacegenError(f"{where}: has no constructor arguments: damaged, or from another program")
    return {**dict(zip(names, positional, strict=False)), **named}


def _walk(record: Persistent, where: str) -> Iterator[tuple[str, Persistent | np.ndarray]]:
    """Go through a module, its tensors and its modules, with dotted names; bounded, whatever refers to what."""
    waiting: list[tuple[str, Any, int]] = [("", record, 0)]
    parts = 1
    while waiting:
        name, part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise FacegenError(f"{where}: nested deeper than any network: refused")
        yield name, part
        if not isinstance(part, Persistent):
            continue
        for group, kind in (("_modules", Persistent), ("_parameters", np.ndarray), ("_buffers", np.ndarray)):
            members = part.state.get(group)
            if not isinstance(members, Mapping):
                raise FacegenError(f"{where}: a module without {group}, a damaged file")
            parts += len(members)  # before going through them: the file can name one large dictionary often
            if parts > MAX_PARTS:
                raise FacegenError(f"{where}: nested deeper than any network: refused")
            for key, member in members.items():
                if member is None:
                    continue
                if not isinstance(key, str) or not isinstance(member, kind):
                    raise FacegenError(f"{where}: something other than a tensor or module in {group}: a damaged file")
                waiting.append((f"{name}.{key}" if name else key, member, depth + 1))


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON can hold of a file's options; None for the rest."""
    if isinstance(value, str):
        return value[:1000]
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if depth < 2 and isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in list(value.items())[:100]}
    if depth < 2 and isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value[:100]]
    return None
