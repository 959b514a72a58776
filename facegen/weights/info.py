"""What a weight file is, without running anything of it: for `facegen info`."""

from __future__ import annotations

import io
import math
import os
import pickletools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facegen import beside
from facegen.errors import FacegenError
from facegen.latents.files import SUFFIXES, read_array
from facegen.reading import open_plain, read_bytes
from facegen.text import shown, visible
from facegen.weights import native
from facegen.weights.cache import removed_if_damaged
from facegen.weights.family.safe_pickle import MAX_NAME
from facegen.weights.family.state_dict import networks_of
from facegen.weights.header import HEADER_KEY, Header
from facegen.weights.load import kind_of_file, read_networks
from facegen.weights.locate import locate
from facegen.weights.read import read_torch_file
from facegen.weights.tensors.safetensors_file import open_safetensors
from facegen.weights.tensors.torch_zip import TorchZip, is_zip

MAX_INSTRUCTIONS = 200_000  # at most this many instructions of a refused pickle are read
FOUND_OUT = {"file", "bytes", "sha256", "format", "format_version", "refused", "networks", "globals", "layers"}
MAX_NESTING = 4  # pickles in pickles, dictionaries in dictionaries

Tensors = Mapping[str, Mapping[str, torch.Tensor]]


def info(reference: str | os.PathLike[str], *, layers: bool = False) -> dict[str, Any]:
    """Say what a weight file is.

    Args:
        reference: What `locate` takes: a file, a run folder (its newest snapshot), a published network, an address.
        layers: Also list all tensors with their statistics.

    Returns:
        Plain values: `file`, `bytes`, `sha256`, `format`; `refused`, the reason why facegen does not take the file,
        or None; `networks` by name with `class`, `kwargs`, `parameters` (trainable numbers), `tensors`, `dtype` and, in
        checked files, `sha256`; what the file tells of itself (`groups`, `class_names`, `template`, `kimg`, `metrics`,
        `license`, `training_options`, `origin`, ...); of a file of latents, `latents` with `shape` and `dtype`; for a
        refused pickle the `globals` that it names; and `layers`, a list of `network`, `name`, `shape`, `dtype`,
        `parameters`, `mean`, `std`.

    Raises:
        FileNotFoundError, FacegenError: no such file, or it is damaged or no weight file at all.
    """
    path = locate(reference)
    if path.suffix.lower() in SUFFIXES:
        return {**_file(path), **_latents(path)}
    kind = kind_of_file(path)
    if kind == "unknown":
        read_networks(path)  # says what is wrong
    facts = _file(path)
    with removed_if_damaged(path):
        found, tensors = _safetensors(path) if kind == "safetensors" else _pickle(path)
    facts |= found
    if layers:
        facts["layers"] = list(_layers(tensors))
    return facts


def _file(path: Path) -> dict[str, Any]:
    return {"file": str(path), "bytes": path.stat().st_size, "sha256": beside.download.sha256_of(path)}


def _latents(path: Path) -> dict[str, Any]:
    """A file of latents w."""
    array = read_array(path)
    about = {"shape": list(array.shape), "dtype": str(array.dtype)}
    return {"format": "NumPy, latents", "refused": None, "networks": {}, "latents": about}


def named_globals(data: bytes) -> list[str]:
    """Return the names (`module.name`) that a pickle would import, and those of pickles inside its byte strings.

    The instructions are only listed, as `pickletools` does, so names that a pickle puts together in an unusual way may
    be missing. Looks at a limited number of instructions, and stops where the bytes are damaged.
    """
    names: dict[str, None] = {}
    left = [MAX_INSTRUCTIONS]
    _find_globals(data, names, left, MAX_NESTING)
    return [shown(name) for name in names]


def _find_globals(data: bytes, names: dict[str, None], left: list[int], nesting: int) -> None:
    stream = io.BytesIO(data)
    memo: dict[int, Any] = {}
    strings: list[str] = []
    value: Any = None  # the last instruction's argument, where it is text
    argument: Any
    try:
        while stream.tell() < len(data) and data[stream.tell()] == 0x80:  # files hold several pickles in a row
            for instruction, argument, _ in pickletools.genops(stream):
                left[0] -= 1
                if left[0] < 0:
                    return
                name = instruction.name
                if name in ("GLOBAL", "INST"):
                    names[argument.replace(" ", ".")] = None
                elif name == "STACK_GLOBAL":
                    names[".".join(strings[-2:])] = None
                elif name == "MEMOIZE":
                    memo[len(memo)] = value
                elif name.endswith("PUT"):
                    memo[argument] = value
                else:
                    value = memo.get(argument) if name.endswith("GET") else argument
                    if isinstance(value, str):
                        # A file can put its long texts together in any number of ways.
                        strings = [*strings[-1:], value[: MAX_NAME + 1]]
                    elif isinstance(value, bytes) and value[:1] == b"\x80" and nesting > 0 and not name.endswith("GET"):
                        _find_globals(value, names, left, nesting - 1)
    except (ValueError, LookupError, OverflowError, MemoryError):
        return


