"""facegen's own weight files: one `.safetensors` with all that is needed to build the networks again.

Tensors are named `<network>.<parameter>`, for example `G_ema.synthesis.b4.const`. Its metadata
hold a JSON object (see `header`) under the key `facegen`. Nothing in such a file is ever run.

The checksum of a network goes over its tensors in the order of their names: `name dtype shape` and a line feed, then
the bytes. So a file says of itself whether it is whole, and reading one network of three costs one third.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from facegen.errors import DamagedError, FacegenError, one_line
from facegen.files import atomic_path
from facegen.weights.header import FORMAT_VERSION, HEADER_KEY, Header
from facegen.weights.read import check_finite
from facegen.weights.tensors.safetensors_file import open_safetensors

MAX_SIZE = 2**20  # no constructor argument is larger
MAX_LAYERS = 100


def network_kinds() -> dict[str, type[nn.Module]]:
    """Return the kinds of network that a file may name."""
    from facegen.networks.age_estimator import AgeEstimator
    from facegen.networks.age_shift import AgeShift
    from facegen.networks.discriminator import Discriminator
    from facegen.networks.editor import Editor
    from facegen.networks.encoder import Encoder
    from facegen.networks.generator import Generator
    from facegen.networks.lite_features import LiteFeatures
    from facegen.networks.sex_classifier import SexClassifier

    return {
        "generator": Generator,
        "discriminator": Discriminator,
        "encoder": Encoder,
        "age_shift": AgeShift,
        "age_estimator": AgeEstimator,
        "sex_classifier": SexClassifier,
        "lite_features": LiteFeatures,
        "editor": Editor,
    }


def kind_of(network: nn.Module) -> str:
    """Return the kind under which a network is written; ValueError for one that no file may name."""
    for kind, cls in network_kinds().items():
        if isinstance(network, cls):
            return kind
    raise ValueError(f"a {type(network).__name__} is not one of {', '.join(network_kinds())}")


def tensors_checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256, in hex, of a network's tensors: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        dtype, shape = str(tensor.dtype).removeprefix("torch."), ",".join(map(str, tensor.shape))
        digest.update(f"{name} {dtype} {shape}\n".encode("utf-8", "surrogatepass"))
        if tensor.numel():
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
        networks: By name: `G`, `D`, `G_ema`, `encoder`, `age_shift`, `age`, `editor`; each has its constructor
            arguments in `init_kwargs`.
        metadata: What JSON can hold: `groups`, `template`, `kimg`, `license`, `training_options`, ...
        dtype: Store floating-point tensors in this type; None keeps theirs. float16 halves the file.
    """
    tensors: dict[str, torch.Tensor] = {}
    described = {}
    memory: set[int] = set()
    for name, network in networks.items():
        state = {}
        for key, tensor in network.state_dict().items():
            tensor = tensor.detach().cpu().contiguous()
            if dtype is not None and tensor.is_floating_point():
                tensor = tensor.to(dtype)
            if tensor.data_ptr() in memory:  # one network under two names: safetensors wants two
                tensor = tensor.clone()
            memory.add(tensor.data_ptr())
            state[key] = tensor
        tensors |= {f"{name}.{key}": tensor for key, tensor in state.items()}
        described[name] = {"kind": kind_of(network), "kwargs": network.init_kwargs, "sha256": tensors_checksum(state)}
    header = Header({**metadata, "format_version": FORMAT_VERSION, "networks": described})
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={HEADER_KEY: header.to_json()})
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written; is the disk full? ({error})") from error


def load_networks(
    path: str | os.PathLike[str], names: Sequence[str] | None = None
) -> tuple[dict[str, nn.Module], Header]:
    """Build the networks of a file and load their weights.

    Args:
        path: A file of `save_networks`.
        names: Which networks; None for all. Only their tensors are read and checked.

    Returns:
        The networks by name (float32, on the CPU, in evaluation mode, without gradients) and the header.

    Raises:
        FileNotFoundError, FacegenError: as `Header.read`, and where a named network is missing, damaged or does not
            fit.
    """
    header = Header.read(path)
    described = header.networks
    for name in described if names is None else names:
        if name not in described:
            raise FacegenError(f"{path}: holds {', '.join(described)}, but no {name}")
    tensors = read_tensors(path, header, names)
    return {name: _build(path, name, described[name], state) for name, state in tensors.items()}, header


def read_tensors(
    path: str | os.PathLike[str], header: Header, names: Sequence[str] | None = None
) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors of a file's networks, by network and parameter, in the type that they are stored in.

    Args:
        path: A file of `save_networks`.
        header: as read from the file
        names: Which networks; None for all.

    Raises:
        FacegenError: damaged.
    """
    networks: dict[str, dict[str, torch.Tensor]] = {name: {} for name in (header.networks if names is None else names)}
    with open_safetensors(path) as file:
        for key in sorted(file.entries):
            # No network's name begins with another's and a dot, and there are few: see `Header.read`.
            if name := next((name for name in networks if key.startswith(f"{name}.")), None):
                networks[name][key[len(name) + 1 :]] = file.tensor(key)
    for name, state in networks.items():
        expected = header.networks[name].get("sha256")
        if (expected is not None or header["format_version"] > 1) and expected != tensors_checksum(state):
            raise DamagedError(
                f"{path}: damaged: the weights of {name} do not match their checksum; get the file again"
            )
    return networks


def _build(path: str | os.PathLike[str], name: str, entry: Mapping[str, Any], state: dict[str, Any]) -> nn.Module:
    """The network that a header's entry describes, with these tensors."""
    kinds = network_kinds()
    if entry["kind"] not in kinds:
        raise FacegenError(f"{path}: {name} is a {entry['kind']!r}, which this facegen does not know")
    check_finite(state, f"{path}: {name}")
    try:
        _check_sizes(entry["kwargs"])
        with torch.device("meta"):  # whatever the arguments say, only what the file holds takes memory
            network = kinds[entry["kind"]](**entry["kwargs"])
        for key, expected in network.state_dict().items():
            if key in state and state[key].is_floating_point() != expected.is_floating_point():
                raise ValueError(f"{key} is {state[key].dtype}")
        wide = {key: x.to(torch.float32) if x.is_floating_point() else x for key, x in state.items()}
        network.load_state_dict(wide, strict=True, assign=True)
    except (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise FacegenError(f"{path}: the weights of {name} do not fit: {one_line(error)}") from error
    return network.eval().requires_grad_(False)


def _check_sizes(kwargs: Any) -> None:
    """Refuse arguments that would take forever to build: ValueError."""
    for name, value in kwargs.items() if isinstance(kwargs, dict) else ():
        if isinstance(value, dict):
            _check_sizes(value)
        elif isinstance(value, int) and value > (MAX_LAYERS if name in ("num_layers", "num_ws") else MAX_SIZE):
            raise ValueError(f"{name} cannot be {value if value < 2**64 else 'so large'}")
        elif isinstance(value, float) and not abs(value) < MAX_SIZE * MAX_SIZE:
            raise ValueError(f"{name} cannot be {value}")
