"""`facegen convert`: weights from one format into another."""

from __future__ import annotations

from pathlib import Path

import click

from facegen.ages import AgeGroups
from facegen.cli import force_option, groups_option
from facegen.options import PSI_NAMES, Spelled
from facegen.weights.formats import FORMATS, KINDS, PARTS, SUFFIXES


@click.command()
@click.argument("source", metavar="IN", required=False)
@click.argument("destination", metavar="OUT", required=False, type=click.Path(path_type=Path))
@click.option("--source", "source_option", hidden=True)  # as legacy.py of the StyleGAN family names them
@click.option("--dest", "destination_option", hidden=True, type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(FORMATS),
    help=f"Output format. By default it follows OUT's suffix ({', '.join(SUFFIXES)}; .pt is rosinality for a "
    "generator).",
)
@click.option(
    "--only",
    "network",
    type=click.Choice([*KINDS, *PARTS]),
    metavar="NETWORK",
    help=f"Which of {', '.join([*KINDS, *PARTS])}; by default all that fit into the format, or the generator "
    "if it holds one network.",
)
@click.option("--group", help="The one age group, such as 21-30, that rosinality's generator will draw.")
@groups_option
@click.option(
    "--psi",
    cls=Spelled,
    also=PSI_NAMES,
    type=float,
    help="Truncation to build into onnx and torchscript files.  [default: 1]",
)
@click.option(
    "--force-fp16",
    type=bool,
    is_flag=False,
    flag_value=True,
    default=False,
    metavar="[BOOL]",
    help="Whether generator and discriminator use float16 on a GPU, regardless of what the file says.",
)
@force_option
def command(
    source: str | None,
    destination: Path | None,
    source_option: str | None,
    destination_option: Path | None,
    to: str | None,
    network: str | None,
    group: str | None,
    groups: AgeGroups | None,
    psi: float | None,
    force_fp16: bool,
    force: bool,
) -> None:
    """Convert the weights IN (a file, run folder, URL or published network) into the file OUT.

    \b
    safetensors  facegen's own format
    pkl          for stylegan2-ada-pytorch's tools; holds source code that these run
    rosinality   for rosinality/stylegan2-pytorch: one generator with one age group
    onnx         all that ages a face, checked with onnxruntime (pip install 'facegen[onnx]')
    torchscript  the same, for torch.jit.load

    \b
    Example:
      facegen convert network-snapshot-000400.safetensors snapshot.pkl
      facegen convert ffhq.pkl ffhq.safetensors
      facegen convert generator.safetensors young.pt --group 21-30
      facegen convert generator.safetensors synthesis.onnx --only synthesis
    """
    from facegen.status import say
    from facegen.weights.convert import convert

    source, destination = source_option or source, destination_option or destination
    if source is None or destination is None:
        raise click.UsageError("name two files: IN OUT")
    lines = convert(
        source,
        destination,
        to=to,
        network=network,
        group=group,
        truncation_psi=psi,
        groups=groups,
        force_fp16=force_fp16,
        force=force,
    )
    say(*lines)
