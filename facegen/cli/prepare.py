"""`facegen prepare`: from a data set to a training archive."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from facegen.cli import force_option
from facegen.data.options import Choice, CropOptions
from facegen.data.sources import all_sources
from facegen.options import click_options, click_options_of_some

OF_PACK = ("--dest", "--width", "--height", "--transform", "--resize-filter", "--max-images", "--quality")


class _PointsToPack(click.Command):
    """Says who takes what the dataset tool of the StyleGAN family takes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in OF_PACK:
                raise
            message = f"{error.option_name}: `facegen pack` has this option, for pictures of any kind"
            raise click.UsageError(message, ctx) from None
        except click.BadParameter as error:
            if error.param is None or error.param.name != "source_name":
                raise
            hint = "name a folder or table without --source; for pictures without ages use `facegen pack`"
            raise click.UsageError(f"{error.format_message().rstrip('.')}; {hint}", ctx) from None


@click.command(cls=_PointsToPack)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("archive", type=click.Path(path_type=Path))
@click.option(
    "--source",
    "source_name",
    type=click.Choice(list(all_sources())),
    help="The data set that SOURCE is.  [default: recognized from its files]",
)
@click.option(
    "--groups",
    metavar="GROUPS",
    help="Age groups, as 0-12,13-19,20-39,40-59,60-  [default: 0-10,11-20,...,91-100]",
)
@click_options(CropOptions, Choice)
@click.option(
    "--shard",
    metavar="I/N",
    help="Process only every N-th file, starting with the I-th. `facegen merge` joins the N archives.",
)
@force_option
@click_options_of_some(all_sources())
def command(
    source: Path,
    archive: Path,
    source_name: str | None,
    groups: str | None,
    shard: str | None,
    force: bool,
    **chosen: Any,
) -> None:
    """Turn the pictures in SOURCE (a folder, zip or CSV table) into the training archive ARCHIVE (a zip).

    Each face is labeled with its age group. Pictures that cannot be used are skipped. They are counted by reason on the
    terminal, and listed in ARCHIVE.report.html and ARCHIVE.report.json. Ctrl-C stops; run the same command again to
    continue.

    \b
    Example:
      facegen prepare UTKFace/ faces64.zip
      facegen prepare imdb/ faces128.zip --source imdb-wiki --resolution 128 --max-per-group 5000
      facegen prepare faces.csv faces64.zip --age-column years --split train=0.9,val=0.1
    """
    from facegen.ages import AgeGroups
    from facegen.data.in_words import prepared
    from facegen.data.prepare import prepare, spool_path
    from facegen.data.shards import parse_shard
    from facegen.data.sources import open_source
    from facegen.status import say

    choice = Choice.from_command(chosen)
    age_groups = AgeGroups.default() if groups is None else AgeGroups.parse(groups)
    part = None if shard is None else parse_shard(shard)
    others = {field.name for field in (*fields(CropOptions), *fields(Choice))}
    given = {name: value for name, value in chosen.items() if value is not None and name not in others}
    opened = open_source(source, source_name, **given)[1]
    crop = CropOptions.from_command(chosen | {"crop": chosen["crop"] or opened.crop})
    if source_name is None:
        say(f"{source}: {opened.title} (--source {opened.name})")
    try:
        report = prepare(
            source, archive, source=opened, crop=crop, groups=age_groups, choice=choice, shard=part, force=force
        )
    except KeyboardInterrupt:
        kept = spool_path(archive)
        say("", f"stopped; finished work is kept in {kept}: run the same command again to continue", err=True)
        raise click.exceptions.Exit(130) from None
    say(*prepared(report, archive))
