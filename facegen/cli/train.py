"""`facegen train`: the generator, from a training archive."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from facegen.cli.gpus import gpus_option, run_on_all

# What may change when a run folder is resumed; everything else is the run's own.
CHANGEABLE = {"kimg", "data", "snap", "snap_minutes", "keep", "batch", "batch_gpu", "compile"}
CHANGEABLE |= {"metrics", "inception", "vgg", "lpips"}
RESUMABLE = {"resume", "dry_run", "gpus", "device", *CHANGEABLE}


def switch(*names: str, default: bool, help: str) -> Any:
    """Return an option that reads `--name`, `--name=1` and `--name=false` alike."""
    return click.option(
        *names,
        type=bool,
        is_flag=False,
        flag_value=True,
        default=default,
        show_default=True,
        metavar="[BOOL]",
        help=help,
    )


@click.command("train")
@click.option("--data", type=click.Path(), help="Training archive (zip or folder).")
@click.option("--outdir", type=click.Path(), default="runs", show_default=True, help="Where run folders are made.")
@click.option(
    "--cfg",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, stylegan2, paper256, paper512, paper1024, cifar, small or tiny for a CPU.",
)
@click.option("--kimg", type=float, default=1000, show_default=True, help="Length, in thousands of images.")
@click.option("--batch", type=int, help="Images per step, all GPUs together [default: by cfg].")
@click.option(
    "--batch-gpu", type=int, help="At most so many at a time on a GPU, to need less memory [default: its share]."
)
@click.option("--gamma", type=float, help="R1 weight [default: by cfg].")
@switch("--cond", default=True, help="Condition on the labels.")
@switch("--mirror", default=False, help="Flip pictures at random.")
@click.option("--subset", type=int, help="Train on so many pictures only [default: all].")
@click.option(
    "--balance",
    type=float,
    default=0,
    show_default=True,
    help="Draw age groups as often as the data has them (0), all equally often (1), or between.",
)
@click.option(
    "--even",
    metavar="ATTRIBUTE",
    help="Within each age group, draw the values of an attribute equally often, as gender  [default: as the data is].",
)
@click.option(
    "--t-start-kimg",
    type=float,
    default=0,
    show_default=True,
    metavar="KIMG",
    help="Train without labels so long; needs --t-end-kimg.",
)
@click.option(
    "--t-end-kimg",
    type=float,
    metavar="KIMG",
    help="Then let them fade in until here: against collapse of small groups  [default: labels from the start].",
)
@click.option("--aug", default="ada", show_default=True, metavar="ada|fixed|noaug", help="Augmentation.")
@click.option("--p", type=float, default=0, show_default=True, help="Strength for --aug fixed, start for ada.")
@click.option("--augpipe", default="bgc", show_default=True, metavar="NAME", help="blit, geom, color, ..., bgcfnc.")
@click.option("--target", type=float, default=0.6, show_default=True, help="What ADA holds sign(D(real)) at.")
@click.option(
    "--resume",
    type=click.Path(),
    help="A run folder to go on with, or weights to start a new run from: a file, an address, ffhq256, ...",
)
@click.option("--freezed", type=int, default=0, show_default=True, help="Layers of D that keep their weights.")
@click.option("--tick", type=float, default=4, show_default=True, help="kimg between lines of progress.")
@click.option("--snap", type=int, default=10, show_default=True, help="Ticks between snapshots.")
@click.option("--snap-minutes", type=float, help="Take a snapshot after so many minutes, too [default: never].")
@click.option("--keep", type=int, help="Keep so many of the newest snapshots, and the best [default: all].")
@click.option("--metrics", default="none", show_default=True, metavar="NAMES", help="At snapshots: fid5k_full, ...")
@click.option("--inception", type=click.Path(), help="Inception weights, for fid, kid, is [default: downloaded].")
@click.option("--vgg", type=click.Path(), help="VGG16 weights, for pr and ppl [default: downloaded].")
@click.option("--lpips", type=click.Path(), help="LPIPS weights, for ppl [default: downloaded].")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@switch("--fp32", default=False, help="Compute in float32 alone: no float16 (GPU), no bfloat16 (CPU).")
@switch("--compile", default=False, help="Compile the networks (torch.compile): minutes at first, then faster steps.")
@click.option("--device", default=None, help="cuda or cpu.  [default: a GPU when there is one]")
@gpus_option
@click.option("-n", "--dry-run", is_flag=True, help="Print the options and stop.")
@click.pass_context
def command(ctx: click.Context, dry_run: bool, gpus: int, device: str | None, **chosen: Any) -> None:
    """Train the generator on faces labelled with age groups.

    Ctrl-C saves and stops; so does SIGTERM, with exit code 75. --resume RUN_FOLDER goes on. The run folder holds a
    log, TensorBoard events, grids of generated faces (columns are age groups, rows keep the latent) and snapshots.

    \b
    Example:
      facegen train --data faces64.zip --cfg tiny --mirror --kimg 400
      facegen train --resume runs/00000-faces64-cond-mirror-tiny-batch16-gamma0.05-ada
      facegen train --data faces256.zip --gpus 8
    """
    from facegen.data.archive import FaceArchive
    from facegen.training.generator import loop
    from facegen.training.generator.options import TrainOptions, check, resolve_options
    from facegen.training.generator.parts import batch_parts
    from facegen.training.run.folder import OPTIONS
    from facegen.weights.hub import USUAL

    resume = chosen["resume"]
    if resume and Path(resume).is_dir() and not (Path(resume) / USUAL).is_file():  # else a folder saved for the hub
        given = {name for name in ctx.params if ctx.get_parameter_source(name) != ParameterSource.DEFAULT}
        if extra := sorted(given - RESUMABLE):
            raise click.UsageError(
                f"--resume {resume} goes on with that run's own options: leave out "
                f"{', '.join('--' + name for name in extra)} "
                "(to start a new run from its weights, name the snapshot file)"
            )
        changed = {name: chosen[name] for name in sorted(CHANGEABLE & given)}
        options = replace(TrainOptions.read(Path(resume) / OPTIONS), **changed)
        check(options)
        batch_parts(options, processes=gpus)  # complains once, not in every process
        if dry_run:
            click.echo(json.dumps(options.to_dict(), indent=2))
            return
        if not run_on_all(ctx, gpus):
            loop.resume_generator(resume, device=device, **changed)
        return
    if not chosen["data"]:
        hint = f"; {resume} is no run folder to go on with" if resume else ""
        raise click.UsageError(f"--data is missing: which training archive? (`facegen prepare` makes one){hint}")
    archive = FaceArchive(chosen["data"], use_labels=False)
    options = resolve_options(resolution=archive.resolution, **chosen)
    if options.even is not None:
        archive.attribute(options.even)  # complains before anything starts
    if dry_run:
        click.echo(json.dumps(options.to_dict(), indent=2))
        return
    batch_parts(options, processes=gpus)
    if not run_on_all(ctx, gpus):
        loop.train_generator(options, device=device)
