"""`facegen inspect`: the contents of a training archive, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--full", is_flag=True, help="Decode every picture. This also finds truncated pictures in folders.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a report with charts and faces to this file."
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all findings to this file."
)
@click.pass_context
def command(ctx: click.Context, archive: Path, full: bool, html: Path | None, json_path: Path | None) -> None:
    """Show and check the contents of the training archive ARCHIVE (a zip or folder).

    ARCHIVE may come from facegen or from a dataset tool of the StyleGAN family. Reads every file and checks labels,
    sizes and damage; looks for identical pictures with different labels, and for labels that contradict the age. The
    exit code is 1 if something is wrong.

    \b
    Example:
      facegen inspect faces64.zip --html faces64.html
    """
    from facegen.data.in_words import inspected
    from facegen.data.inspect import inspect_archive
    from facegen.status import say

    found = inspect_archive(archive, full=full)
    say(*inspected(found, archive))
    if html:
        found.write_html(html)
        say(f"report in {html}")
    if json_path:
        found.write_json(json_path)
        say(f"everything in {json_path}")
    if found.problems:
        ctx.exit(1)
    say("no problem found")
