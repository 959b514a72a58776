"""What an evaluation leaves behind: results.json, table.md, report.html and strips. The page needs no second file."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import facegen
from facegen.evaluation.cases import CRITERION, Case, choose_cases, make_case, order_people
from facegen.evaluation.charts import age_chart, identity_chart
from facegen.evaluation.evaluate import Evaluation
from facegen.evaluation.tables import (
    NOTHING,
    Table,
    as_markdown,
    as_numbers,
    cosine,
    detail_tables,
    main_tables,
    percent,
    to_json,
    years,
)
from facegen.figures import grids as figures
from facegen.files import atomic_path
from facegen.html import STYLE, file_name, number, picture, text

PACKAGES = ("torch", "numpy", "dlib-bin", "facenet-pytorch", "torchmetrics", "torch-fidelity")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
img { aspect-ratio: auto; border-radius: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.5rem; }
tbody th { white-space: normal; min-width: 7rem; } td { white-space: nowrap; text-align: right; }
th { text-align: right; } th:first-child { text-align: left; }
.settings td, .settings th { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.case { margin: .3rem 0 1.4rem; } .case figcaption { text-align: left; }
.case figure { margin-bottom: .5rem; }
"""


@dataclass(frozen=True)
class About:
    """How an evaluation came about.

    Attributes:
        options: Of the command line.
        photos: Where the faces are from.
        available: Pictures there.
        age_judge, identity_judge: In words.
        independent: A sentence on what the judges had to do with the systems.
        notes: What a reader must know: what was left out, and why.
        left_out: Why, by file name.
    """

    options: dict[str, Any]
    photos: str
    available: int
    age_judge: str
    identity_judge: str
    independent: str
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def write_report(outdir: Path, evaluation: Evaluation, about: About) -> Path:
    """Write everything into a folder, each file whole or not at all; returns the page.

    Raises OSError where nothing can be written.
    """
    tables = main_tables(evaluation)
    details = detail_tables(evaluation)
    order = order_people(evaluation.systems[0], np.array(evaluation.targets))
    cases = [
        [make_case(evaluation, scores, kind, person) for scores in evaluation.systems]
        for kind, person in choose_cases(order)
    ]
    _write(outdir / "results.json", json.dumps(_results(evaluation, about), indent=1) + "\n")
    _write(outdir / "table.md", _markdown([*tables, *details], evaluation, about))
    for old in (outdir / "strips").glob("*.png"):
        if re.match(r"(best|median|worst)\d+-", old.name):  # of an earlier report in this folder
            old.unlink()
    ranks: dict[str, int] = {}
    for row in cases:
        ranks[row[0].kind] = ranks.get(row[0].kind, 0) + 1
        for scores, case in zip(evaluation.systems, row, strict=True):
            name = f"{case.kind}{ranks[case.kind]}-{plain_name(scores.system.name)}.png"
            figures.save_picture(case.strip, outdir / "strips" / name)
    page = outdir / "report.html"
    _write(page, _page(evaluation, about, tables, details, cases))
    return page


def _results(evaluation: Evaluation, about: About) -> dict[str, Any]:
    return {
        "facegen": facegen.__version__,
        "versions": versions(),
        "time": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%MZ}",
        **to_json(asdict(about)),
        **as_numbers(evaluation),
    }


