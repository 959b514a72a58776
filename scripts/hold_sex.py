"""Teach the age shift of an encoder's file to hold the sex, as encoders trained from now on do by themselves.

python scripts/hold_sex.py facegen/pretrained/encoder.safetensors
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from facegen.networks.age_shift import AgeShift
from facegen.training.encoder.sex_direction import sex_direction
from facegen.weights.load import load_generator, load_sex_classifier, read_networks
from facegen.weights.locate import shipped_file
from facegen.weights.native import save_networks
from facegen.weights.trained_for import own_generator


@click.command()
@click.argument("encoder", type=click.Path(exists=True, path_type=Path))
def main(encoder: Path) -> None:
    """Rewrite the file of an ENCODER, in float16, with the direction of sex in its generator's w."""
    networks, header = read_networks(encoder)
    shift = networks["age_shift"]
    assert isinstance(shift, AgeShift)
    generator, _ = load_generator(own_generator(encoder))
    classifier, _ = load_sex_classifier(shipped_file("sex"))
    networks["age_shift"] = shift.holding("sex", *sex_direction(generator, classifier))
    save_networks(encoder, networks, header.metadata, dtype=torch.float16)


if __name__ == "__main__":
    main()
