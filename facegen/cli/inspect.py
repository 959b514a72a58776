"""`facegen inspect`: what a training archive holds, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--full", is_flag=True, help="Decode every picture, which also finds truncated ones in folders.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the report with charts and faces here."
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write everything found here."
)
@click.pass_context
def command(ctx: click.Context, archive: Path, full: bool, html: Path | None, json_path: Path | None) -> None:
    """Show and check what the training archive ARCHIVE (a zip or folder) holds.

    It may be facegen's own or one that the dataset tool of the StyleGAN family wrote. Every file is read; labels,
    sizes, damage, identical pictures under different labels and labels that contradict the age are checked. Ends
    with exit code 1 when something is wrong.

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
