"""`facegen prepare`: from a data set to a training archive."""

from __future__ import annotations

from pathlib import Path

import click

from facegen.data.sources import SOURCES


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("archive", type=click.Path(path_type=Path))
@click.option(
    "--source",
    "source_name",
    type=click.Choice(sorted(SOURCES)),
    default="utkface",
    show_default=True,
    help="Which data set SOURCE is.",
)
@click.option(
    "--resolution",
    type=int,
    default=64,
    show_default=True,
    help="Side of the pictures in pixels, a power of two.",
)
@click.option(
    "--groups",
    default=None,
    metavar="GROUPS",
    help="Age groups, as 0-12,13-19,20-39,40-59,60-  [default: 0-10,11-20,...,91-100]",
)
def command(source: Path, archive: Path, source_name: str, resolution: int, groups: str | None) -> None:
    """Turn the pictures in SOURCE (a folder or zip) into the training archive ARCHIVE (a zip).

    Every face gets its age group as label. Files that cannot be used are left out, counted here and listed in
    ARCHIVE.report.json.

    \b
    Example:
      facegen prepare UTKFace/ faces64.zip --source utkface --resolution 64
    """
    from facegen.ages import AgeGroups
    from facegen.data.prepare import prepare, report_path

    report = prepare(
        source,
        archive,
        source_name=source_name,
        resolution=resolution,
        groups=AgeGroups.default() if groups is None else AgeGroups.parse(groups),
    )
    width = max(len(label) for label in report.counts)
    for label, count in report.counts.items():
        click.echo(f"{label:>{width}}  {count:7,d}" + ("" if count else "  <- no face: this class cannot be learnt"))
    for reason, count in report.skip_counts().items():
        click.echo(f"skipped {count:,d}: {reason} (first: {report.skipped[reason][0]['file']})")
    if report.enlarged:
        click.echo(f"enlarged {report.enlarged:,d}: smaller than {resolution}x{resolution}")
    if report.cropped:
        click.echo(f"cut {report.cropped:,d}: not square, the middle was kept")
    if report.template is None:
        click.echo("no faces were found to measure the alignment on; transfer will use the default alignment")
    click.echo(f"{archive}: {report.written:,d} faces of {resolution}x{resolution}; report in {report_path(archive)}")
