"""`facegen merge`: join the shards of a data set."""

from __future__ import annotations

from pathlib import Path

import click

from facegen.cli import force_option


@click.command()
@click.argument("shards", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.argument("archive", type=click.Path(path_type=Path))
@force_option
def command(shards: tuple[Path, ...], archive: Path, force: bool) -> None:
    """Join SHARDS, written by `facegen prepare --shard i/n`, into the training archive ARCHIVE.

    The result is the same as from one run of `facegen prepare` with the same options: limits, duplicates and splits are
    decided here, over all shards.

    \b
    Example:
      facegen prepare imdb/ shard1.zip --max-per-group 5000 --shard 1/2     # on one machine
      facegen prepare imdb/ shard2.zip --max-per-group 5000 --shard 2/2     # on another
      facegen merge shard1.zip shard2.zip faces64.zip
    """
    from facegen.data.in_words import prepared
    from facegen.data.shards import merge
    from facegen.status import say

    say(*prepared(merge(shards, archive, force=force), archive))