def _known(networks: Mapping[str, nn.Module], header: Header, tensors: Tensors, format: str) -> dict[str, Any]:
    """What a file with networks tells of itself, without what is only true when found out, and what was found out."""
    told = {name: value for name, value in header.items() if name not in FOUND_OUT}
    found = {name: _network(network, header.networks[name], tensors[name]) for name, network in networks.items()}
    return {**told, "format": format, "refused": None, "networks": found}


def _safetensors(path: Path) -> tuple[dict[str, Any], Tensors]:
    with open_safetensors(path) as file:
        if HEADER_KEY not in file.metadata:
            tensors = {name: file.tensor(name) for name in file.entries}
            facts = _bare("safetensors", tensors, "not one of facegen's files: it does not say what it holds")
            told = {shown(key): shown(value) for key, value in file.metadata.items()}
            return {**facts, "metadata": told}, {"": tensors}
    networks, header = native.load_networks(path)
    stored = native.read_tensors(path, header)
    version = header["format_version"]
    checked = "checksums right" if version > 1 else "without checksums"
    return _known(networks, header, stored, f"facegen safetensors, version {version}, {checked}"), stored


def _pickle(path: Path) -> tuple[dict[str, Any], Tensors]:
    """A pickle, or a file of PyTorch with a pickle in it."""
    content: Any = None
    try:
        if kind_of_file(path) == "torch":
            content = read_torch_file(path)
            networks, header = networks_of(content, path)
        else:
            networks, header = read_networks(path)
    except FacegenError as error:
        return _refused(path, error, content)
    tensors = {name: network.state_dict() for name, network in networks.items()}
    writer = header.get("origin", {}).get("format", "written by facegen")
    return _known(networks, header, tensors, f"{_container(path)} ({writer})"), tensors


def _refused(path: Path, error: FacegenError, content: Any) -> tuple[dict[str, Any], Tensors]:
    """What can be said of a file that is no network which facegen takes; `content` is what could be read of it."""
    reason = str(error).removeprefix(visible(f"{path}: "))
    container = _container(path)
    if tensors := dict(_named_tensors(content, "", MAX_NESTING, set())):
        return _bare(container, tensors, reason), {"": tensors}
    names = named_globals(_pickle_bytes(path))
    return {"format": container, "refused": reason, "networks": {}, "globals": names}, {}


def _container(path: Path) -> str:
    return "PyTorch file" if path.suffix.lower() in (".pt", ".pth") or is_zip(path) else "pickle"


def _pickle_bytes(path: Path) -> bytes:
    """The bytes of a pickle, or of the one in a zip; FacegenError for a zip that is no file of PyTorch."""
    if not is_zip(path):
        return read_bytes(path)
    with open_plain(path) as file:
        return TorchZip(file, str(path)).read("data.pkl") or b""


def _named_tensors(value: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in dictionaries in dictionaries, each of these looked at once: it may occur any number of times."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping) and depth and id(value) not in seen:
        seen.add(id(value))
        for key, item in value.items():
            yield from _named_tensors(item, f"{name}.{shown(key)}" if name else shown(key), depth - 1, seen)


def _bare(container: str, tensors: Mapping[str, torch.Tensor], reason: str) -> dict[str, Any]:
    """Describe tensors that come without an explanation."""
    return {"format": container, "refused": reason, "networks": {"": _entry(None, {}, tensors.values(), tensors)}}


def _network(network: nn.Module, entry: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    facts = _entry(type(network).__name__, entry["kwargs"], network.parameters(), tensors)
    return facts | ({"sha256": entry["sha256"]} if "sha256" in entry else {})


def _entry(
    kind: str | None, kwargs: Mapping[str, Any], parameters: Iterable[torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    count = sum(parameter.numel() for parameter in parameters)
    floating = {_dtype(tensor) for tensor in tensors.values() if tensor.is_floating_point()}
    dtypes = ", ".join(sorted(floating or {_dtype(tensor) for tensor in tensors.values()}))
    return {"class": kind, "kwargs": kwargs, "parameters": count, "tensors": len(tensors), "dtype": dtypes}


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _layers(networks: Tensors) -> Iterator[dict[str, Any]]:
    for network, tensors in networks.items():
        for name, tensor in tensors.items():
            values = tensor.detach().abs() if tensor.is_complex() else tensor.detach()
            std, mean = torch.std_mean(values.to(torch.float64), correction=0) if values.numel() else (math.nan,) * 2
            yield {
                "network": network,
                "name": name,
                "shape": list(tensor.shape),
                "dtype": _dtype(tensor),
                "parameters": tensor.numel(),
                "mean": _finite(float(mean)),
                "std": _finite(float(std)),
            }


def _finite(value: float) -> float | None:
    """JSON knows no other numbers."""
    return value if math.isfinite(value) else None
