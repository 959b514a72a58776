"""`facegen convert`: weights from one format into another."""

from __future__ import annotations

from pathlib import Path

import click

from facegen.ages import AgeGroups
from facegen.cli import force_option, groups_option
from facegen.options import PSI_NAMES, Spelled
from facegen.weights.formats import FORMATS, KINDS, PARTS, SUFFIXES


@click.command()
@click.argument("source", metavar="IN")
@click.argument("destination", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(FORMATS),
    help=f"The format; by default what OUT's suffix says ({', '.join(SUFFIXES)}).",
)
@click.option(
    "--only",
    "network",
    type=click.Choice([*KINDS, *PARTS]),
    metavar="NETWORK",
    help=f"Which of {', '.join([*KINDS, *PARTS])}; by default all that the format holds, or the generator where it "
    "holds one.",
)
@click.option("--group", help="The age group, such as 21-30, that rosinality's generator without classes makes.")
@groups_option
@click.option(
    "--psi", cls=Spelled, also=PSI_NAMES, type=float, help="Truncation, fixed in onnx and torchscript.  [default: 1]"
)
@force_option
def command(
    source: str,
    destination: Path,
    to: str | None,
    network: str | None,
    group: str | None,
    groups: AgeGroups | None,
    psi: float | None,
    force: bool,
) -> None:
    """Convert the weights IN (a file, a run folder, an address or a published network) into the file OUT.

    \b
    safetensors  facegen's own format
    pkl          for the tools of stylegan2-ada-pytorch; carries its own source, which those run
    rosinality   for rosinality/stylegan2-pytorch: one generator, one age group
    onnx         all that ages a face, checked with onnxruntime (pip install 'facegen[onnx]')
    torchscript  the same, for torch.jit.load

    \b
    Example:
      facegen convert network-snapshot-000400.safetensors snapshot.pkl
      facegen convert ffhq.pkl ffhq.safetensors
      facegen convert generator.safetensors young.pt --to rosinality --group 21-30
      facegen convert generator.safetensors synthesis.onnx --only synthesis
    """
    from facegen.status import say
    from facegen.weights.convert import convert

    lines = convert(
        source, destination, to=to, network=network, group=group, truncation_psi=psi, groups=groups, force=force
    )
    say(*lines)
