"""The files that an evaluation writes: results.json, table.md, report.html and strips."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

import facegen
from facegen import html
from facegen.evaluation.evaluate import Evaluation
from facegen.evaluation.report.cases import choose_cases, criterion, make_case, order_people
from facegen.evaluation.report.charts import charts
from facegen.evaluation.report.details import detail_tables
from facegen.evaluation.report.tables import (
    NOTHING,
    Table,
    as_markdown,
    as_numbers,
    cosine,
    main_tables,
    percent,
    quartiles_in_words,
    to_json,
    years,
)
from facegen.files import atomic_path
from facegen.images import save_picture
from facegen.text import in_markdown, json_text, shorten

PACKAGES = ("torch", "numpy", "dlib-bin", "facenet-pytorch", "torchmetrics", "torch-fidelity")


@dataclass(frozen=True)
class About:
    """How an evaluation came about.

    Attributes:
        options: The options of the command.
        photos: The archive or folder of the faces.
        available: How many pictures it has.
        age_judge, identity_judge, sex_judge: The judges in words; None where something is left out.
        independent: A sentence on what the judges had to do with the systems.
        notes: What a reader must know: what was left out, and why.
        left_out: Why, by file name.
    """

    options: dict[str, Any]
    photos: str
    available: int
    age_judge: str
    identity_judge: str | None
    independent: str
    sex_judge: str | None = None
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def write_report(outdir: Path, evaluation: Evaluation, about: About) -> Path:
    """Write everything into a folder, each file whole or not at all; returns the page.

    Raises OSError where nothing can be written.
    """
    tables = main_tables(evaluation)
    details = detail_tables(evaluation)
    order = order_people(evaluation.systems[0], np.array(evaluation.targets))
    cases = {
        kind: [[make_case(evaluation, scores, person) for scores in evaluation.systems] for _, person in group]
        for kind, group in groupby(choose_cases(order), key=lambda choice: choice[0])
    }
    _write(outdir / "results.json", json_text(_results(evaluation, about), indent=1) + "\n")
    _write(outdir / "table.md", _markdown([*tables, *details], evaluation, about))
    for old in (outdir / "strips").glob("*.png"):
        if re.match(r"(best|median|worst)\d+-", old.name):  # left by an earlier report in this folder
            old.unlink()
    for kind, rows in cases.items():
        for rank, row in enumerate(rows, 1):
            for scores, case in zip(evaluation.systems, row, strict=True):
                name = f"{kind}{rank}-{plain_name(scores.system.name)}-{scores.output}.png"
                save_picture(case.strip, outdir / "strips" / name)
    page = outdir / "report.html"
    html.write_page(
        page,
        "evaluation.html",
        heading=f"Age transfer on {len(evaluation.faces.names):,d} held-out faces",
        about=about,
        evaluation=evaluation,
        first=evaluation.systems[0],
        faces_in_words=_faces_in_words(evaluation, about),
        judges_in_words=_judges_in_words(about),
        facts=_facts(evaluation),
        tables=tables,
        details=details,
        charts=charts(evaluation),
        cases=cases,
        criterion=criterion(evaluation.systems[0]),
        systems=_system_settings(evaluation),
        settings=_settings(evaluation, about),
        value_and_reach=_value_and_reach,
    )
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
    head = in_markdown(f"{_faces_in_words(evaluation, about)} {_judges_in_words(about)} {about.independent}")
    notes = "".join(f"* {in_markdown(note)}\n" for note in about.notes)
    return f"{head}\n\n{notes}\n" + "\n".join(map(as_markdown, tables))


def _faces_in_words(evaluation: Evaluation, about: About) -> str:
    known = int(evaluation.faces.known.sum())
    ages = "all of known age" if known == len(evaluation.faces.names) else f"{known} of known age"
    return (
        f"{len(evaluation.faces.names):,d} of {about.available:,d} held-out faces of {Path(about.photos).name} "
        f"({ages}), {len(evaluation.targets)} target ages, seed {evaluation.seed}."
    )


def _judges_in_words(about: About) -> str:
    others = {"of identities": about.identity_judge, "of the sex": about.sex_judge}
    words = [f"; {what}: {name}" for what, name in others.items() if name is not None]
    return f"Judge of ages: {about.age_judge}{''.join(words)}."


def _facts(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """The first system's numbers that matter most: name, value, what is to be known with it."""
    first = evaluation.systems[0]
    near = percent(first.age.near)
    error, interval = _value_and_reach(years(first.age.error))
    facts = [
        ("System", html.cut(first.name, 40), f"and {len(evaluation.systems) - 1} to compare"),
        ("Right group or the next", *_value_and_reach(near)),
        ("Age error", error, f"years {interval}"),
    ]
    if first.identity is not None:
        facts += [
            ("Similarity", *_value_and_reach(cosine(first.identity.similarity))),
            ("Accepted as the person", *_value_and_reach(percent(first.identity.accepted))),
        ]
    if first.sex is not None:
        facts.append(("Sex kept", *_value_and_reach(percent(first.sex.kept))))
    return [
        *facts,
        ("Sharpness", *_value_and_reach(quartiles_in_words(first.sharpness))),
        ("Time per photo", f"{first.seconds[1]:.2g} s", html.cut(evaluation.device, 40)),
    ]


def _value_and_reach(words: str) -> tuple[str, str]:
    """A cell of a table as its number and, in brackets, its interval or quartiles."""
    for mark in ("[", "("):
        value, found, reach = words.partition(f" {mark}")
        if found:
            return value, mark + reach
    return words, ""


def _system_settings(evaluation: Evaluation) -> Table:
    """A row for each setting, a column for each system."""
    systems = list({scores.system.name: scores.system for scores in evaluation.systems}.values())
    described = [
        {name: value for key, part in system.description.items() for name, value in _flat(key, part)}
        for system in systems
    ]
    names = list(dict.fromkeys(name for settings in described for name in settings))
    rows = [[name, *(_in_words(settings.get(name)) for settings in described)] for name in names]
    return Table("Systems", "", ["setting", *(system.name for system in systems)], rows)


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """What is in a group of settings, one by one."""
    return list(value.items()) if isinstance(value, dict) else [(name, value)]


def _in_words(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _settings(evaluation: Evaluation, about: About) -> list[tuple[str, str]]:
    """How it was measured, on what, and with which programs."""
    return [
        *((name, _in_words(value)) for name, value in about.options.items()),
        *versions().items(),
        ("device", f"{evaluation.device}, {evaluation.threads} threads"),
        ("faces evaluated", ", ".join(f"{label}: {count}" for label, count in evaluation.group_counts.items())),
    ]


def plain_name(name: str) -> str:
    """A system's name as a part of a file name, not long; letter case does not tell two apart, as on some systems."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).casefold()
    return shorten(plain, 40).replace("…", "__")


def _write(path: Path, content: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
