"""Bare state dicts: tensors by name, without constructor arguments. The architecture is read off names and shapes.

Those of StyleGAN2-ADA's PyTorch code, of rosinality/stylegan2-pytorch, and of encoders with such a generator in them.

What no shape tells (activation, clamps, learning rate multipliers, minibatch-stddev group, half precision) is assumed
to be the default of StyleGAN2-ADA, and listed.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facegen.errors import FacegenError
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.networks.latents import group_means
from facegen.text import shown
from facegen.weights.facenet import encoder_of, is_facenet
from facegen.weights.family import rosinality
from facegen.weights.family.assemble import MAX_LISTED, Part, assemble
from facegen.weights.header import Header
from facegen.weights.read import read_torch_file, without_wrapper

NAMES = {"G": "G", "D": "D", "G_ema": "G_ema", **rosinality.NAMES}  # a file's names of the networks, and ours
AVERAGED_LATENTS = 10_000  # random, but the same every time: their mean is the average of w where a file has none
ENCODER = "an encoder with its generator (decoder.*), as of pSp, e4e, ReStyle, SAM"
ASSUMED = ("activation", "conv_clamp", "lr_multiplier", "mbstd_group_size", "num_fp16_res", "w_avg_beta")


def read_networks(
    path: str | os.PathLike[str], first_of: Sequence[str] | None = None
) -> tuple[dict[str, nn.Module], Header]:
    """Read a `.pt` or `.pth` file with the state dict of a generator or discriminator of StyleGAN2-ADA, or an encoder.

    Args:
        path: A file of `torch.save`: one state dict, or a dictionary of some by the names `G`, `D`, `G_ema`.
            A state dict without a name counts as `G_ema` or `D`. Or a checkpoint of rosinality/stylegan2-pytorch
            with `g`, `d`, `g_ema`. Or that of an encoder such as pSp, e4e, ReStyle or SAM: a `state_dict` of which
            `decoder.*`, a generator, is taken as `G_ema`, and all else is not. A facenet-pytorch
            InceptionResnetV1 counts as an encoder of z.
        first_of: build only the first of these that is there; None builds all

    Returns:
        As `facegen.weights.family.pickles.read_networks`; `origin` names what had to be `assumed`.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: damaged, with more than tensors in it, or of another architecture.
    """
    path = Path(path)
    return networks_of(read_torch_file(path), path, first_of)


def networks_of(content: Any, path: Path, first_of: Sequence[str] | None = None) -> tuple[dict[str, nn.Module], Header]:
    """Return what `read_networks` does, from what `read_torch_file` has read of `path`; raises the same."""
    if not isinstance(content, Mapping):
        raise FacegenError(f"{path}: holds a {type(content).__name__}, not tensors by name")
    nested = content.get("state_dict")
    if is_facenet(state := without_wrapper(nested if isinstance(nested, Mapping) else content)):
        return _encoder(state, path, first_of)
    named, left_out = _named(content, path)
    origin: dict[str, Any] = {"format": ENCODER if left_out else "state dict", "assumed": list(ASSUMED)}
    parts: dict[str, Part] = {}
    without_average: list[str] = []
    for (name, where), state in named.items():
        tensors = {key: tensor for key, tensor in state.items() if isinstance(tensor, torch.Tensor)}
        if not all(isinstance(key, str) for key in tensors) or len(tensors) < len(state):
            odd = [shown(key, 40) for key in state if key not in tensors or not isinstance(key, str)]
            odd = [*odd[:MAX_LISTED], *(["..."] if len(odd) > MAX_LISTED else [])]
            raise FacegenError(
                f"{where} holds something other than tensors by name ({', '.join(odd)}): not a state dict"
            )
        if rosinality.is_rosinality(tensors):
            origin["format"] = ENCODER if left_out else "rosinality/stylegan2-pytorch"
            tensors = rosinality.renamed(tensors, where)
            if name != "D":
                average = _latent_average(content)
                affine = tensors.get("synthesis.b4.conv1.affine.weight", torch.zeros(1, 1))
                tensors["mapping.w_avg"] = torch.zeros(affine.shape[-1:]) if average is None else average
                without_average += [name] if average is None else []
        parts[name] = Part(*recognize(tensors, where), tensors)
    networks, described = assemble(path, parts.items(), first_of)
    for name in without_average:
        if isinstance(network := networks.get(name), Generator):
            network.mapping.w_avg.copy_(group_means(network, samples=AVERAGED_LATENTS)[0])
    return networks, Header({"networks": described, "origin": origin} | ({"left_out": left_out} if left_out else {}))


def _encoder(
    content: Mapping[Any, Any], path: Path, first_of: Sequence[str] | None
) -> tuple[dict[str, nn.Module], Header]:
    """What `read_networks` returns of an InceptionResnetV1 of facenet-pytorch that was trained as an encoder of z."""
    state = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)}
    if sum(tensor.numel() for tensor in state.values()) > path.stat().st_size:  # one number can be repeated at will
        raise FacegenError(f"{path}: its tensors claim more than the file holds: refused")
    encoder = encoder_of(state, str(path))
    described = {"encoder": {"kind": "encoder", "kwargs": encoder.init_kwargs}}
    wanted = first_of is None or "encoder" in first_of
    origin = {"format": "facenet-pytorch", "assumed": ["input_size"]}
    return {"encoder": encoder} if wanted else {}, Header({"networks": described, "origin": origin})


def _named(content: Mapping[Any, Any], path: Path) -> tuple[dict[tuple[str, str], dict[str, Any]], list[str]]:
    """Find the state dicts of a file.

    Returns:
        Each by our name of the network and what a message calls it, and which other networks of an encoder's file
        are left out.
    """
    named = {name: content[name] for name in NAMES if isinstance(content.get(name), Mapping)}
    if named:
        return {(NAMES[name], f"{path}: {NAMES[name]}"): without_wrapper(state) for name, state in named.items()}, []
    nested = content.get("state_dict")
    state = without_wrapper(nested if isinstance(nested, Mapping) else content)
    tops = list(dict.fromkeys(name.split(".")[0] for name in state if isinstance(name, str)))
    if "encoder" in tops and "decoder" not in tops:
        raise FacegenError(f"{path}: the encoder of another program, without a generator (decoder.*): not supported")
    if "encoder" in tops:
        decoder = {name[len("decoder.") :]: value for name, value in state.items() if str(name).startswith("decoder.")}
        return {("G_ema", f"{path}: its decoder"): without_wrapper(decoder)}, [
            shown(top, 40) for top in tops if top != "decoder"
        ][:MAX_LISTED]
    is_discriminator = "b4.out.weight" in state or "final_linear.1.weight" in state
    return {("D" if is_discriminator else "G_ema", str(path)): state}, []


def _latent_average(content: Mapping[Any, Any]) -> torch.Tensor | None:
    """The average of w that a file has beside rosinality's generator; encoders' files repeat it for every layer."""
    average = content.get("latent_avg")
    if not isinstance(average, torch.Tensor) or average.ndim not in (1, 2) or not len(average):
        return None
    if average.ndim == 1 or bool((average == average[0]).all()):
        return average if average.ndim == 1 else average[0]
    return average.mean(dim=0)


def recognize(tensors: Mapping[str, np.ndarray | torch.Tensor], where: str) -> tuple[type[nn.Module], dict[str, Any]]:
    """Read the class and the constructor arguments off the names and shapes of a state dict.

    Raises:
        FacegenError: neither a generator nor a discriminator of StyleGAN2-ADA.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        if "synthesis.b4.const" in shapes:
            return Generator, _generator(shapes, tensors, where)
        if "b4.out.weight" in shapes:
            return Discriminator, _discriminator(shapes, tensors, where)
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, FacegenError):
            raise
        raise FacegenError(f"{where}: an incomplete StyleGAN2 network; {shown(error)} is missing or odd") from error
    some = ", ".join(shown(name, 40) for name in list(shapes)[:3])
    raise FacegenError(f"{where}: neither a generator nor a discriminator of StyleGAN2-ADA (its tensors: {some}, ...)")


_Shapes = Mapping[str, tuple[int, ...]]


def _generator(shapes: _Shapes, tensors: Mapping[str, Any], where: str) -> dict[str, Any]:
    resolutions = _resolutions(shapes, "synthesis.")
    last = f"synthesis.b{resolutions[-1]}"
    base, limit = fit_channels({r: shapes[f"synthesis.b{r}.conv1.weight"][0] for r in resolutions}, where)
    mapping, inputs, outputs = _mapping(shapes)
    if "mapping.w_avg" not in shapes:
        mapping["w_avg_beta"] = None
    c_dim = shapes["mapping.embed.weight"][1] if "mapping.embed.weight" in shapes else 0
    return {
        "z_dim": inputs - mapping.get("embed_features", 0),
        "c_dim": c_dim,
        "w_dim": outputs,
        "img_resolution": resolutions[-1],
        "img_channels": shapes[f"{last}.torgb.weight"][0],
        "mapping_kwargs": mapping,
        "synthesis_kwargs": {
            "channel_base": base,
            "channel_max": limit,
            "architecture": _architecture(shapes, "synthesis.b8.skip.weight", "synthesis.b4.torgb.weight"),
            "use_noise": "synthesis.b4.conv1.noise_const" in shapes,
            **_filter(tensors, f"{last}.resample_filter"),
        },
    }


def _discriminator(shapes: _Shapes, tensors: Mapping[str, Any], where: str) -> dict[str, Any]:
    resolutions = _resolutions(shapes, "")
    last = f"b{resolutions[-1]}"
    channels = {r: shapes[f"b{r}.conv0.weight"][0] for r in resolutions[1:]}
    channels[4] = shapes["b4.conv.weight"][0]
    base, limit = fit_channels(channels, where)
    arguments = {
        "c_dim": 0,
        "img_resolution": resolutions[-1],
        "img_channels": shapes[f"{last}.fromrgb.weight"][1],
        "architecture": _architecture(shapes, f"{last}.skip.weight", "b4.fromrgb.weight"),
        "channel_base": base,
        "channel_max": limit,
        "block_kwargs": _filter(tensors, f"{last}.resample_filter"),
        "epilogue_kwargs": {"mbstd_num_channels": shapes["b4.conv.weight"][1] - channels[4]},
    }
    if "mapping.embed.weight" in shapes:
        arguments["c_dim"] = shapes["mapping.embed.weight"][1]
        arguments["cmap_dim"] = shapes["b4.out.weight"][0]
        arguments["mapping_kwargs"] = _mapping(shapes)[0]
    return arguments


def _architecture(shapes: _Shapes, only_of_resnet: str, only_of_skip: str) -> str:
    """The architecture, by tensors that no other one has."""
    return "resnet" if only_of_resnet in shapes else "skip" if only_of_skip in shapes else "orig"


def _resolutions(shapes: _Shapes, prefix: str) -> list[int]:
    """The resolutions of the blocks: 4, 8, ... without a gap."""
    pattern = re.compile(re.escape(prefix) + r"b(\d{1,7})\.")
    found = sorted({int(match[1]) for name in shapes if (match := pattern.match(name))})
    if found != [2**i for i in range(2, len(found) + 2)]:
        raise ValueError(f"a block of one of the resolutions 4, 8, ... {found[-1]}")
    return found


def _mapping(shapes: _Shapes) -> tuple[dict[str, Any], int, int]:
    """The mapping network's arguments, and how many features go in and out."""
    layers = next(i for i in itertools.count() if f"mapping.fc{i}.weight" not in shapes)
    arguments: dict[str, Any] = {"num_layers": layers}
    if "mapping.embed.weight" in shapes:
        arguments["embed_features"] = shapes["mapping.embed.weight"][0]
    if not layers:
        return arguments, 0, shapes["mapping.embed.weight"][0]
    if layers > 1:
        arguments["layer_features"] = shapes["mapping.fc0.weight"][0]
    return arguments, shapes["mapping.fc0.weight"][1], shapes[f"mapping.fc{layers - 1}.weight"][0]


def _filter(tensors: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The taps of the resampling filter, where they are not the usual 1, 3, 3, 1."""
    if name not in tensors:
        return {}
    taps = torch.as_tensor(tensors[name], dtype=torch.float32)
    if taps.ndim == 2:
        taps = taps.sum(dim=0)  # each row is a multiple of them
    usual = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float32) / 8
    if taps.shape == usual.shape and torch.allclose(taps, usual, atol=1e-4):
        return {}
    return {"resample_filter": taps.tolist()}


def fit_channels(channels: Mapping[int, int], where: str) -> tuple[int, int]:
    """Return the smallest `channel_base` and `channel_max` that give these numbers of channels by resolution.

    Raises:
        FacegenError: there are none.
    """
    limit = max(channels.values())
    lowest, highest = 0, math.inf
    for resolution, count in channels.items():
        lowest = max(lowest, count * resolution)
        if count < limit:
            highest = min(highest, (count + 1) * resolution - 1)
    if lowest > highest or limit == 0:
        widths = ", ".join(f"{count} at {resolution}" for resolution, count in sorted(channels.items()))
        raise FacegenError(f"{where}: no channel_base and channel_max give its numbers of channels ({shown(widths)})")
    return lowest, limit
