"""`facegen prepare`: from a data set to a training archive."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facegen.data.sources import all_sources
from facegen.errors import printable

if TYPE_CHECKING:
    from facegen.data.assemble import PrepareReport


def source_options(command: click.Command) -> click.Command:
    """Add the options of all data sets; each says whose it is."""
    takers: dict[str, list[str]] = {}
    options = {}
    for source in all_sources().values():
        for field in fields(source):
            takers.setdefault(field.name, []).append(source.name)
            options[field.name] = field
    for name, field in sorted(options.items()):
        choices, kind = field.metadata["choices"], field.metadata["type"]
        shown = "" if field.default is None else f"; default {field.default}"
        option = click.Option(
            [f"--{name.replace('_', '-')}"],
            type=click.Choice(choices) if choices else kind,
            default=None,
            help=f"{field.metadata['help']}  [only {', '.join(takers[name])}{shown}]",
        )
        command.params.append(option)
    return command


@source_options
@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("archive", type=click.Path(path_type=Path))
@click.option(
    "--source",
    "source_name",
    type=click.Choice(list(all_sources())),
    help="Which data set SOURCE is.  [default: found out from its files]",
)
@click.option(
    "--resolution", type=int, default=64, show_default=True, help="Side of the pictures in pixels, a power of two."
)
@click.option(
    "--groups",
    default=None,
    metavar="GROUPS",
    help="Age groups, as 0-12,13-19,20-39,40-59,60-  [default: 0-10,11-20,...,91-100]",
)
@click.option(
    "--crop",
    type=click.Choice(["as-is", "center", "align"]),
    help="as-is: square pictures, made small. center: the middle square. align: find the face and turn it upright."
    "  [default: by data set]",
)
@click.option("--margin", type=float, help="align: so much wider than the usual frame; 0.5 is half as wide again.")
@click.option("--min-size", type=int, help="Drop faces whose crop spans fewer pixels of the picture.  [default: 24]")
@click.option("--min-sharpness", type=float, help="Drop faces that are more blurred; try 50.  [default: 0]")
@click.option("--max-turn", type=float, help="align: drop faces turned to the side by more degrees.")
@click.option(
    "--several-faces", type=click.Choice(["largest", "drop"]), help="align: which to take.  [default: largest]"
)
@click.option("--no-face", type=click.Choice(["drop", "center"]), help="align: what to do then.  [default: drop]")
@click.option("--max-per-group", type=int, help="At most so many faces of an age group, drawn by --seed.")
@click.option("--per-person", type=int, help="At most so many faces of a person, drawn by --seed.")
@click.option(
    "--near-duplicates",
    type=int,
    metavar="BITS",
    help="Drop pictures that look like one taken: perceptual hashes differ in at most BITS of 64; try 3.",
)
@click.option(
    "--split",
    metavar="SHARES",
    help="Write an archive for each, as train=0.9,val=0.1; a person is in one only.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of every draw.")
@click.option("--shard", metavar="I/N", help="Work on every N-th file only; `facegen merge` joins the N archives.")
def command(
    source: Path,
    archive: Path,
    source_name: str | None,
    resolution: int,
    groups: str | None,
    max_per_group: int | None,
    per_person: int | None,
    near_duplicates: int | None,
    split: str | None,
    seed: int,
    shard: str | None,
    **chosen: Any,
) -> None:
    """Turn the pictures in SOURCE (a folder, zip or CSV table) into the training archive ARCHIVE (a zip).

    Every face gets its age group as label. What cannot be used is left out, counted here by reason and listed in
    ARCHIVE.report.html (for people) and ARCHIVE.report.json. Ctrl-C stops; the same command goes on from there.

    \b
    Example:
      facegen prepare UTKFace/ faces64.zip
      facegen prepare imdb/ faces128.zip --source imdb-wiki --resolution 128 --max-per-group 5000
      facegen prepare faces.csv faces64.zip --age-column years --split train=0.9,val=0.1
    """
    from facegen.ages import AgeGroups
    from facegen.data.crops import CropOptions
    from facegen.data.prepare import prepare, spool_path
    from facegen.data.selection import Choice, parse_split
    from facegen.data.shards import parse_shard
    from facegen.data.sources import open_source

    given = {name: value for name, value in chosen.items() if value is not None}
    crop_names = {field.name for field in fields(CropOptions)}
    crop_options = {name: given.pop(name) for name in list(given) if name in crop_names}
    choice = Choice(max_per_group, per_person, near_duplicates, parse_split(split) if split else (), seed)
    age_groups = AgeGroups.default() if groups is None else AgeGroups.parse(groups)
    part = None if shard is None else parse_shard(shard)
    opened = open_source(source, source_name, **given)[1]
    crop = CropOptions(**{"crop": opened.crop, "resolution": resolution} | crop_options)
    if source_name is None:
        click.echo(f"{source}: {opened.title} (--source {opened.name})")
    try:
        report = prepare(source, archive, source=opened, crop=crop, groups=age_groups, choice=choice, shard=part)
    except KeyboardInterrupt:
        click.echo(
            f"\nstopped; what is done is kept in {spool_path(archive)}: the same command goes on from there", err=True
        )
        raise click.Abort from None
    show(report, archive)


def show(report: PrepareReport, archive: Path) -> None:
    """Print what was written and what was left out."""
    from facegen.data.assemble import report_path
    from facegen.data.report.page import FEW

    for entry in report.archives:
        click.echo(f"{archive.with_name(entry['file'])}: {entry['written']:,d} faces")
        width = max(map(len, entry["groups"]))
        for label, count in entry["groups"].items():
            hint = "  <- no face: this class cannot be learnt" if count == 0 else "  <- few" if count < FEW else ""
            click.echo(f"  {label:>{width}}  {count:7,d}{hint}")
    for reason, files in report.dropped.items():
        detail = f"; {files[0]['detail']}" if files[0]["detail"] else ""
        click.echo(f"dropped {len(files):,d}: {reason} (first: {printable(files[0]['file'])}{printable(detail)})")
    for note, names in report.notes.items():
        click.echo(f"note on {len(names):,d}: {note} (first: {printable(names[0])})")
    if report.template is None:
        click.echo("no faces were found to measure the alignment on; transfer will use the default alignment")
    click.echo(f"{report.written:,d} of {report.read:,d} written, {report.resolution}x{report.resolution}")
    click.echo(f"look at {report_path(archive, '.html')}")
