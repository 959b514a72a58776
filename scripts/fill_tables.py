"""Put the tables of an evaluation into docs/evaluation_tables.md, in the place of those of a section.

    facegen evaluate --photos utkface128-held.zip --photos-limit 100 --outdir report
    python scripts/fill_tables.py report/table.md "The shipped weights"

What stands between the section's heading and its first table stays: it is written by hand and names the command.
Pages that quote "The shipped weights" (`--quote`: README.md, docs/MODEL_CARD.md, docs/editor.md) get the new cells.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import click

from facegen.errors import FacegenError

PAGE = Path(__file__).parents[1] / "docs" / "evaluation_tables.md"
INTERVAL = re.compile(r" [\[(]")
TABLE = re.compile(r"^### ", re.MULTILINE)  # the heading over a table, here and in table.md


def filled(page: str, section: str, tables: str) -> str:
    """Return the page with the tables of a report in the section of that heading.

    Args:
        page: Markdown, a `## ` heading for each section.
        section: The heading, without `## `.
        tables: The text of the report's table.md; what stands before its first table is left out.

    Raises:
        FacegenError: the page has no such section, or the report no table.
    """
    found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    if found is None:
        sections = re.findall("^## (.+)$", page, re.MULTILINE)
        raise FacegenError(f"{section!r}: no section of that name; there are: {', '.join(sections)}")
    first = TABLE.search(tables)
    if first is None:
        raise FacegenError("no table found: give the table.md of a report")
    by_hand = TABLE.split(found[1], maxsplit=1)[0].rstrip()
    whole = f"\n{by_hand.lstrip()}\n\n{wrapped(tables[first.start() :])}\n"
    after = page[found.end() :]
    return page[: found.start(1)] + whole + ("\n" if after else "") + after


def wrapped(text: str) -> str:
    """Return Markdown whose lines are at most 120 letters long, but for the tables."""
    blocks = [block for block in re.split(r"\n{2,}", text.strip()) if block.strip()]
    return "\n\n".join(block if block.startswith("|") else _filled(block) for block in blocks)


def _filled(paragraph: str) -> str:
    kept = "\u00a0%"  # a percent sign stays beside its number
    return textwrap.fill(paragraph.replace(" %", kept), 120).replace(kept, " %")


def requoted(page: str, tables: str) -> str:
    """Return a page whose tables of systems have the cells of a report, for the rows and columns that it has.

    Args:
        page: Markdown. Tables whose first column is `system` are filled; a cell without an interval stays without.
        tables: The text of the report's table.md; of a row and column, the first counts.
    """
    cells: dict[tuple[str, str], str] = {}
    for columns, _, *rows in _tables(tables):
        for name, *found in rows:
            for column, cell in zip(columns[1:], found, strict=True):
                cells.setdefault((name, column), cell)

    columns: list[str] = []
    lines = page.split("\n")
    for number, line in enumerate(lines):
        row = _row(line) if line.startswith("|") else []
        if row[:1] == ["system"]:
            columns = row
        elif not row:
            columns = []
        elif columns and set(row[0]) - set("-:"):
            new = [cells.get((row[0], column), cell) for column, cell in zip(columns[1:], row[1:], strict=True)]
            pairs = zip(new, row[1:], strict=True)
            kept = [cell if INTERVAL.search(old) else INTERVAL.split(cell)[0] for cell, old in pairs]
            lines[number] = f"| {' | '.join([row[0], *kept])} |"
    return "\n".join(lines)


def _row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _tables(text: str) -> list[list[list[str]]]:
    blocks = re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE)
    return [[_row(line) for line in block.splitlines()] for block in blocks]


@click.command()
@click.argument("tables", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="TABLE.MD")
@click.argument("section")
@click.option("--page", default=PAGE, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The page.")
@click.option("--quote", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="PAGE",
              help="A page that quotes these tables; repeat it for others.")  # fmt: skip
def main(tables: Path, section: str, page: Path, quote: tuple[Path, ...]) -> None:
    """Put the tables of a report into SECTION of docs/evaluation_tables.md."""
    report = tables.read_text(encoding="utf-8")
    try:
        text = filled(page.read_text(encoding="utf-8"), section, report)
    except FacegenError as error:
        raise click.ClickException(str(error)) from error
    page.write_text(text, encoding="utf-8")
    for quoting in quote:
        quoting.write_text(requoted(quoting.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    main()
