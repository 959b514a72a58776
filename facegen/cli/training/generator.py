"""`facegen train`: the generator, from a training archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from facegen.cli import device_option, gpus_option, outdir_option
from facegen.options import click_options, options_to_merge
from facegen.training.generator.options import TrainOptions


@click.command("train")
@click_options(TrainOptions)
@outdir_option
@device_option
@gpus_option
@click.option("-n", "--dry-run", is_flag=True, help="Check all that a start would check, print the options and stop.")
@click.pass_context
def command(ctx: click.Context, outdir: Path, device: str | None, gpus: int, dry_run: bool, **chosen: Any) -> None:
    """Train the generator on faces labeled with age groups.

    Ctrl-C saves and stops; so does SIGTERM, with exit code 75. --resume RUN_FOLDER goes on. The run folder holds a
    log, TensorBoard events, grids of generated faces (columns are age groups, rows keep the latent) and snapshots.

    \b
    Example:
      facegen train --data faces64.zip --cfg tiny --mirror --kimg 400
      facegen train --resume runs/00000-faces64-cond-mirror-tiny-batch16-gamma0.05-ada
      facegen train --data faces256.zip --gpus 8
    """
    from facegen.status import say
    from facegen.text import json_text
    from facegen.training.generator.loop import train_generator
    from facegen.training.rehearsal import decide_and_open, rehearse
    from facegen.training.run.folder import read_options
    from facegen.training.run.launch import run_on_all
    from facegen.weights.hub import USUAL

    resume = chosen["resume"]
    goes_on = bool(resume) and Path(resume).is_dir() and not (Path(resume) / USUAL).is_file()  # saved for the hub
    if goes_on:
        given = options_to_merge(ctx, TrainOptions, without=("resume", "dry_run", "gpus", "device"))
        options = replace(read_options(resume, TrainOptions), **given)
    elif not chosen["data"]:
        hint = f"; {resume} is no run folder to go on with" if resume else ""
        raise click.UsageError(f"--data is missing: which training archive? (`facegen prepare` makes one){hint}")
    else:
        options = TrainOptions.from_command(chosen)
    run = resume if goes_on else None
    if dry_run:
        options = rehearse(options, outdir, processes=gpus, device=device, resume=run)
        say(*json_text(options.to_json(), indent=2).split("\n"))
        return
    if gpus > 1:
        decide_and_open(options, gpus, run)  # complains once, not in every process
    if not run_on_all(ctx, gpus):
        train_generator(options, outdir, device=device, resume=run)
