"""State dicts of rosinality/stylegan2-pytorch under our names: its unconditional generator and discriminator.

Layouts differ little: kernels of styled layers carry a leading 1, and the layers of all resolutions are numbered
through. It keeps no running average of w but in converted files (`latent_avg`); for others it is measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from facegen.errors import FacegenError
from facegen.text import shown

NAMES = {"g": "G", "d": "D", "g_ema": "G_ema"}  # a checkpoint's names of the networks, and ours
MAX_BLOCKS = 12

Tensors = dict[str, torch.Tensor]


def is_rosinality(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the names of its generator or discriminator."""
    return "conv1.conv.modulation.weight" in tensors or "final_linear.1.weight" in tensors


def renamed(tensors: Mapping[str, torch.Tensor], where: str) -> Tensors:
    """Return a state dict of rosinality's in our names and shapes.

    Args:
        tensors: Its state dict.
        where: The file and the network's name, for messages.

    Raises:
        FacegenError: a tensor that StyleGAN2 does not have, such as those of its other models.
    """
    # Residual blocks of the discriminator; its convs.0 turns colors into features.
    blocks = sum(f"convs.{i}.conv1.0.weight" in tensors for i in range(1, MAX_BLOCKS + 1))
    ours: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith("kernel"):  # fixed filters; ours follow from the arguments
            _check_filter(name, tensor, where)
            continue
        new = _generator_name(name) if "input.input" in tensors else _discriminator_name(name, blocks)
        if new is None:
            raise FacegenError(f"{where} has the tensor {shown(name)}, which rosinality's StyleGAN2 does not have")
        ours[new] = _reshaped(new, tensor, where)
    return ours


def noise_name(match: re.Match[str]) -> str:
    """Our name for the noise of a number: 0 is 4x4's; 1 and 2 are those of 8x8's first and second layer, and so on."""
    number = int(match[1])
    return f"synthesis.b{2 ** ((number + 5) // 2)}.conv{(number + 1) % 2}.noise_const"


def _generator_name(name: str) -> str | None:
    if name == "input.input":
        return "synthesis.b4.const"
    if match := re.fullmatch(r"style\.(\d{1,2})\.(weight|bias)", name):
        return f"mapping.fc{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"noises\.noise_(\d{1,2})", name):
        return noise_name(match)
    if match := re.fullmatch(r"(conv1|to_rgb1|convs\.(\d{1,2})|to_rgbs\.(\d{1,2}))\.(.+)", name):
        layer = {"conv1": "b4.conv1", "to_rgb1": "b4.torgb"}.get(match[1])
        if match[2]:
            number = int(match[2])
            layer = f"b{2 ** (number // 2 + 3)}.conv{number % 2}"
        elif match[3]:
            layer = f"b{2 ** (int(match[3]) + 3)}.torgb"
        part = {
            "conv.weight": "weight",
            "conv.modulation.weight": "affine.weight",
            "conv.modulation.bias": "affine.bias",
            "noise.weight": "noise_strength",
            "activate.bias": "bias",
            "bias": "bias",
        }.get(match[4])
        return None if part is None else f"synthesis.{layer}.{part}"
    return None


def _discriminator_name(name: str, blocks: int) -> str | None:
    """Layers alternate with their filters and activations there, hence the numbers behind their names."""
    size = 4 * 2**blocks
    fixed = {
        "convs.0.0.weight": f"b{size}.fromrgb.weight",
        "convs.0.1.bias": f"b{size}.fromrgb.bias",
        "final_conv.0.weight": "b4.conv.weight",
        "final_conv.1.bias": "b4.conv.bias",
        **{f"final_linear.0.{part}": f"b4.fc.{part}" for part in ("weight", "bias")},
        **{f"final_linear.1.{part}": f"b4.out.{part}" for part in ("weight", "bias")},
    }
    if name in fixed:
        return fixed[name]
    if match := re.fullmatch(r"convs\.(\d{1,2})\.(conv1\.0|conv1\.1|conv2\.1|conv2\.2|skip\.1)\.(weight|bias)", name):
        number = int(match[1])
        layer = {"conv1": "conv0", "conv2": "conv1", "skip": "skip"}[match[2].split(".")[0]]
        return f"b{size // 2 ** (number - 1)}.{layer}.{match[3]}" if 1 <= number <= blocks else None
    return None


def _reshaped(name: str, tensor: torch.Tensor, where: str) -> torch.Tensor:
    """Take away the dimensions of size 1 that ours does not have."""
    try:
        if name.endswith("const") and tensor.ndim == 4:
            return tensor[0, 0] if name.endswith("noise_const") else tensor[0]
        if tensor.ndim == 5:
            return tensor[0]
        if name.endswith("noise_strength"):
            return tensor.reshape([])
        if name.endswith("torgb.bias"):
            return tensor.flatten()
    except (IndexError, RuntimeError) as error:
        raise FacegenError(f"{where}: its {name} has the shape {list(tensor.shape)}") from error
    return tensor


def _check_filter(name: str, kernel: torch.Tensor, where: str) -> None:
    usual = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float32)
    usual = torch.outer(usual, usual) / 64
    if kernel.shape != usual.shape or not torch.allclose(kernel.float() / kernel.float().sum(), usual, atol=1e-4):
        raise FacegenError(f"{where}: its {shown(name)} is not the filter 1, 3, 3, 1: not supported")
