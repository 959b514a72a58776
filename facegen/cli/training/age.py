"""`facegen train-age`: teach a small network to tell the age of a face."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from facegen.cli import device_option, outdir_option
from facegen.options import click_options, options_to_merge
from facegen.training.age.options import AgeOptions


@click.command("train-age")
@click_options(AgeOptions)
@outdir_option
@click.option("--resume", metavar="RUN", type=click.Path(path_type=Path), help="Go on with this run folder.")
@device_option
@click.pass_context
def command(ctx: click.Context, outdir: Path, resume: Path | None, device: str | None, **chosen: Any) -> None:
    """Train an age estimator on the faces of a training archive.

    Writes a new run folder: age-best.safetensors, log.txt, stats.jsonl, curve.png and ages.png, which shows predicted
    against true ages. Ctrl-C saves and stops; so does SIGTERM, with exit code 75. --resume goes on (with more --kimg,
    if given).

    \b
    Example:
      facegen train-age --data train.zip --val held.zip --arch resnet --half first --kimg 300
    """
    from facegen.training.age.loop import train_age
    from facegen.training.run.folder import read_options

    if resume is not None:
        given = options_to_merge(ctx, AgeOptions, without=("resume", "device"))
        options = replace(read_options(resume, AgeOptions), **given)
    elif chosen["data"] is not None:
        options = AgeOptions.from_command(chosen)
    else:
        raise click.UsageError("give --data ARCHIVE, or --resume RUN")
    train_age(options, outdir, device=device, resume=resume)