def versions() -> dict[str, str]:
    """What the numbers may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _markdown(tables: list[Table], evaluation: Evaluation, about: About) -> str:
    head = f"{_faces_in_words(evaluation, about)} {_judges_in_words(about)} {about.independent}"
    notes = "".join(f"* {note}\n" for note in about.notes)
    return f"{head}\n\n{notes}\n" + "\n".join(map(as_markdown, tables))


def _faces_in_words(evaluation: Evaluation, about: About) -> str:
    known = int(evaluation.faces.known.sum())
    ages = "all of known age" if known == len(evaluation.faces.names) else f"{known} of known age"
    return (
        f"{len(evaluation.faces.names):,d} of {about.available:,d} held-out faces of {Path(about.photos).name} "
        f"({ages}), {len(evaluation.targets)} target ages, seed {evaluation.seed}."
    )


def _judges_in_words(about: About) -> str:
    return f"Judge of ages: {about.age_judge}; of identities: {about.identity_judge}."


def _page(
    evaluation: Evaluation, about: About, tables: list[Table], details: list[Table], cases: list[list[Case]]
) -> str:
    heading = f"Age transfer on {len(evaluation.faces.names):,d} held-out faces"
    notes = "".join(f"<li>{text(note)}</li>" for note in about.notes)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(heading)}</title>\n<style>{STYLE}{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header>\n<h1>{text(heading)}</h1>\n<p class=soft>{text(_faces_in_words(evaluation, about))}</p>\n"
        f"{_facts(evaluation)}</header>\n"
        f"<p>{text(_judges_in_words(about))} {text(about.independent)}</p>\n"
        + (f"<ul>{notes}</ul>\n" if notes else "")
        + "".join(_table(table, "h2") for table in tables)
        + f'<h2>By target age</h2>\n<div class="charts"><figure>'
        f"{picture(age_chart(evaluation), 'judged against target age', 2000)}<figcaption>Judged age: medians, and the "
        f"bands that hold half of the results</figcaption></figure>\n<figure>"
        f"{picture(identity_chart(evaluation), 'similarity by target age', 2000)}<figcaption>Similarity to the input, "
        "with 95 % intervals</figcaption></figure></div>\n"
        + _cases(evaluation, cases)
        + "<h2>For each target</h2>\n"
        + "".join(_table(table, "h3") for table in details)
        + _settings(evaluation, about)
        + f"</main>\n<footer>facegen {facegen.__version__} · {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC · the "
        "faces in this page come from the data set and are under its licence</footer>\n</body>\n</html>\n"
    )


def _facts(evaluation: Evaluation) -> str:
    first = evaluation.systems[0]
    order = f"{first.monotone[1]:.2f}" if math.isfinite(first.monotone[1]) else NOTHING
    facts = [
        ("System", text(first.system.name, 40), f"and {len(evaluation.systems) - 1} to compare"),
        ("Right group or the next", *_split(percent(first.age.near))),
        ("Age error", *_split(years(first.age.error), "years ")),
        ("Order along a strip", order, "Spearman, median"),
        ("Similarity", *_split(cosine(first.identity.similarity))),
        ("From floor to ceiling", *_split(percent(first.identity.share))),
        ("Time per photo", f"{first.seconds[1]:.2g} s", text(evaluation.device, 40)),
    ]
    items = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{extra}</small></dd></div>" for name, value, extra in facts)
    return f'<dl class="facts">{items}</dl>\n'


def _split(words: str, unit: str = "") -> tuple[str, str]:
    value, _, reach = words.partition(" [")
    return value, f"{unit}[{reach}" if reach else unit


def _table(table: Table, level: str) -> str:
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{text(name, 80)}</th>{"".join(f"<td>{_cell(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in table.rows
    )
    return (
        f"<{level}>{text(table.title)}</{level}>\n<p class=soft>{text(table.note, 2000)}</p>\n"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n'
    )


def _cell(words: str) -> str:
    """A number with its interval in small letters below it."""
    for mark in (" [", " ("):
        value, _, reach = words.partition(mark)
        if reach:
            return f"{text(value)}<br><small class=soft>{text(mark.strip() + reach)}</small>"
    return text(words)


def _cases(evaluation: Evaluation, cases: list[list[Case]]) -> str:
    first = evaluation.systems[0].system.name
    parts = []
    kind = ""
    for row in cases:
        if row[0].kind != kind:
            kind = row[0].kind
            parts.append(f"<h3>{kind.capitalize()}</h3>\n")
        strips = "".join(
            f"<figure>{picture(case.strip, case.caption, case.strip.width)}"
            f"<figcaption>{text(case.caption)}</figcaption></figure>"
            for case in row
        )
        parts.append(f'<div class="case">{strips}{file_name(evaluation.faces.names[row[0].person])}</div>\n')
    how = (
        "Input, its reconstruction (again), and every target age. Below each stand target age: judged age, similarity "
        "to the input. "
        f"{CRITERION} The order is that of {first}."
    )
    return f"<h2>Best, median and worst</h2>\n<p class=soft>{text(how)}</p>\n{''.join(parts)}"


def _settings(evaluation: Evaluation, about: About) -> str:
    settings: list[tuple[str, Any]] = [
        *((scores.system.name, scores.system.description) for scores in evaluation.systems),
        *about.options.items(),
        *versions().items(),
        ("device", f"{evaluation.device}, {evaluation.threads} threads"),
        ("faces evaluated", ", ".join(f"{label}: {count}" for label, count in evaluation.group_counts.items())),
    ]
    rows = "".join(
        f"<tr><th scope=row>{text(name, 60)}</th><td>{text('–' if value is None else value, 400)}</td></tr>"
        for name, value in settings
    )
    left_out = ""
    if about.left_out:
        lines = "".join(f"<li>{text(reason, 300)}</li>" for reason in list(about.left_out.values())[:20])
        left_out = f"<h2>Left out</h2>\n<p class=soft>{number(len(about.left_out))} pictures</p><ul>{lines}</ul>\n"
    return f'{left_out}<section><h2>Settings</h2>\n<table class="settings"><tbody>{rows}</tbody></table></section>\n'


def plain_name(name: str) -> str:
    """A system's name as part of a file name; letter case does not tell two apart, as on some file systems."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).casefold()


def _write(path: Path, content: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
