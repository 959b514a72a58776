"""`facegen inspect`: what a training archive holds, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import click

from facegen.errors import printable, shorten

_SHOWN = 3  # problems of each kind that are printed; --json has them all
_MAX_CLASSES = 40


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
    from facegen.data.contents import count_by_kind
    from facegen.data.inspect import inspect_archive

    found = inspect_archive(archive, full=full)
    summary = found.summary
    entry, resolution = summary["archives"][0], summary["resolution"]
    size = f" of {resolution}x{resolution}" if resolution else ""
    click.echo(
        f"{archive}: {summary['written']:,d} pictures{size}, {len(summary['groups'])} classes; {summary['title']}"
    )
    filled = {name: count for name, count in entry["groups"].items() if count or len(entry["groups"]) <= _MAX_CLASSES}
    width = max(map(len, filled), default=0)
    for name, count in list(filled.items())[:_MAX_CLASSES]:
        click.echo(f"  {name:>{width}}  {count:7,d}")
    if len(filled) > _MAX_CLASSES:
        click.echo(f"  and {len(filled) - _MAX_CLASSES} more classes")
    for attribute, table in entry.get("attributes", {}).items():
        _show_attribute(attribute, {name: table[name] for name in list(filled or table)[:_MAX_CLASSES]}, width)
    if entry["ages"]:
        ages = [int(age) for age in entry["ages"]]
        click.echo(f"ages from {min(ages)} to {max(ages)}, known exactly for {sum(entry['ages'].values()):,d} pictures")
    if entry.get("persons"):
        click.echo(f"persons: {entry['persons']:,d}")
    for note in found.notes:
        click.echo(f"note: {_visible(note)}")
    for kind, problems in count_by_kind(found.problems).items():
        click.echo(f"PROBLEM: {kind} ({len(problems):,d})")
        for problem in problems[:_SHOWN]:
            click.echo(f"  {_visible(': '.join(filter(None, (problem.file, problem.detail))))}")
        if len(problems) > _SHOWN:
            click.echo(f"  and {len(problems) - _SHOWN:,d} more")
    if html:
        found.write_html(html)
        click.echo(f"report in {html}")
    if json_path:
        found.write_json(json_path)
        click.echo(f"everything in {json_path}")
    if found.problems:
        ctx.exit(1)
    click.echo("no problem found")


def _show_attribute(attribute: str, table: dict[str, dict[str, int]], width: int) -> None:
    """Print how many pictures of each class have each value of an attribute."""
    values = next(iter(table.values()), {})
    words = {value: _visible(value) for value in values}
    click.echo(f"{_visible(attribute)}:")
    click.echo("  " + " " * width + "".join(f"  {word:>7}" for word in words.values()))
    for name, counts in table.items():
        cells = (f"  {counts[value]:{max(7, len(word))},d}" for value, word in words.items())
        click.echo(f"  {name:>{width}}{''.join(cells)}")


def _visible(words: str) -> str:
    """Return one line for a terminal, whatever a file name holds."""
    return shorten(printable(words), 240)
