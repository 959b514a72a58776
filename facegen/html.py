"""The parts that a report is put together from: text made safe, pictures in the page, charts. Strings in, HTML out."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

from PIL import Image

from facegen.ages import AgeGroups
from facegen.errors import printable, shorten
from facegen.images import to_rgb

NAME_LENGTH = 72  # letters of a file name that are shown; the rest of a longer one is left out in its middle


def text(value: object, limit: int = 1000) -> str:
    """Any value as HTML text: escaped, control characters made visible, too long ones cut in their middle."""
    return html.escape(printable(shorten(str(value), limit)))


def file_name(name: str) -> str:
    """A file name as code, shortened; the whole of it is the tooltip."""
    return f'<code title="{text(name)}">{text(name, NAME_LENGTH)}</code>'


def number(value: int) -> str:
    """`21314` as `21,314`."""
    return f"{value:,d}"


def share(part: int, whole: int) -> str:
    """`part` of `whole` in per cent, in a way that few are not none and most are not all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "&lt; 0.1 %"
    if 99.9 < percent < 100:
        return "&gt; 99.9 %"
    is_round = percent in {0, 100} or 10 <= percent <= 90
    return f"{percent:.0f} %" if is_round else f"{percent:.1f} %"


def picture(image: Image.Image, alt: str, side: int = 256, title: str = "") -> str:
    """A picture inside the page itself, at most `side` pixels wide and high."""
    image = to_rgb(image)
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # A JPEG's blocks would be half of a tiny picture, which costs little as it is.
    kind = "png" if max(image.size) <= 32 else "jpeg"
    image.save(buffer, kind, quality=90, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    tip = f' title="{text(title)}"' if title else ""
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img src="data:image/{kind};base64,{data}" alt="{text(alt)}"{tip} {size}>'


def age_histogram(ages: Mapping[int, int], groups: AgeGroups | None) -> str:
    """How many faces there are of each age: a bar for each year, the bars of neighbouring groups in two shades.

    The bars are a stretched SVG; the words around it are HTML, so that they keep their size on a narrow screen.
    """
    last = max(*ages, 99)
    step, top = _nice_steps(max(ages.values()))
    starts = [low for low, _ in groups.bounds if low <= last] if groups else []
    ticks = starts if 1 < len(starts) <= 14 else list(range(0, last + 1, 10))
    if last - ticks[-1] > 12:
        ticks = [*ticks, last]
    width = last + 1
    bars, lines = [], []
    for age, count in sorted(ages.items()):
        index = groups.index_of(age) if groups else 0
        shade = "out" if index is None else ("even", "odd")[index % 2]
        place = f'x="{age + 0.08:.2f}" y="{top - count}" width="0.84" height="{count}"'
        years = "1 year" if age == 1 else f"{age} years"
        bars.append(f'<rect class="{shade}" {place}><title>{years}: {number(count)}</title></rect>')
    for value in range(step, top + 1, step):
        lines.append(f'<line class="grid" x1="0" x2="{width}" y1="{top - value}" y2="{top - value}"/>')
    for start in starts:
        if start > 0:
            lines.append(f'<line class="border" x1="{start}" x2="{start}" y1="0" y2="{top}"/>')
    fullest = max(ages, key=lambda age: ages[age])
    summary = (
        f"Bars for {number(sum(ages.values()))} faces of {min(ages)} to {max(ages)} years; "
        f"the most, {number(ages[fullest])}, are {fullest} years old."
    )
    x_words = "".join(f'<span style="left:{100 * (age + 0.5) / width:.2f}%">{age}</span>' for age in ticks)
    y_words = "".join(
        f'<span style="bottom:{100 * value / top:.2f}%">{number(value)}</span>' for value in range(0, top + 1, step)
    )
    return (
        f'<div class="chart"><div class="y" aria-hidden="true">{y_words}</div>'
        f'<svg viewBox="0 0 {width} {top}" preserveAspectRatio="none" role="img" aria-label="{summary}">'
        f'{"".join(lines)}{"".join(bars)}</svg><div class="x" aria-hidden="true">{x_words}</div></div>'
        + _numbers("Ages in numbers", ("age", "faces"), [(str(a), number(ages[a])) for a in sorted(ages)])
    )


def bar(parts: Sequence[tuple[str, int, str]], whole: int) -> str:
    """A bar of stacked `(class, count, words)` parts, as long as their part of `whole`."""
    x, rects = 0, []
    for css, count, words in parts:
        if count:
            tip = f"<title>{text(words)}: {number(count)}</title>"
            rects.append(f'<rect class="{css}" x="{x}" y="0" width="{count}" height="1">{tip}</rect>')
        x += count
    words = ", ".join(f"{words}: {number(count)}" for _, count, words in parts)
    return (
        f'<svg class="bar" viewBox="0 0 {max(whole, 1)} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{text(words)}">{"".join(rects)}</svg>'
    )


def _numbers(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    table = f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f"<details><summary>{text(heading)}</summary>{table}</details>"


def _nice_steps(most: int) -> tuple[int, int]:
    """Distance and end of an axis from 0 that holds `most`, with three to six round steps."""
    power = 10 ** max(len(str(most)) - 1, 0)
    step = next(s for s in (power // 5, power // 2, power, 2 * power) if s >= 1 and most <= 5 * s)
    return step, -(-most // step) * step


STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #ffffff; --ink: #22252a; --soft: #646a73; --line: #e3e0da;
  --even: #2f6f8f; --odd: #7fb2c8; --female: #b5654a; --male: #3f7f8c; --other: #b9b5ad;
  --bad: #b3261e; --bad-back: #fcecea; --good: #2e7142; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --card: #1e2125; --ink: #e6e4df; --soft: #9fa5ad;
  --line: #33373d; --even: #6fb3d2; --odd: #3d7590; --female: #d98b6f; --male: #63aab8; --other: #5c5f64;
  --bad: #ff9a8f; --bad-back: #3a2220; --good: #86c99b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem clamp(1rem, 4vw, 2.5rem) 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
h1, code, dd, figcaption { overflow-wrap: anywhere; }
h1 { font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; margin: 0 0 .25rem; font-weight: 650;
  letter-spacing: -.015em; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; font-weight: 650; letter-spacing: -.01em; }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; font-weight: 650; }
.group h3, h4 { font-size: 1rem; margin: 0; font-weight: 650; }
p { margin: .25rem 0 .75rem; max-width: 46rem; }
.soft, figcaption, summary, th { color: var(--soft); }
.soft { font-weight: 400; }
a { color: var(--even); }
code { font: .85em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1rem 1.5rem;
  margin: 1.5rem 0; padding: 1.1rem 0; border: solid var(--line); border-width: 1px 0; }
dl.facts dt { color: var(--soft); font-size: .85rem; }
dl.facts dd { margin: 0; font-size: 1.3rem; font-weight: 600; line-height: 1.3; }
dl.facts dd small { font-size: .85rem; font-weight: 400; color: var(--soft); display: block; }
.verdict { border-left: 4px solid var(--good); padding: .5rem 1rem; background: var(--card); }
.verdict.bad { border-color: var(--bad); background: var(--bad-back); }
figure { margin: 0; }
figcaption { font-size: .8rem; line-height: 1.35; padding-top: .25rem; text-align: center; }
figcaption b { display: block; color: var(--ink); font-size: .9rem; font-weight: 600; }
img { display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: cover; border-radius: 4px;
  background: var(--line); }
.none { aspect-ratio: 1; border: 1px dashed var(--line); border-radius: 4px; display: grid; place-items: center;
  color: var(--soft); font-size: .8rem; text-align: center; }
.means { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.4rem, 1fr)); gap: .6rem; }
.group { padding: .8rem 0 1rem; border-top: 1px solid var(--line); }
.faces { display: grid; grid-template-columns: repeat(9, 1fr); gap: .5rem; margin-top: .4rem; }
.chart { display: grid; grid-template: 15rem 1.4rem / 3.2rem 1fr; margin-top: 1rem; font-size: .78rem;
  color: var(--soft); }
.chart svg { width: 100%; height: 100%; overflow: visible; border-bottom: 1px solid var(--soft); }
.chart .y, .chart .x { position: relative; white-space: nowrap; }
.chart .x { grid-column: 2; }
.chart .y span { position: absolute; right: .5rem; transform: translateY(50%); }
.chart .x span { position: absolute; top: .2rem; transform: translateX(-50%); }
line { vector-effect: non-scaling-stroke; stroke: var(--line); }
line.border { stroke: var(--soft); stroke-dasharray: 2 4; opacity: .6; }
.even, .faces-bar { fill: var(--even); } .odd { fill: var(--odd); } .out { fill: var(--bad); }
.female { fill: var(--female); background: var(--female); } .male { fill: var(--male); background: var(--male); }
.unknown { fill: var(--other); background: var(--other); }
.key { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin: 0 .35em 0 .9em; }
.bar { display: block; width: 100%; height: .8rem; border-radius: 2px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { font-size: .82rem; font-weight: 500; }
tbody th { color: var(--ink); font-weight: 600; white-space: nowrap; overflow-wrap: normal; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.wide { width: 45%; vertical-align: middle; }
.warn { color: var(--bad); font-size: .82rem; }
table.numbers { width: auto; margin-top: .5rem; } table.numbers td { text-align: right; }
details { margin: .6rem 0; } summary { cursor: pointer; font-size: .9rem; }
.reason { border-top: 1px solid var(--line); padding: 1rem 0 .6rem; }
.reason h3 { margin: 0; }
.reason ul { margin: .4rem 0; padding: 0; list-style: none; font-size: .9rem; }
.reason li { padding: .15rem 0; }
.reason li span { color: var(--soft); }
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .8rem; margin: .6rem 0; }
.thumbs figcaption { text-align: left; font-size: .75rem; }
footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .85rem;
  color: var(--soft); }
@media (max-width: 42rem) { body { padding-top: 1.5rem; }
  .faces { grid-template-columns: repeat(3, 1fr); }
  .means { grid-template-columns: repeat(5, 1fr); gap: .4rem; } .means .soft { display: none; }
  .chart { grid-template: 11rem 1.4rem / 2.6rem 1fr; } td.wide { width: 30%; }
  th, td { padding-right: .5rem; } table { font-size: .88rem; } }
@media print { body { max-width: none; } .group, .reason { break-inside: avoid; } }
"""
