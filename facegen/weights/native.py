"""facegen's own weight files: one `.safetensors` with all that is needed to build the networks again.

Tensors are named `<network>.<parameter>`, for example `G_ema.synthesis.b4.const`. The header holds a JSON object under
the key `facegen`: the format's version, each network's kind and constructor arguments, and free metadata such as the
age groups, the alignment template and the number of images seen. Nothing in such a file is ever run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from facegen.errors import FacegenError
from facegen.files import atomic_path

FORMAT_VERSION = 1
HEADER_KEY = "facegen"


def network_kinds() -> dict[str, type[nn.Module]]:
    """Return the kinds of network that a file may name."""
    from facegen.networks.discriminator import Discriminator
    from facegen.networks.encoder import Encoder
    from facegen.networks.generator import Generator

    return {"generator": Generator, "discriminator": Discriminator, "encoder": Encoder}


def save_networks(
    path: str | os.PathLike[str],
    networks: Mapping[str, nn.Module],
    metadata: Mapping[str, Any],
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write networks to one file, atomically.

    Args:
        path: The file, by custom `*.safetensors`.
        networks: By name: `G`, `D`, `G_ema` or `encoder`; each has its constructor arguments in `init_kwargs`.
        metadata: What JSON can hold: `groups`, `template`, `kimg`, `license`, `training_options`, ...
        dtype: Store floating-point tensors in this type; None keeps theirs. float16 halves the file.
    """
    kinds = {cls: kind for kind, cls in network_kinds().items()}
    tensors, described = {}, {}
    for name, network in networks.items():
        described[name] = {"kind": kinds[type(network)], "kwargs": network.init_kwargs}
        for key, tensor in network.state_dict().items():
            tensor = tensor.detach().cpu().contiguous()
            if dtype is not None and tensor.is_floating_point():
                tensor = tensor.to(dtype)
            tensors[f"{name}.{key}"] = tensor
    header = {**metadata, "format_version": FORMAT_VERSION, "networks": described}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={HEADER_KEY: json.dumps(header)})
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written; is the disk full? ({error})") from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the header of a weight file without reading its tensors.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is not one of facegen's weight files, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such weight file")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "null"))
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FacegenError(f"{path}: damaged, or not a safetensors file ({error})") from error
    if not _is_header(header):
        raise FacegenError(f"{path}: a safetensors file, but not one that facegen wrote")
    if header["format_version"] > FORMAT_VERSION:
        raise FacegenError(
            f"{path}: format version {header['format_version']}, this facegen reads up to {FORMAT_VERSION}: "
            "update facegen"
        )
    return header


def load_networks(
    path: str | os.PathLike[str], names: Sequence[str] | None = None
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Build the networks of a file and load their weights.

    Args:
        path: A file of `save_networks`.
        names: Which networks; None for all.

    Returns:
        The networks by name (float32, on the CPU, in evaluation mode, without gradients) and the header.

    Raises:
        FileNotFoundError, FacegenError: as `read_metadata`, and where a named network is missing or does not fit.
    """
    header = read_metadata(path)
    described = header["networks"]
    kinds = network_kinds()
    networks = {}
    with safe_open(path, framework="pt") as file:
        for name in described if names is None else names:
            if name not in described:
                raise FacegenError(f"{path}: holds {', '.join(described)}, but no {name}")
            kind = described[name]["kind"]
            if kind not in kinds:
                raise FacegenError(f"{path}: {name} is a {kind!r}, which this facegen does not know")
            prefix = f"{name}."
            state = {
                key[len(prefix) :]: _widen(file.get_tensor(key))
                for key in file.keys()  # noqa: SIM118 (safe_open is no mapping)
                if key.startswith(prefix)
            }
            try:
                network = kinds[kind](**described[name]["kwargs"])
                network.load_state_dict(state, strict=True)
            except (RuntimeError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise FacegenError(f"{path}: the weights of {name} do not fit: {reason}") from error
            networks[name] = network.eval().requires_grad_(False)
    return networks, header


def load_generator(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Load the generator (`G_ema`) of a weight file, or of the newest snapshot of a run folder, with its header."""
    path = newest_snapshot(path)
    networks, header = load_networks(path, ["G_ema"])
    return networks["G_ema"], header


def load_encoder(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Load the encoder of a weight file, or the best one of a run folder, with its header."""
    path = Path(path)
    if path.is_dir():
        best = path / "encoder-best.safetensors"
        if not best.is_file():
            raise FileNotFoundError(f"{path}: no encoder-best.safetensors in this folder")
        path = best
    networks, header = load_networks(path, ["encoder"])
    return networks["encoder"], header


def newest_snapshot(path: str | os.PathLike[str]) -> Path:
    """Return `path` itself, or, for a run folder, its snapshot with the most images.

    Raises:
        FileNotFoundError: a folder without snapshots.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    snapshots = {
        int(found[1]): file
        for file in path.iterdir()
        if (found := re.fullmatch(r"network-snapshot-(\d+)\.safetensors", file.name))
    }
    if not snapshots:
        raise FileNotFoundError(f"{path}: no network-snapshot-*.safetensors in this folder")
    return snapshots[max(snapshots)]


def _is_header(header: Any) -> bool:
    """Whether a decoded header has the layout that `save_networks` gives it."""
    if not isinstance(header, dict) or type(header.get("format_version")) is not int:
        return False
    networks = header.get("networks")
    return isinstance(networks, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("kind"), str) and "kwargs" in entry
        for entry in networks.values()
    )


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor
