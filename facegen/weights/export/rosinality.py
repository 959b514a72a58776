"""Write a generator for rosinality/stylegan2-pytorch, the other widely used StyleGAN2 in PyTorch.

Its generator has no classes, no clamps and a fixed number of channels per resolution. What is exact up to rounding:
everything else, one class of a conditional network included, and narrower networks, which are filled up with channels
that stay zero. Two constants against division by zero sit elsewhere (a relative 1e-8 for ordinary weights).
"""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch.nn import functional

from facegen.errors import FacegenError
from facegen.files import atomic_path, write_with_torch
from facegen.networks.generator import Generator, SynthesisBlock, SynthesisLayer, ToRGBLayer
from facegen.networks.layers import FullyConnectedLayer, normalize_2nd_moment

MAPPING_LR = 0.01  # in rosinality's mapping network; ours may have another
FILTER_TAPS = 4
MIN_RESOLUTION, MAX_RESOLUTION = 8, 1024

State = dict[str, torch.Tensor]


def export_rosinality(
    generator: Generator, path: str | os.PathLike[str], *, class_index: int | None = None
) -> dict[str, int]:
    """Write `{"g_ema": state dict, "latent_avg": average w}` in rosinality's names, atomically.

    Args:
        generator: With `z_dim` equal to `w_dim`, RGB, in the `skip` architecture with `lrelu`.
        path: The file, by custom `*.pt`.
        class_index: Which class of a conditional network; its label becomes a bias of the first layer.

    Returns:
        The arguments that rosinality's `Generator` is built with: `size`, `style_dim`, `n_mlp`, `channel_multiplier`.

    Raises:
        FacegenError: a network that rosinality's generator cannot express; one line that says why.
    """
    state, arguments = convert(generator, class_index)
    content: dict[str, Any] = {"g_ema": state}
    if generator.mapping.w_avg_beta is not None:
        content["latent_avg"] = generator.mapping.w_avg.detach().clone()
    with atomic_path(path) as temporary:
        write_with_torch(content, temporary)
    return arguments


@torch.no_grad()
def convert(generator: Generator, class_index: int | None = None) -> tuple[State, dict[str, int]]:
    """Return the state dict and the arguments of `export_rosinality` without writing them."""
    _check(generator, class_index)
    multiplier, channels = _channels(generator)
    state = _mapping(generator, class_index)
    layers = 0
    inputs = channels[4]
    for resolution in generator.synthesis.block_resolutions:
        block, outputs = _block(generator, resolution), channels[resolution]
        if resolution == 4:
            const = _grow(block.const, (outputs, resolution, resolution))
            state["input.input"] = const[None]
            names, torgb = {"conv1": "conv1"}, "to_rgb1"
        else:
            i = int(math.log2(resolution)) - 3
            names, torgb = {"conv0": f"convs.{2 * i}", "conv1": f"convs.{2 * i + 1}"}, f"to_rgbs.{i}"
            kernel = 4 * block.resample_filter  # rosinality keeps it with the gain of upsampling by 2
            state[f"{torgb}.upsample.kernel"] = state[f"{names['conv0']}.conv.blur.kernel"] = kernel
        for ours, theirs in names.items():
            layer = getattr(block, ours)
            state |= {f"{theirs}.{name}": tensor for name, tensor in _layer(layer, inputs, outputs).items()}
            state[f"noises.noise_{layers}"] = _noise(layer)
            layers += 1
            inputs = outputs
        assert block.torgb is not None  # `_check` wants the architecture `skip`
        state |= {f"{torgb}.{name}": tensor for name, tensor in _to_rgb(block.torgb, outputs).items()}
    arguments = {
        "size": generator.img_resolution,
        "style_dim": generator.w_dim,
        "n_mlp": generator.mapping.num_layers,
        "channel_multiplier": multiplier,
    }
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, arguments


def _check(generator: Generator, class_index: int | None) -> None:
    """Raise FacegenError for what rosinality's generator has no place for."""
    mapping, first = generator.mapping, _block(generator, 4)
    layers = [getattr(mapping, f"fc{i}") for i in range(mapping.num_layers)]
    features = {size for layer in layers for size in layer.weight.shape[:1]} | {generator.z_dim}
    reasons = {
        f"z, the mapping's layers and w must have one length, got {sorted(features)}": features != {generator.w_dim},
        "only RGB is possible": generator.img_channels != 3,
        f"the resolution must be {MIN_RESOLUTION} to {MAX_RESOLUTION}": not (
            MIN_RESOLUTION <= generator.img_resolution <= MAX_RESOLUTION
        ),
        f"the architecture {first.architecture!r} is not 'skip'": first.architecture != "skip",
        "an activation is not 'lrelu'": {layer.activation for layer in [*layers, first.conv1]} != {"lrelu"},
        f"the resampling filter has not {FILTER_TAPS} taps": first.resample_filter.shape != (FILTER_TAPS, FILTER_TAPS),
    }
    for reason, applies in reasons.items():
        if applies:
            raise FacegenError(f"rosinality's generator cannot express this one: {reason}")
    if generator.c_dim > 0 and class_index is None:
        raise FacegenError("rosinality's generator has no classes: choose one age group")
    if class_index is not None and not 0 <= class_index < generator.c_dim:
        raise FacegenError(f"there is no class {class_index}: the network has {generator.c_dim}")


def _block(generator: Generator, resolution: int) -> SynthesisBlock:
    return getattr(generator.synthesis, f"b{resolution}")


def _channels(generator: Generator) -> tuple[int, dict[int, int]]:
    """The smallest of rosinality's tables that has room for the network: its multiplier and channels by resolution."""
    needed = {r: _block(generator, r).conv1.weight.shape[0] for r in generator.synthesis.block_resolutions}
    for multiplier in (1, 2):
        table = {r: 512 if r <= 32 else 16384 * multiplier // r for r in needed}
        if all(table[r] >= needed[r] for r in needed):
            return multiplier, table
    raise FacegenError("rosinality's generator cannot express this one: it has more channels than StyleGAN2's")


def _mapping(generator: Generator, class_index: int | None) -> State:
    """The mapping network. With the label fixed, its part of the first layer's input is constant, so it is a bias."""
    mapping = generator.mapping
    state = {}
    for i in range(mapping.num_layers):
        layer: FullyConnectedLayer = getattr(mapping, f"fc{i}")
        weight: torch.Tensor = layer.weight
        bias = _bias(layer) * (layer.bias_gain / MAPPING_LR)
        if i == 0 and class_index is not None:
            label = normalize_2nd_moment(mapping.embed(torch.eye(generator.c_dim)[class_index : class_index + 1]))[0]
            bias = bias + weight[:, generator.z_dim :] @ label * (layer.weight_gain / MAPPING_LR)
            weight = weight[:, : generator.z_dim]
        # One factor, which is 1 for a network that came from there: it goes back to the bit.
        state[f"style.{i + 1}.weight"] = weight * (layer.weight_gain * math.sqrt(weight.shape[1]) / MAPPING_LR)
        state[f"style.{i + 1}.bias"] = bias
    return state


def _layer(layer: SynthesisLayer, inputs: int, outputs: int) -> State:
    """A modulated convolution; demodulation takes any scale of the weights out again."""
    strength = layer.noise_strength.reshape(1) if layer.use_noise else torch.zeros(1)
    return {
        **_modulated(layer, inputs, outputs),
        "noise.weight": strength,
        "activate.bias": _grow(layer.bias, (outputs,)),
    }


def _to_rgb(layer: ToRGBLayer, inputs: int) -> State:
    state = _modulated(layer, inputs, 3)
    # Not demodulated, so the scale for more inputs has to be taken back.
    state["conv.weight"] = state["conv.weight"] * (math.sqrt(inputs) * layer.weight_gain)
    return {**state, "bias": layer.bias.reshape(1, 3, 1, 1)}


def _modulated(layer: SynthesisLayer | ToRGBLayer, inputs: int, outputs: int) -> State:
    kernel = layer.weight.shape[2:]
    return {
        "conv.weight": _grow(layer.weight, (outputs, inputs, *kernel))[None],
        "conv.modulation.weight": _grow(layer.affine.weight, (inputs, layer.affine.weight.shape[1])),
        "conv.modulation.bias": _grow(_bias(layer.affine), (inputs,)),
    }


def _bias(layer: FullyConnectedLayer) -> torch.Tensor:
    assert layer.bias is not None  # every layer of a generator has one
    return layer.bias


def _noise(layer: SynthesisLayer) -> torch.Tensor:
    shape = [1, 1, layer.resolution, layer.resolution]
    return layer.noise_const.reshape(shape) if layer.use_noise else torch.zeros(shape)


def _grow(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Append zeros along every dimension."""
    missing = [(0, wanted - size) for size, wanted in zip(tensor.shape, shape, strict=True)]
    return functional.pad(tensor, [amount for pair in reversed(missing) for amount in pair])
