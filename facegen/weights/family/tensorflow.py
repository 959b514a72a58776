"""Networks of stylegan2-ada for TensorFlow (and of StyleGAN2, where unconditional): their variables under our names.

Such a pickle holds (G, D, Gs), each a record of variables, keyword arguments and component networks. What differs from
PyTorch's layout: matrices are `[in, out]`, kernels `[height, width, in, out]`; a kernel that upsamples is stored
unflipped where ours is applied flipped; style biases are stored minus one, so that they start at zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from facegen.errors import FacegenError
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.text import shown
from facegen.weights.family.assemble import Part, assemble
from facegen.weights.family.pickle_note import NAMES
from facegen.weights.family.records import TensorflowNetwork
from facegen.weights.family.rosinality import noise_name
from facegen.weights.family.state_dict import recognize
from facegen.weights.header import Header

IGNORED = ("lod", "lod_in", "resample_filter")  # remains of progressive growing; constants
MAX_COMPONENTS = 20
MAX_VARIABLES = 10_000  # in one component; the largest of the family has about 200
MAX_NAME = 1000  # characters: a file can name one list of one long name again and again

_Convert = Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _kernel(x: np.ndarray) -> np.ndarray:
    return x.transpose(3, 2, 0, 1)


def _flipped_kernel(x: np.ndarray) -> np.ndarray:
    return _kernel(x[::-1, ::-1])


# Per layer of a network: variables, as patterns of a whole name; our name, as the pattern's template or a function;
# and what turns one into the other.
_Rule = tuple[str, "str | Callable[[re.Match[str]], str]", _Convert]


def _layer(theirs: str, ours: str, convert: _Convert) -> list[_Rule]:
    return [(f"{theirs}/weight", f"{ours}.weight", convert), (f"{theirs}/bias", f"{ours}.bias", _same)]


def _modulated(theirs: str, ours: str, kernel: _Convert) -> list[_Rule]:
    return [
        *_layer(theirs, ours, kernel),
        (f"{theirs}/noise_strength", f"{ours}.noise_strength", _same),
        (f"{theirs}/mod_weight", f"{ours}.affine.weight", np.transpose),
        (f"{theirs}/mod_bias", f"{ours}.affine.bias", lambda x: x + 1),
    ]


_BLOCK = r"synthesis/(\d{1,5})x\1"
GENERATOR_RULES: list[_Rule] = [
    ("dlatent_avg", "mapping.w_avg", _same),
    *_layer("mapping/LabelEmbed", "mapping.embed", np.transpose),
    *_layer(r"mapping/Dense(\d{1,3})", r"mapping.fc\1", np.transpose),
    ("synthesis/4x4/Const/const", "synthesis.b4.const", lambda x: x[0]),
    (r"synthesis/noise(\d{1,2})", noise_name, lambda x: x[0, 0]),
    *_modulated("synthesis/4x4/Conv", "synthesis.b4.conv1", _kernel),
    *_modulated(f"{_BLOCK}/Conv0_up", r"synthesis.b\1.conv0", _flipped_kernel),
    *_modulated(f"{_BLOCK}/Conv1", r"synthesis.b\1.conv1", _kernel),
    *_modulated(f"{_BLOCK}/ToRGB", r"synthesis.b\1.torgb", _kernel),
    (f"{_BLOCK}/Skip/weight", r"synthesis.b\1.skip.weight", _flipped_kernel),
]
DISCRIMINATOR_RULES: list[_Rule] = [
    *_layer("LabelEmbed", "mapping.embed", np.transpose),
    *_layer(r"Mapping(\d{1,3})", r"mapping.fc\1", np.transpose),
    *_layer(r"(\d{1,5})x\1/FromRGB", r"b\1.fromrgb", _kernel),
    *_layer(r"(\d{1,5})x\1/Conv0", r"b\1.conv0", _kernel),
    *_layer(r"(\d{1,5})x\1/Conv1_down", r"b\1.conv1", _kernel),
    (r"(\d{1,5})x\1/Skip/weight", r"b\1.skip.weight", _kernel),
    *_layer("4x4/Conv", "b4.conv", _kernel),
    *_layer("4x4/Dense0", "b4.fc", np.transpose),
    *_layer("Output", "b4.out", np.transpose),
]


def convert_networks(
    content: Any, path: Path, first_of: Sequence[str] | None = None
) -> tuple[dict[str, nn.Module], Header]:
    """Turn the records of a TensorFlow pickle into networks.

    Args:
        content: What `read_records` gave: one `TensorflowNetwork`, or (G, D, Gs).
        path: The file, for messages.
        first_of: build only the first of these that is there; None builds all

    Returns:
        As `facegen.weights.family.pickles.read_networks`.

    Raises:
        FacegenError: not such networks, or of an architecture that StyleGAN2-ADA does not have.
    """
    if isinstance(content, TensorflowNetwork):
        content = (None, None, content) if _is_generator(content) else (None, content, None)
    if len(content) != len(NAMES):
        raise FacegenError(f"{path}: {len(content)} networks of TensorFlow, not G, D and Gs: not supported")
    room = path.stat().st_size
    parts = (
        (name, _part(record, f"{path}: {name}", room))
        for name, record in zip(NAMES, content, strict=True)
        if record is not None
    )
    networks, described = assemble(path, parts, first_of)
    return networks, Header({"networks": described, "origin": {"format": "stylegan2-ada (TensorFlow)"}})


def _part(record: TensorflowNetwork, where: str, room: int) -> Part:
    is_generator = _is_generator(record)
    variables = dict(_variables(record, where))
    if sum(variable.size for variable in variables.values()) > room:  # before any is copied
        raise FacegenError(f"{where}: its variables claim more than the file holds: refused")
    tensors = _renamed(variables, GENERATOR_RULES if is_generator else DISCRIMINATOR_RULES, where)
    kind, arguments = recognize(tensors, where)
    if kind is not (Generator if is_generator else Discriminator):
        raise FacegenError(f"{where}: its variables are not those of its function {shown(_function(record))}")
    _apply_options(arguments, _options(record), is_generator)
    return Part(kind, arguments, tensors)


def _function(record: TensorflowNetwork) -> str:
    """The name of the function that built the network, without its module."""
    name = record.state.get("build_func_name")
    return name.rsplit(".", 1)[-1] if isinstance(name, str) else "?"


def _is_generator(record: TensorflowNetwork) -> bool:
    components = record.state.get("components")
    return _function(record).startswith("G_") or (isinstance(components, dict) and "synthesis" in components)


def _options(record: TensorflowNetwork) -> dict[str, Any]:
    options = record.state.get("static_kwargs")
    return options if isinstance(options, dict) else {}


def _variables(record: TensorflowNetwork, where: str) -> Iterator[tuple[str, np.ndarray]]:
    """The variables of a network and its components, as `component/name`."""
    components = record.state.get("components") or {}
    if not isinstance(components, dict) or len(components) > MAX_COMPONENTS:
        raise FacegenError(f"{where}: components in an unknown layout, a damaged file")
    parts = [("", record), *((f"{name}/", component) for name, component in components.items())]
    for prefix, part in parts:
        variables = part.state.get("variables") if isinstance(part, TensorflowNetwork) else None
        if not isinstance(variables, (list, tuple)):
            raise FacegenError(f"{where}: a network without variables, a damaged file")
        if len(variables) > MAX_VARIABLES:
            raise FacegenError(f"{where}: {len(variables):,} variables, no network has so many: refused")
        for variable in variables:
            if type(variable) not in (list, tuple) or len(variable) != 2 or not isinstance(variable[0], str):
                raise FacegenError(f"{where}: variables in an unknown layout, a damaged file")
            name, value = variable
            if len(name) > MAX_NAME:
                raise FacegenError(f"{where}: a variable's name of {len(name):,} characters, a damaged file")
            if isinstance(value, (int, float)) and abs(value) < 2**63:
                value = np.asarray(float(value))
            if not isinstance(value, np.ndarray):
                raise FacegenError(f"{where}: the variable {shown(name)} is not an array: a damaged file")
            yield prefix + name, value


def _renamed(variables: Mapping[str, np.ndarray], rules: list[_Rule], where: str) -> dict[str, np.ndarray]:
    """The variables by our names, in our layout."""
    tensors: dict[str, np.ndarray] = {}
    for name, variable in variables.items():
        if name.rsplit("/", 1)[-1] in IGNORED:
            continue
        for pattern, ours, convert in rules:
            match = re.fullmatch(pattern, name, re.ASCII)
            if match is None:
                continue
            try:
                tensors[ours(match) if callable(ours) else match.expand(ours)] = convert(variable)
            except (ValueError, IndexError, OverflowError) as error:
                raise FacegenError(f"{where}: the variable {name} has the shape {list(variable.shape)}") from error
            break
        else:
            raise FacegenError(
                f"{where} has the variable {shown(name)}, which StyleGAN2-ADA's networks do not have: another "
                "architecture (StyleGAN1, or StyleGAN2 with labels), not supported"
            )
    return tensors


def _apply_options(arguments: dict[str, Any], options: Mapping[str, Any], is_generator: bool) -> None:
    """Add to the arguments that shapes tell those that only the keyword arguments tell; they are checked later."""
    mapping = arguments.setdefault("mapping_kwargs", {})
    layers = arguments["synthesis_kwargs"] if is_generator else arguments["block_kwargs"]
    common = layers if is_generator else arguments
    for target, ours, theirs in (
        (common, "num_fp16_res", "num_fp16_res"),
        (common, "conv_clamp", "conv_clamp"),
        (layers, "activation", "nonlinearity"),
        (layers, "resample_filter", "resample_kernel"),
        (mapping, "activation", "mapping_nonlinearity" if is_generator else "nonlinearity"),
    ):
        if theirs in options:
            target[ours] = options[theirs]
    mapping["lr_multiplier"] = options.get("mapping_lrmul", 0.01 if is_generator else 0.1)
    if is_generator and "w_avg_beta" in options and mapping.get("w_avg_beta", 0) is not None:
        mapping["w_avg_beta"] = options["w_avg_beta"]
    if not is_generator:
        for ours, theirs in (("mbstd_group_size", "mbstd_group_size"), ("activation", "nonlinearity")):
            if theirs in options:
                arguments["epilogue_kwargs"][ours] = options[theirs]
        if arguments["c_dim"] == 0:
            del arguments["mapping_kwargs"]
