"""Training runs as one HTML page: the faces over time, and the curves. No script, no second file, no network."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from PIL import Image

import facegen
from facegen.figures.grids import GAP, MIN_TILE
from facegen.files import atomic_path
from facegen.html import STYLE, file_name, picture, text
from facegen.training.run.list import Run

MOMENTS = 8  # at which faces are shown
POINTS = 300  # of a curve; the page shows no more
GRID_ROWS = 8  # of a picture of fakes
SHOWN_ROWS = (3, 5)  # of these rows: two faces that never change their latent
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
Points = list[tuple[float, float]]

_STYLE = """
img { aspect-ratio: auto; border-radius: 0; }
.state { font-weight: 600; } .running { color: var(--good); } .broken { color: var(--bad); }
.moments { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; align-items: center;
  margin-top: .8rem; font-size: .85rem; color: var(--soft); max-width: 46rem; }
.moments img { width: auto; max-width: 100%; }
tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 11rem; } td { white-space: nowrap; }
.moments > :nth-child(odd) { text-align: right; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.5rem 2.5rem; }
.curves h4 { margin-top: 1rem; } .curves .chart { grid-template: 10rem 1.4rem / 3.2rem 1fr; margin-top: .5rem; }
.chart .y span { top: auto; }
polyline { fill: none; vector-effect: non-scaling-stroke; stroke-width: 1.8; stroke-linejoin: round; }
.s0 { stroke: var(--even); background: var(--even); } .s1 { stroke: var(--female); background: var(--female); }
.curves p { font-size: .82rem; color: var(--soft); margin: .2rem 0 0; } .curves .key { margin-left: 0; }
.curves .key + .key, .curves span + .key { margin-left: .9em; }
"""
# Heading, and what is drawn in it: (words, name in stats.jsonl).
_CURVES = {
    "generator": {
        "Loss": [("G", "Loss/G/loss"), ("D", "Loss/D/loss")],
        "D's opinion": [("of real faces", "Loss/scores/real"), ("of fakes", "Loss/scores/fake")],
        "Strength of the augmentation": [("p", "Progress/augment")],
        "Seconds per kimg": [("seconds", "Timing/sec_per_kimg")],
    },
    "encoder": {
        "Loss": [("training", "train_loss"), ("validation", "val_loss")],
        "Error of the latent (MSE)": [("validation", "val_mse")],
        "Cosine (validation)": [("cosine", "val_cosine")],
    },
    "age estimator": {
        "Mean absolute error, years (validation)": [("error", "val_mae")],
        "Loss": [("training", "loss")],
    },
}


def write_page(path: str | os.PathLike[str], runs: Sequence[Run], heading: str) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file.
        runs: What it shows, see `facegen.training.run.list.find_runs`.
        heading: Its title.
    """
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(heading, 120)}</title>\n<style>{STYLE}{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header>\n<h1>{text(heading, 120)}</h1>\n</header>\n"
        + (_overview(runs) if len(runs) > 1 else "")
        + "".join(_section(number, run) for number, run in enumerate(runs))
        + f"</main>\n<footer>facegen {facegen.__version__} · {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
        "</footer>\n</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _overview(runs: Sequence[Run]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Run", "State", "Done", "Seconds per kimg", "p", "Best"))
    rows = "".join(
        f'<tr><th scope="row"><a href="#run-{number}">{text(run.path.name, 60)}</a></th>'
        f'<td><span class="state {run.state}">{run.state}</span></td><td>{text(run.length())}</td>'
        f"<td class=n>{_figure(run.seconds)}</td><td class=n>{_figure(run.p)}</td><td>{text(run.measured)}</td></tr>"
        for number, run in enumerate(runs)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n'


def _section(number: int, run: Run) -> str:
    per = "epoch" if run.kind == "encoder" else "kimg"
    facts = [("State", f'<span class="state {run.state}">{run.state}</span>', "")]
    if run.length():
        facts.append(("Done", f"{run.done:.4g}", f"of {run.planned:.6g} {per}"))
    if run.seconds is not None:
        facts.append(("Speed", f"{run.seconds:.3g} s", f"per {per}"))
    if run.p is not None:
        facts.append(("Augmentation", f"{run.p:.3f}", "p"))
    if run.measured:
        facts.append(("Best", text(run.measured), ""))
    items = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{extra}</small></dd></div>" for name, value, extra in facts)
    reason = f'<p class="verdict bad">{text(run.reason)}</p>\n' if run.reason and run.state == "broken" else ""
    data = run.options.get("data") or run.options.get("generator")
    origin = f"{text(run.config)}" + (f", from {file_name(Path(str(data)).name)}" if data else "")
    return (
        f'<section id="run-{number}">\n<h2>{text(run.path.name, 120)}</h2>\n<p class="soft">{origin}</p>\n'
        f'<dl class="facts">{items}</dl>\n{reason}{_faces(run)}{_curves(run)}</section>\n'
    )


def _faces(run: Run) -> str:
    """The same faces at several moments, one below the other, and all of the last picture."""
    found = (re.fullmatch(r"fakes(\d+)\.png", path.name) for path in run.path.iterdir())
    moments = sorted((int(match[1]), run.path / match[0]) for match in found if match)
    rows, last = [], None
    for kimg, path in _spread(moments, MOMENTS):
        try:
            with Image.open(path) as opened:
                last = opened.convert("RGB")
        except (OSError, ValueError, SyntaxError):  # a damaged picture is no reason to show none
            continue
        names, faces = _cut(last)
        if not rows and names is not None:
            rows.append(f"<span></span>{picture(names, 'age groups', names.width)}")
        alt = f"generated faces after {kimg} kimg"
        rows.append(f"<span>{kimg} kimg</span>{picture(faces, alt, faces.width)}")
    if last is None:
        return ""
    whole = picture(last, "the newest generated faces", max(last.size))
    return (
        f'<h3>Faces over time</h3>\n<p class="soft">Each face keeps its latent. From top to bottom it trains; '
        f'from left to right only the age group changes.</p>\n<div class="moments">{"".join(rows)}</div>\n'
        f"<details><summary>All of the newest picture</summary>{whole}</details>\n"
    )


def _cut(grid: Image.Image) -> tuple[Image.Image | None, Image.Image]:
    """The names over the columns, and two rows of faces, of a picture of fakes; all of it where it has no such rows."""
    width, height = grid.size
    for pitch in range((height + GAP) // GRID_ROWS, MIN_TILE - 1, -1):
        top = height + GAP - GRID_ROWS * pitch
        if (width + GAP) % pitch == 0 and top < pitch:
            break
    else:
        return None, grid
    faces = Image.new("RGB", (width, len(SHOWN_ROWS) * pitch - GAP), "white")
    for place, row in enumerate(SHOWN_ROWS):
        box = (0, top + row * pitch, width, top + (row + 1) * pitch - GAP)
        faces.paste(grid.crop(box), (0, place * pitch))
    return grid.crop((0, 0, width, top)) if top else None, faces


def _spread(items: list[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    """At most so many of the items, evenly, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _curves(run: Run) -> str:
    charts = []
    for heading, curves in _CURVES.get(run.kind, {}).items():
        charts.append(line_chart(heading, {words: _points(run.stats, "step", name) for words, name in curves}))
    for name in sorted({name for line in run.metrics for name in line if "/" not in name} - {"snapshot", "kimg"}):
        charts.append(line_chart(name, {name: _points(run.metrics, "kimg", name)}))
    charts = [chart for chart in charts if chart]
    axis = "epochs" if run.kind == "encoder" else "kimg"
    return f'<h3>Curves over {axis}</h3>\n<div class="curves">{"".join(charts)}</div>\n' if charts else ""


def _points(lines: list[dict], x: str, y: str) -> Points:
    """The finite values of a number, thinned to what a screen can show."""
    found = [(line[x], line[y]) for line in lines if _is_finite(line.get(x)) and _is_finite(line.get(y))]
    step = max(1, math.ceil(len(found) / POINTS))
    return found[::step] + ([found[-1]] if found and (len(found) - 1) % step else [])


def line_chart(heading: str, curves: dict[str, Points]) -> str:
    """Draw one or two curves over one axis as SVG; nothing where none has two points.

    Args:
        heading: Over the chart.
        curves: Points by name.
    """
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        return ""
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    left, right = min(xs), max(xs)
    ticks = _ticks(min(ys), max(ys))
    low, high = ticks[0], ticks[-1]

    def place(x: float, y: float) -> str:
        return f"{1000 * (x - left) / ((right - left) or 1):.1f},{1000 * (high - y) / (high - low):.1f}"

    lines = "".join(
        f'<polyline class="s{number % 2}" points="{" ".join(place(x, y) for x, y in points)}"/>'
        for number, points in enumerate(curves.values())
    )
    grid = "".join(
        f'<line x1="0" x2="1000" y1="{y:.1f}" y2="{y:.1f}"/>'
        for y in (1000 * (high - tick) / (high - low) for tick in ticks)
    )
    y_words = "".join(
        f'<span style="bottom:{100 * (tick - low) / (high - low):.2f}%">{_figure(tick)}</span>' for tick in ticks
    )
    marks = [tick for tick in _ticks(left, right) if left <= tick <= right]
    x_words = "".join(
        f'<span style="left:{100 * (tick - left) / ((right - left) or 1):.2f}%">{_figure(tick)}</span>'
        for tick in marks
    )
    ends = [
        f"{name}: {_figure(points[0][1])} at first, {_figure(points[-1][1])} at last" for name, points in curves.items()
    ]
    keys = "".join(
        f'<span class="key s{number % 2}"></span><span>{text(name)}: {_figure(points[-1][1])}</span>'
        for number, (name, points) in enumerate(curves.items())
    )
    return (
        f"<div><h4>{text(heading)}</h4><p>{keys}</p>"
        f'<div class="chart"><div class="y" aria-hidden="true">{y_words}</div>'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{text("; ".join(ends))}">'
        f'{grid}{lines}</svg><div class="x" aria-hidden="true">{x_words}</div></div></div>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that take in everything from `low` to `high`."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(step for factor in (1, 2, 5, 10) if (step := factor * power) * 5 >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{round(value, 10):.4g}"


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
