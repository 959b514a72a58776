"""What an evaluation leaves behind: results.json, table.md, report.html and strips."""

from __future__ import annotations

import importlib.metadata
import io
import math
import platform
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import facegen
from facegen import html
from facegen.evaluation.bootstrap import Estimate
from facegen.evaluation.cases import choose_cases, criterion, make_case, order_people
from facegen.evaluation.evaluate import Evaluation
from facegen.evaluation.tables import (
    NOTHING,
    Table,
    as_markdown,
    as_numbers,
    cosine,
    detail_tables,
    identity_of,
    main_tables,
    percent,
    to_json,
    years,
)
from facegen.figures.grids import save_picture
from facegen.figures.plots import default_settings
from facegen.files import atomic_path
from facegen.text import in_markdown, json_text, shorten, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#2f6f8f", "#b5654a", "#5b8c5a", "#8a5a9e", "#a38a2c", "#646a73")  # one for each system in a chart
PACKAGES = ("torch", "numpy", "dlib-bin", "facenet-pytorch", "torchmetrics", "torch-fidelity")


@dataclass(frozen=True)
class About:
    """How an evaluation came about.

    Attributes:
        options: The options of the command.
        photos: The archive or folder of the faces.
        available: How many pictures it has.
        age_judge, identity_judge: The judges in words; None where identity is left out.
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
                name = f"{kind}{rank}-{plain_name(scores.system.name)}.png"
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
        age_chart=age_chart(evaluation),
        identity_chart=None if evaluation.floor is None else identity_chart(evaluation, evaluation.floor),
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
    identity = "" if about.identity_judge is None else f"; of identities: {about.identity_judge}"
    return f"Judge of ages: {about.age_judge}{identity}."


def _facts(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """The first system's numbers that matter most: name, value, what is to be known with it."""
    first = evaluation.systems[0]
    near = percent(first.age.near)
    error, interval = _value_and_reach(years(first.age.error))
    order = f"{first.monotone[1]:.2f}" if math.isfinite(first.monotone[1]) else NOTHING
    identity = []
    if first.identity is not None:
        identity = [
            ("Similarity", *_value_and_reach(cosine(first.identity.similarity))),
            ("From floor to ceiling", *_value_and_reach(percent(first.identity.share))),
        ]
    return [
        ("System", html.cut(first.system.name, 40), f"and {len(evaluation.systems) - 1} to compare"),
        ("Right group or the next", *_value_and_reach(near)),
        ("Age error", error, f"years {interval}"),
        ("Order along a strip", order, "Spearman, median"),
        *identity,
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
    described = [
        {name: value for key, part in scores.system.description.items() for name, value in _flat(key, part)}
        for scores in evaluation.systems
    ]
    names = list(dict.fromkeys(name for settings in described for name in settings))
    rows = [[name, *(_in_words(settings.get(name)) for settings in described)] for name in names]
    return Table("Systems", "", ["setting", *(scores.system.name for scores in evaluation.systems)], rows)


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


@default_settings()
def age_chart(evaluation: Evaluation) -> Image.Image:
    """Judged against target age: the median of each system, and the band that holds half of its results."""
    figure, axes = _axes("target age, years", "judged age, years")
    targets, order = np.array(evaluation.targets), np.argsort(evaluation.targets)
    reach = [0, max(*evaluation.targets, 100)]
    axes.plot(reach, reach, "--", color="0.6", label="as wanted")
    for number, scores in enumerate(evaluation.systems):
        low, middle, high = np.array([found.quartiles for found in scores.age_per_target]).T
        color = COLORS[number % len(COLORS)]
        axes.plot(
            targets[order], middle[order], color=color, marker="o", markersize=4, label=_in_chart(scores.system.name)
        )
        axes.fill_between(targets[order], low[order], high[order], color=color, alpha=0.15, linewidth=0)
    axes.set(xlim=reach, ylim=reach)
    return _drawn(figure, axes)


@default_settings()
def identity_chart(evaluation: Evaluation, floor: Estimate) -> Image.Image:
    """Similarity of input and result at each target age with its 95 % interval, between floor and ceilings."""
    figure, axes = _axes("target age, years", "similarity to the input")
    targets, order = np.array(evaluation.targets), np.argsort(evaluation.targets)
    for number, scores in enumerate(evaluation.systems):
        identity = identity_of(scores)
        found = [identity.per_target[index] for index in order]
        values = np.array([estimate.value for estimate in found])
        reach = np.array([[e.value - e.low, e.high - e.value] for e in found]).T
        color = COLORS[number % len(COLORS)]
        axes.errorbar(
            targets[order],
            values,
            reach,
            color=color,
            marker="o",
            markersize=4,
            capsize=3,
            label=_in_chart(scores.system.name),
        )
        axes.axhline(identity.ceiling.value, color=color, linestyle=":", linewidth=1.2)
    axes.axhline(floor.value, color="0.5", linestyle="--", label="two different people")
    axes.plot([], [], color="0.3", linestyle=":", label="ceiling: reconstruction")
    return _drawn(figure, axes)


def _in_chart(name: str) -> str:
    """A name for a legend, where dollars would begin a formula and an underscore would hide the line."""
    return " " * name.startswith("_") + shown(name, 40).replace("$", r"\$")


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # not pyplot: no window, no state shared with a notebook

    figure = Figure(figsize=(6.4, 4.4), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def _drawn(figure: Figure, axes: Axes) -> Image.Image:
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")
