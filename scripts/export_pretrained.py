"""Pack trained networks as the weights that the package ships: averaged, in float16, without paths.

    python scripts/export_pretrained.py --generator runs/00000-... --encoder runs/00003-encoder-... \
        --age runs/00001-age-... --age-judge runs/00002-age-... \
        --license "CC-BY-NC-4.0; trained on UTKFace, for non-commercial research only"
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch

from facegen.networks.encoder import shorten_head
from facegen.weights.header import Header, without_paths
from facegen.weights.load import read_networks
from facegen.weights.locate import PRETRAINED
from facegen.weights.native import save_networks
from facegen.weights.trained_for import ENTRY

KEPT = ("groups", "class_names", "template", "resolution", "kimg", "epoch", "metrics")
SHIPPED = {
    "generator": ("G_ema",),
    "encoder": ("encoder", "age_shift"),
    "age": ("age",),
    "age_judge": ("age",),
    "editor": ("editor",),
}


def shareable(header: Header, license: str) -> dict[str, Any]:
    """Return what of a header belongs into a shared file: everything but this machine's paths."""
    kept = {name: header[name] for name in KEPT if name in header}
    if metrics := {name: value for name, value in header.items() if name.startswith("val_")}:
        kept["metrics"] = {**kept.get("metrics", {}), **metrics}
    return without_paths({**kept, "training_options": header.training_options, "license": license})


@click.command()
@click.option("--generator", help="Snapshot or run folder.")
@click.option("--encoder", help="Weight file or run folder.")
@click.option("--age", help="Age estimator for transfer and training: weight file or run folder.")
@click.option("--age-judge", help="Age estimator for evaluation: weight file or run folder.")
@click.option("--editor", help="Weight file or run folder.")
@click.option("--head-rank", type=int, help="Shorten the encoder's head to this rank, for a smaller file.")
@click.option("--license", required=True, help="License of the weights, which the training data decides.")
@click.option("--outdir", type=click.Path(path_type=Path), default=PRETRAINED, show_default=True, help="Where to.")
def main(head_rank: int | None, license: str, outdir: Path, **sources: str | None) -> None:
    """Write NAME.safetensors for every network that is given."""
    for name, source in sources.items():
        if source is None:
            continue
        networks, header = read_networks(source)
        kept = {key: network for key, network in networks.items() if key in SHIPPED[name]}
        if name == "encoder" and head_rank is not None:
            kept["encoder"] = shorten_head(kept["encoder"], head_rank)
        path, told = outdir / f"{name}.safetensors", shareable(header, license)
        if name == "editor" and ENTRY in header:  # of an encoder it would hide that both belong to the package
            told[ENTRY] = header[ENTRY]
        save_networks(path, kept, told, dtype=torch.float16)
        click.echo(f"{path}: {', '.join(kept)}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
