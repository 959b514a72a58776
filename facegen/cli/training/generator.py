"""`facegen train`: the generator, from a training archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from facegen.cli import device_option, gpus_option, outdir_option
from facegen.options import click_options, options_to_merge
from facegen.training.generator.options import TrainOptions

# Options of the StyleGAN family that have no effect here, and why.
WITHOUT_EFFECT = {
    "nhwc": "facegen chooses the memory layout itself",
    "nobench": "facegen always lets cuDNN choose the fastest algorithm",
}


def family_options(command: Any) -> Any:
    """Give the command what only users of other programs of the family look for."""
    for name in WITHOUT_EFFECT:
        command = click.option(f"--{name}", type=bool, is_flag=False, flag_value=True, hidden=True)(command)
    command = click.option("--topk", hidden=True)(command)
    return click.option(
        "--initstrength", type=float, metavar="P", help="Another name for --p with --aug ada; may exceed 1."
    )(command)


@click.command("train")
@click_options(TrainOptions)
@family_options
@outdir_option
@device_option
@gpus_option
@click.option(
    "-n", "--dry-run", is_flag=True, help="Check everything that a real start checks, print the options, and stop."
)
@click.pass_context
def command(ctx: click.Context, outdir: Path, device: str | None, gpus: int, dry_run: bool, **chosen: Any) -> None:
    """Train the generator on faces labeled with age groups.

    Ctrl-C saves and stops; so does SIGTERM, with exit code 75. --resume RUN_FOLDER continues. The run folder holds a
    log, TensorBoard events, grids of generated faces (one column per age group, one row per latent) and snapshots.

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
    from facegen.training.run.launch import run_on_all

    run, options = _run_and_options(ctx, outdir, chosen)
    if dry_run:
        options = rehearse(options, outdir, processes=gpus, device=device, resume=run)
        say(*json_text(options.to_json(), indent=2).split("\n"))
        return
    if gpus > 1:
        decide_and_open(options, gpus, run)  # complains once, not in every process
    if not run_on_all(ctx, gpus):
        train_generator(options, outdir, device=device, resume=run)


def _run_and_options(ctx: click.Context, outdir: Path, chosen: dict[str, Any]) -> tuple[Path | None, TrainOptions]:
    """Return the run to continue, if the user wants one, and the options; notes go to stderr."""
    from facegen.status import say
    from facegen.training.run.distributed import is_launched
    from facegen.training.run.folder import read_options
    from facegen.training.run.resume import LATEST, what_to_resume

    named = chosen["resume"]
    run, weights = what_to_resume(named, outdir)
    notes = [f"--{name} has no effect: {why}" for name, why in WITHOUT_EFFECT.items() if chosen[name]]
    if run and named.lower() == LATEST:
        notes.append(f"--resume {named}: continues {run}")
    elif weights and weights != named:
        notes.append(f"--resume {named}: starts a new run from {weights}")
    if chosen["topk"] is not None:
        raise click.UsageError("--topk is not supported: it had no effect in the fork that has it")
    if run is not None:
        options = read_options(run, TrainOptions)
        same = {"outdir": named.lower() == LATEST, "initstrength": chosen["initstrength"] == options.p}
        beside = {"resume", "dry_run", "gpus", "device", *WITHOUT_EFFECT, *(name for name in same if same[name])}
        options = replace(options, **options_to_merge(ctx, options, without=beside))
    elif not chosen["data"]:
        hint = f"; {named} is not a run folder that can continue" if weights else ""
        raise click.UsageError(f"--data is missing: which training archive? (`facegen prepare` makes one){hint}")
    else:
        options = TrainOptions.from_command({**chosen, "resume": weights, "p": _first_p(chosen)})
    for note in () if is_launched() else notes:
        say(note, err=True)
    return run, options


def _first_p(chosen: dict[str, Any]) -> float | None:
    """The strength that augmentation starts with, by either of its names."""
    if chosen["initstrength"] is None:
        return chosen["p"]
    if chosen["aug"] != "ada":
        raise click.UsageError(f"--initstrength works only with --aug ada, not with --aug {chosen['aug']}")
    if chosen["p"] is not None:
        raise click.UsageError("--initstrength and --p mean the same with --aug ada: give only one of them")
    return chosen["initstrength"]
