"""Pack a trained generator and encoder as the weights that the package ships: averaged, in float16, without paths.

    python scripts/export_pretrained.py --generator runs/00000-... --encoder runs/00001-encoder-... \
        --license "CC-BY-NC-4.0; trained on UTKFace, for non-commercial research only"
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch

from facegen.transfer import PRETRAINED
from facegen.weights.hub_folder import without_paths
from facegen.weights.load import load_encoder, load_generator
from facegen.weights.native import save_networks

KEPT = ("groups", "class_names", "template", "resolution", "kimg", "epoch", "metrics")
METRICS = ("val_mse", "val_cosine")


def shareable(header: dict[str, Any], license: str) -> dict[str, Any]:
    """Return what of a header belongs into a shared file: everything but this machine's paths."""
    kept = {name: header[name] for name in KEPT if name in header}
    if metrics := {name: header[name] for name in METRICS if name in header}:
        kept["metrics"] = metrics
    return without_paths({**kept, "training_options": header["training_options"], "license": license})


@click.command()
@click.option("--generator", required=True, type=click.Path(exists=True), help="Snapshot or run folder.")
@click.option("--encoder", required=True, type=click.Path(exists=True), help="Weight file or run folder.")
@click.option("--license", required=True, help="Licence of the weights, which the training data decides.")
@click.option("--outdir", type=click.Path(path_type=Path), default=PRETRAINED, show_default=True, help="Where to.")
def main(generator: str, encoder: str, license: str, outdir: Path) -> None:
    """Write generator.safetensors and encoder.safetensors."""
    G_ema, generator_header = load_generator(generator)
    network, encoder_header = load_encoder(encoder)
    for name, networks, header in (
        ("generator", {"G_ema": G_ema}, generator_header),
        ("encoder", {"encoder": network}, encoder_header),
    ):
        path = outdir / f"{name}.safetensors"
        save_networks(path, networks, shareable(header, license), dtype=torch.float16)
        click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
