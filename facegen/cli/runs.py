"""`facegen runs`: the state of the training runs in a folder."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="[DIR]", default="runs", type=click.Path(path_type=Path))
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with curves and faces over time to this file.",
)
def command(folder: Path, html: Path | None) -> None:
    """Show the training runs in the folder DIR (default: runs). DIR may also be a single run.

    A run is running while its process lives, finished when it has reached its planned length, and broken if an error
    ended it or its options are missing. Otherwise it is stopped, and `facegen train --resume` continues it.

    \b
    Example:
      facegen runs runs --html runs.html
    """
    from facegen.status import say
    from facegen.training.run.list import as_table, find_runs

    runs = find_runs(folder)
    say(*as_table(runs).split("\n"))
    if html is not None:
        from facegen.training.run.page import write_page

        write_page(html, runs, folder.resolve().name)
        say("", f"{html}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}")
