"""Builds a network from constructor arguments and tensors that somebody else's file gave.

Nothing is believed: arguments are checked one by one, and building stops as soon as the network would be larger than
the file's own tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from facegen.errors import FacegenError
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.text import shown
from facegen.weights.read import check_finite

# Arguments that choose a memory layout on a GPU; the numbers are the same without them.
WITHOUT_EFFECT = {"fp16_channels_last", "channels_last"}
MAX_LISTED = 3  # names in a message
SPARE_ELEMENTS = 2**20  # so that a file in which a tensor is missing hears its name, not that all together are too few


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2**20


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 100


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9  # neither infinite nor NaN


def _is_word(value: Any) -> bool:
    return type(value) is str and len(value) <= 40


def _is_numbers(value: Any) -> bool:
    return type(value) in (list, tuple) and 0 < len(value) <= 64 and all(_is_number(item) for item in value)


_MAPPING: dict[str, Any] = {
    **dict.fromkeys(("embed_features", "layer_features"), _is_size),
    "num_layers": _is_count,
    "activation": _is_word,
    **dict.fromkeys(("lr_multiplier", "w_avg_beta"), _is_number),
}
_CHANNELS: dict[str, Any] = {
    **dict.fromkeys(("channel_base", "channel_max"), _is_size),
    "num_fp16_res": _is_count,
    "conv_clamp": _is_number,
    "architecture": _is_word,
}
_IMAGE: dict[str, Any] = dict.fromkeys(("c_dim", "img_resolution", "img_channels"), _is_size)
_LAYERS: dict[str, Any] = {"activation": _is_word, "resample_filter": _is_numbers}
# What each constructor takes; a dictionary stands for nested keyword arguments.
ARGUMENTS: dict[type[nn.Module], dict[str, Any]] = {
    Generator: {
        **_IMAGE,
        **dict.fromkeys(("z_dim", "w_dim"), _is_size),
        "mapping_kwargs": _MAPPING,
        "synthesis_kwargs": {**_CHANNELS, **_LAYERS, "use_noise": _is_flag},
    },
    Discriminator: {
        **_IMAGE,
        **_CHANNELS,
        "cmap_dim": _is_size,
        "block_kwargs": {**_LAYERS, "freeze_layers": _is_count},
        "mapping_kwargs": _MAPPING,
        "epilogue_kwargs": {
            "mbstd_group_size": _is_size,
            "mbstd_num_channels": _is_size,
            "activation": _is_word,
        },
    },
}


class _Ration(TorchFunctionMode):
    """Inside, new parameters are not initialized, and all together have no more elements than allowed."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.elements = elements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.randn, torch.zeros, torch.ones, torch.full):
            self.elements -= math.prod(args[0])
            if self.elements < 0:
                raise ValueError("they need larger tensors than the file has")
            if func is torch.randn:
                func = torch.empty
        return func(*args, **(kwargs or {}))


def _checked(known: Mapping[str, Any], arguments: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """A file's constructor arguments as plain values of the right type, without those that have no effect."""
    kept: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in WITHOUT_EFFECT or (name == "kernel_size" and type(value) is int and value == 3):
            continue
        if name not in known:
            raise FacegenError(
                f"{where} was built with the argument {shown(name)!r}, which StyleGAN2-ADA's {where.split()[-1]} does "
                "not take: it is of another code base, not supported"
            )
        check = known[name]
        if value is None:
            kept[name] = None
        elif isinstance(check, dict):
            if not isinstance(value, dict):
                raise FacegenError(f"{where}: the argument {name} is not a dictionary: a damaged file")
            kept[name] = _checked(check, value, where)
        elif check(value):
            kept[name] = list(value) if isinstance(value, tuple) else value
        else:
            raise FacegenError(f"{where}: the argument {name} cannot be {_shown_value(value)}: a damaged file")
    return kept


def _shown_value(value: Any) -> str:
    simple = isinstance(value, (str, bool, float)) or (isinstance(value, int) and abs(value) < 2**64)
    return shown(repr(value), 40) if simple else f"this {type(value).__name__}"


class Part(NamedTuple):
    """A network of a file, before it is built.

    Attributes:
        kind: `Generator` or `Discriminator`
        arguments: for its constructor, not yet checked
        tensors: by our names; exactly those that the network has, but resampling filters, which follow from the
            arguments, may be left out
    """

    kind: type[nn.Module]
    arguments: Mapping[Any, Any]
    tensors: Mapping[str, np.ndarray | torch.Tensor]


def assemble(
    path: Path, parts: Iterable[tuple[str, Part]], first_of: Sequence[str] | None = None
) -> tuple[dict[str, nn.Module], dict[str, dict[str, Any]]]:
    """Build networks and fill them with copies of a file's tensors.

    Args:
        path: the file, for messages
        parts: its networks by name
        first_of: build only the first of these that is there; None builds all

    Returns:
        The networks by name (float32, on the CPU, in evaluation mode, without gradients), and for each one of the file
        what a header says of it: its `kind` and its checked `kwargs`.

    Raises:
        FacegenError: the arguments are invalid, or the tensors do not fit them.
    """
    room = path.stat().st_size  # elements: a file can name one tensor again and again, and float16 becomes float32
    checked: dict[str, Part] = {}
    for name, part in parts:
        room -= sum(math.prod(tensor.shape) for tensor in part.tensors.values())
        if room < 0:
            raise FacegenError(f"{path}: {name}: its tensors claim more than the file holds: refused")
        arguments = _checked(ARGUMENTS[part.kind], part.arguments, f"{path}: {name}")
        checked[name] = part._replace(arguments=arguments)
    wanted = list(checked) if first_of is None else [name for name in first_of if name in checked][:1]
    networks = {name: _build(checked[name], f"{path}: {name}") for name in wanted}
    described = {
        name: {"kind": part.kind.__name__.lower(), "kwargs": dict(part.arguments)} for name, part in checked.items()
    }
    return networks, described


def _build(part: Part, where: str) -> nn.Module:
    tensors = part.tensors
    try:
        with _Ration(sum(math.prod(tensor.shape) for tensor in tensors.values()) + SPARE_ELEMENTS):
            network = part.kind(**part.arguments)
    except ZeroDivisionError as error:
        raise FacegenError(f"{where} cannot be built from its arguments: a layer would have no inputs") from error
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        raise FacegenError(f"{where} cannot be built from its arguments: {shown(error, 200)}") from error
    built = network.state_dict()
    needed = [name for name in built if name in tensors or not name.endswith("resample_filter")]
    expected = {name: tuple(built[name].shape) for name in needed}
    check_shapes(expected, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, where)
    copies = {name: float_copy(tensors[name]) for name in needed}
    check_finite(copies, where)
    network.load_state_dict({**built, **copies}, assign=True)
    return network.eval().requires_grad_(False)


def check_shapes(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise FacegenError, naming the first few, unless a file has exactly the tensors that a network needs."""
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    other = [
        f"{name} is {list(found[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems = [
        f"{words}: {_listed(names)}"
        for words, names in (("missing", missing), ("not known", unknown), ("of another shape", other))
        if names
    ]
    if problems:
        raise FacegenError(f"{where}: its tensors do not fit its arguments; {'; '.join(problems)}")


def float_copy(tensor: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return a float32 copy in memory of its own."""
    if isinstance(tensor, torch.Tensor):
        return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
    return torch.from_numpy(np.array(tensor, dtype=np.float32, order="C"))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(shown(name) for name in names[:MAX_LISTED]) + more
