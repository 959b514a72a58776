"""`facegen train-age`: teach a small network to tell the age of a face."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

WITH_RESUME = {"resume", "kimg", "data", "val", "device"}  # the other options come from the run folder


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> list[int] | None:
    try:
        return None if value is None else [int(part) for part in value.split(",")]
    except ValueError as error:
        raise click.BadParameter("give whole numbers such as 32,64,128,160") from error


@click.command("train-age")
@click.option("--data", metavar="ARCHIVE", help="Training archive with exact ages.")
@click.option("--val", metavar="ARCHIVE", help="Archive to validate with.  [default: a tenth of the data, held back]")
@click.option("--outdir", default="runs", show_default=True, type=click.Path(path_type=Path), help="Where runs go.")
@click.option("--arch", default="resnet", show_default=True, type=click.Choice(["resnet", "plain"]), help="Network.")
@click.option("--widths", callback=_numbers, help="Channels of its stages, as 32,64,128,160.  [default: by --arch]")
@click.option("--depths", callback=_numbers, help="Blocks of its stages, as 1,2,2,1.  [default: by --arch]")
@click.option(
    "--half",
    type=click.Choice(["first", "second"]),
    help="Train on this half of the pictures only; the split is always the same.  [default: on all]",
)
@click.option("--kimg", default=300.0, show_default=True, help="Thousands of pictures to train on.")
@click.option("--batch", default=64, show_default=True, help="Pictures per step.")
@click.option("--lr", default=2e-3, show_default=True, help="Learning rate of AdamW after the warm-up.")
@click.option("--weight-decay", default=0.05, show_default=True, help="Of AdamW.")
@click.option("--sigma", default=2.5, show_default=True, help="Years by which an age is blurred as a target.")
@click.option("--balance", default=0.3, show_default=True, help="0 draws faces as the data has them, 1 groups alike.")
@click.option("--ema", default=100.0, show_default=True, help="Half-life of the averaged weights, in steps.")
@click.option("--dropout", default=0.2, show_default=True, help="Share of features left out in training.")
@click.option("--snap", default=20.0, show_default=True, help="Thousands of pictures between two validations.")
@click.option("--both-sides", is_flag=True, help="Its predictions are means over a face and its mirror image.")
@click.option("--fp32", is_flag=True, help="Compute in float32 alone, also on a processor that has bfloat16.")
@click.option("--bf16", is_flag=True, help="Compute in bfloat16 wherever it runs  [default: on a CPU that has it].")
@click.option("--seed", default=0, show_default=True, help="Of weights, order and distortions.")
@click.option("--license", "licence", help="What may be done with the weights, for their file.")
@click.option("--device", default=None, help="cuda or cpu.  [default: a GPU when there is one]")
@click.option("--resume", metavar="RUN", type=click.Path(path_type=Path), help="Go on with this run folder.")
@click.pass_context
def command(
    ctx: click.Context,
    data: str | None,
    val: str | None,
    outdir: Path,
    arch: str,
    widths: list[int] | None,
    depths: list[int] | None,
    half: str | None,
    kimg: float,
    batch: int,
    lr: float,
    weight_decay: float,
    sigma: float,
    balance: float,
    ema: float,
    dropout: float,
    snap: float,
    both_sides: bool,
    fp32: bool,
    bf16: bool,
    seed: int,
    licence: str | None,
    device: str | None,
    resume: Path | None,
) -> None:
    """Train an age estimator on the faces of a training archive.

    Writes a new run folder: age-best.safetensors, log.txt, stats.jsonl, curve.png and ages.png, which shows predicted
    against true ages. Ctrl-C saves and stops; so does SIGTERM, with exit code 75. --resume goes on (with more --kimg,
    if given).

    \b
    Example:
      facegen train-age --data train.zip --val held.zip --arch resnet --half first --kimg 300
    """
    from facegen.training.age.loop import resume_age, train_age
    from facegen.training.age.options import AgeOptions

    if resume is not None:
        given = {name for name in ctx.params if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE}
        if extra := sorted("license" if name == "licence" else name for name in given - WITH_RESUME):
            raise click.UsageError(f"--resume takes its options from the run folder; leave out --{', --'.join(extra)}")
        resume_age(resume, kimg=kimg if "kimg" in given else None, data=data, val=val, device=device)
        return
    if data is None:
        raise click.UsageError("give --data ARCHIVE, or --resume RUN")
    options = AgeOptions(
        data=data,
        val=val,
        arch=arch,
        widths=widths,
        depths=depths,
        half=half,
        kimg=kimg,
        batch=batch,
        lr=lr,
        weight_decay=weight_decay,
        sigma=sigma,
        balance=balance,
        ema=ema,
        dropout=dropout,
        snap=snap,
        both_sides=both_sides,
        fp32=fp32,
        bf16=bf16,
        seed=seed,
        licence=licence,
    )
    train_age(options, outdir, device=device)
