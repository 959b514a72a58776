"""`facegen train-encoder`: teach an encoder to find the latent of a face."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from facegen.cli.gpus import gpus_option, run_on_all

FILES = ("generator", "data", "age_estimator", "face_network")  # may have been moved
WITH_RESUME = {"resume", "gpus", "epochs", "device", *FILES}  # the other options come from the run folder


def _blocks(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int, int]:
    try:
        one, two, three = (int(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("give three numbers such as 5,10,5") from error
    return one, two, three


@click.command("train-encoder")
@click.option("--generator", metavar="FILE|RUN|URL", help="Weights of the generator, or its run folder.")
@click.option(
    "--recipe",
    metavar="NAME",
    help="What to learn: zmse, zcos, w, w+, image, real, near, adversarial, age, identity or tune; see "
    "docs/training.md.  [default: age with --data, else w+]",
)
@click.option("--data", metavar="ARCHIVE", help="Training archive of real faces, for the recipes from real on.")
@click.option(
    "--age-estimator",
    metavar="FILE|RUN|URL",
    help="Age estimator for the recipes from image on.  [default: the one in the package]",
)
@click.option(
    "--face-network",
    metavar="FILE",
    help="facenet-pytorch's weights, for the recipe identity.  [default: VGGFace2's, downloaded]",
)
@click.option("--outdir", default="runs", show_default=True, type=click.Path(path_type=Path), help="Where runs go.")
@click.option(
    "--pairs", default=10000, show_default=True, help="Generated faces; a fifth of them validates, 1000 at most."
)
@click.option("--epochs", default=8, show_default=True, help="Passes over the pairs.")
@click.option("--batch", default=32, show_default=True, help="Pairs per step, all GPUs together.")
@click.option("--lr", default=1e-3, show_default=True, help="Learning rate of Adam at the start.")
@click.option("--lr-step", default=3, show_default=True, help="Epochs after which the learning rate falls.")
@click.option("--lr-decay", default=0.3, show_default=True, help="What it falls to, as a factor.")
@click.option(
    "--init",
    default="vggface2",
    show_default=True,
    metavar="vggface2|casia-webface|none|FILE",
    help="Weights to start from; the named ones are downloaded on first use.",
)
@click.option(
    "--blocks",
    default="5,10,5",
    show_default=True,
    callback=_blocks,
    help="Residual blocks to keep of the three stages; 2,2,0 is a small encoder for CPUs.",
)
@click.option("--input-size", default=96, show_default=True, help="Pixels to which the encoder resizes a face (>= 75).")
@click.option("--psi", default=1.0, show_default=True, help="Truncation of the generated faces.")
@click.option("--fp32", is_flag=True, help="Compute in float32 alone, also on a processor that has bfloat16.")
@click.option("--bf16", is_flag=True, help="Compute in bfloat16 wherever it runs  [default: on a CPU that has it].")
@click.option("--seed", default=0, show_default=True, help="Of weights, pairs and their order.")
@click.option("--device", default=None, help="cuda or cpu.  [default: a GPU when there is one]")
@click.option("--resume", metavar="RUN", type=click.Path(path_type=Path), help="Go on with this run folder.")
@gpus_option
@click.pass_context
def command(
    ctx: click.Context,
    generator: str | None,
    recipe: str | None,
    data: str | None,
    age_estimator: str | None,
    face_network: str | None,
    outdir: Path,
    pairs: int,
    epochs: int,
    batch: int,
    lr: float,
    lr_step: int,
    lr_decay: float,
    init: str,
    blocks: tuple[int, int, int],
    input_size: int,
    psi: float,
    fp32: bool,
    bf16: bool,
    seed: int,
    device: str | None,
    resume: Path | None,
    gpus: int,
) -> None:
    """Train the encoder on faces that a generator makes and their latents, and on real faces.

    Writes a new run folder: encoder-best.safetensors, a file per epoch, log.txt, stats.jsonl, curve.png,
    reconstructions.png. Ctrl-C saves and stops; so does SIGTERM, with exit code 75. --resume goes on (with more
    --epochs, if given).

    \b
    Example:
      facegen train-encoder --generator runs/00000-tiny --data faces64.zip --init none
      facegen train-encoder --generator runs/00000-tiny --recipe zmse --pairs 10000 --init none
    """
    from facegen.training.encoder.loop import EncoderOptions, resume_encoder, train_encoder

    if resume is not None:
        given = {name for name in ctx.params if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE}
        if extra := sorted(given - WITH_RESUME):
            unwanted = ", ".join("--" + name.replace("_", "-") for name in extra)
            raise click.UsageError(f"--resume takes its options from the run folder; leave out {unwanted}")
        more = epochs if "epochs" in given else None
        if not run_on_all(ctx, gpus):
            resume_encoder(resume, epochs=more, device=device, **{name: ctx.params[name] for name in FILES})
        return
    if generator is None:
        raise click.UsageError("give --generator FILE (or the run folder of a generator), or --resume RUN")
    options = EncoderOptions(
        generator=generator,
        recipe=recipe,
        data=data,
        age_estimator=age_estimator,
        face_network=face_network,
        pairs=pairs,
        epochs=epochs,
        batch=batch,
        lr=lr,
        lr_step=lr_step,
        lr_decay=lr_decay,
        init=init,
        blocks=blocks,
        input_size=input_size,
        psi=psi,
        fp32=fp32,
        bf16=bf16,
        seed=seed,
    )
    options.check_processes(gpus)  # complains once, not in every process
    if not run_on_all(ctx, gpus):
        train_encoder(options, outdir, device=device)
