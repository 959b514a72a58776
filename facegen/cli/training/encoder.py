"""`facegen train-encoder`: teach an encoder to find the latent of a face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facegen.cli import device_option, gpus_option, outdir_option
from facegen.cli.training import chosen_options, resume_option
from facegen.options import click_options
from facegen.training.encoder.options import EncoderOptions


@click.command("train-encoder")
@click_options(EncoderOptions)
@outdir_option
@resume_option
@device_option
@gpus_option
@click.pass_context
def command(
    ctx: click.Context, outdir: Path, resume: Path | None, device: str | None, gpus: int, **chosen: Any
) -> None:
    """Train an encoder on generated faces, whose latents are known, and on real faces.

    Writes a new run folder: encoder-best.safetensors, a file per epoch, log.txt, stats.jsonl, curve.png,
    reconstructions.png. Ctrl-C saves and stops; so does SIGTERM, with exit code 75. --resume continues (up to a new
    number of --epochs, if given).

    \b
    Example:
      facegen train-encoder --network runs/00000-tiny --data faces64.zip --init none
      facegen train-encoder --network runs/00000-tiny --recipe zmse --pairs 10000 --init none
    """
    from facegen.training.encoder.loop import train_encoder
    from facegen.training.run.launch import run_on_all

    options = chosen_options(ctx, EncoderOptions, resume, chosen, "--network FILE (or the run folder of a generator)")
    options.check_processes(gpus)  # complains once, not in every process
    if not run_on_all(ctx, gpus):
        train_encoder(options, outdir, device=device, resume=resume)
