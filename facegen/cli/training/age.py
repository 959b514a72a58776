"""`facegen train-age`: teach a small network to tell the age of a face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facegen.cli import device_option, outdir_option
from facegen.cli.training import chosen_options, resume_option
from facegen.options import click_options
from facegen.training.age.options import AgeOptions


@click.command("train-age")
@click_options(AgeOptions)
@outdir_option
@resume_option
@device_option
@click.pass_context
def command(ctx: click.Context, outdir: Path, resume: Path | None, device: str | None, **chosen: Any) -> None:
    """Train an age estimator on the faces of a training archive.

    Writes a new run folder: age-best.safetensors, log.txt, stats.jsonl, curve.png and ages.png (predicted ages over
    true ages). Ctrl-C saves and stops; so does SIGTERM, with exit code 75. --resume continues (up to a new --kimg, if
    given).

    \b
    Example:
      facegen train-age --data train.zip --val held.zip --arch resnet --half first --kimg 300
      facegen train-age --data train.zip --arch lite --init lite0.pth --lr 5e-4
    """
    from facegen.training.age.loop import train_age

    options = chosen_options(ctx, AgeOptions, resume, chosen, "--data ARCHIVE")
    train_age(options, outdir, device=device, resume=resume)
