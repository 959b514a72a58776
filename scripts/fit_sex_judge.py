"""Fit the judge of the sex: the plane between women's and men's features of dlib's face recognition network.

python scripts/fit_sex_judge.py utkface128-train.zip facegen/pretrained/sex_judge.safetensors --held utkface128-held.zip
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import save_file

from facegen.data.archive import FaceArchive
from facegen.evaluation.judges import DLIB_FILE, load_identity_judge
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.metrics.real_features import real_features
from facegen.training.encoder.sex_direction import plane

ADULT = 16
HELD = 400  # faces that it is tried on


def fit(features: torch.Tensor, men: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tell features `[N, D]` of men from women's, by whether they are men's `[N]`: weight `[D]` and bias `[1]`."""
    middle, spread = features.mean(dim=0), features.std()
    weight, offsets = plane(((features - middle) / spread)[None], men[None])
    return weight / spread, offsets[0] - middle @ weight / spread


def adults(archive: Path, faces: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The features `[N, D]` of the adults among some faces of an archive that knows genders, and who is a man `[N]`."""
    data = FaceArchive(archive, use_labels=False)
    if data.ages is None:
        raise click.ClickException(f"{archive}: knows no ages")
    genders = data.attribute("gender")
    order = np.random.default_rng(0).permutation(len(data))[:faces]
    chosen = [int(i) for i in order if data.ages[i] >= ADULT and genders[i] is not None]
    judge = load_identity_judge("dlib", data.template or UTKFACE_TEMPLATE)
    return real_features(data, chosen, judge), torch.tensor([float(genders[i] == "male") for i in chosen])


@click.command()
@click.argument("archive", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--faces", default=2000, show_default=True, help="How many faces; the adults among them count.")
@click.option("--held", type=click.Path(exists=True, path_type=Path), help="Say how often it is right here.")
def main(archive: Path, output: Path, faces: int, held: Path | None) -> None:
    """Fit the judge to an ARCHIVE whose facegen.json knows the gender, and write it to OUTPUT."""
    weight, bias = fit(*adults(archive, faces))
    about = {"features": DLIB_FILE, "license": "that of the archive's pictures: see docs/MODEL_CARD.md"}
    save_file({"weight": weight.contiguous(), "bias": bias.contiguous()}, output, about)
    if held is not None:
        features, men = adults(held, HELD)
        right = ((features @ weight + bias > 0) == (men > 0.5)).float().mean()
        click.echo(f"right for {100 * right:.1f} % of {len(men)} adults in {held.name}")


if __name__ == "__main__":
    main()
