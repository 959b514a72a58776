"""Training runs as one HTML page: the faces over time, and the curves."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from facegen import html, reading
from facegen.figures.grids import GAP, MIN_TILE
from facegen.images import opened
from facegen.reading import is_number, read_bytes
from facegen.training.run.list import Run
from facegen.training.run.snapshots import FAKES
from facegen.weights.locate import files_by_images

MOMENTS = 8  # at which faces are shown
MAX_METRICS = 30  # that have a chart; there are half as many
POINTS = 300  # of a curve, at most, on the page
GRID_ROWS = 8  # in a picture of fakes
SHOWN_ROWS = (3, 5)  # two of these rows: faces that never change their latent
MANY_PIXELS, MOST_PIXELS_PER_BYTE = 2**24, 40  # a picture of more pixels has at least a byte for so many
Points = list[tuple[float, float]]

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
    "editor": {
        "Error of the age, years (validation)": [("error", "val_age_error")],
        "Kept (validation)": [("identity", "val_identity"), ("sex", "val_sex_kept")],
        "Loss": [("all", "loss"), ("before the discriminator", "adversarial")],
        "Losses of age and sex": [("age", "age"), ("sex", "sex")],
        "Loss of identity": [("identity", "identity")],
        "Changes that should not happen": [("of equal ages", "same"), ("after there and back", "cycle")],
        "Seconds per kimg": [("seconds", "seconds_per_kimg")],
    },
}

# Heading, words and file of the picture that such a training ends with.
_RESULTS = {
    "encoder": (
        "Reconstructions",
        "Faces it never saw, and below each what the generator makes of its latent.",
        "reconstructions.png",
    ),
    "age estimator": ("Ages", "Its predictions for the validation faces, against their true ages.", "ages.png"),
    "editor": ("Edits", "Validation faces from young to old, each at five ages.", "edits.png"),
}


def write_page(path: str | os.PathLike[str], runs: Sequence[Run], heading: str) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file.
        runs: The runs it shows, see `facegen.training.run.list.find_runs`.
        heading: Its title.
    """
    sections = [{"run": run, "charts": _charts(run), "result": _result(run), **_faces(run)} for run in runs]
    html.write_page(path, "runs.html", heading=heading, sections=sections)


def _result(run: Run) -> tuple[str, str, Image.Image] | None:
    """The picture that a training makes of what it has learned, with a heading and words on it."""
    heading, words, name = _RESULTS.get(run.kind, ("", "", ""))
    picture = _opened(run.path / name) if name else None
    return None if picture is None else (heading, words, picture)


def _opened(path: Path) -> Image.Image | None:
    """A picture of a run; None where it is missing or damaged, which is no reason to show nothing else."""
    try:
        data = read_bytes(path, reading.MAX_TEXT_BYTES)
        with opened(data, str(path)) as picture:
            if picture.width * picture.height > max(MANY_PIXELS, MOST_PIXELS_PER_BYTE * len(data)):
                return None  # nothing that a training draws packs so well
            return picture.convert("RGB")
    except (OSError, ValueError):
        return None


def _faces(run: Run) -> dict[str, Any]:
    """The same faces at several moments, with the names above them, and all of the last picture."""
    moments: list[tuple[str, Image.Image]] = []
    names, last = None, None
    for images, path in _spread(files_by_images(run.path, FAKES), MOMENTS):
        if (picture := _opened(path)) is None:
            continue
        last = picture
        above, faces = cut_rows(last)
        if not moments:
            names = above
        moments.append((f"{images / 1000:g}", faces))
    return {"moments": moments, "names": names, "last": last}


def cut_rows(grid: Image.Image) -> tuple[Image.Image | None, Image.Image]:
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
    """At most `most` of the items, evenly, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _charts(run: Run) -> list[dict[str, Any]]:
    charts = [
        line_chart(heading, {words: _points(run.stats, "step", name) for words, name in curves})
        for heading, curves in _CURVES.get(run.kind, {}).items()
    ]
    named = Counter(name for line in run.metrics for name in line.keys() - {"snapshot", "kimg"} if "/" not in name)
    for name, _ in sorted(named.most_common(MAX_METRICS)):
        charts.append(line_chart(name, {name: _points(run.metrics, "kimg", name)}))
    return [chart for chart in charts if chart is not None]


def _points(lines: Iterable[Mapping[str, Any]], x: str, y: str) -> Points:
    """The finite values of a number, thinned to what a screen can show."""
    found = [(line[x], line[y]) for line in lines if is_number(line.get(x)) and is_number(line.get(y))]
    step = max(1, math.ceil(len(found) / POINTS))
    return found[::step] + ([found[-1]] if found and (len(found) - 1) % step else [])


def line_chart(heading: str, curves: Mapping[str, Points]) -> dict[str, Any] | None:
    """What the page needs to draw curves over one axis; None where no curve has two points.

    Args:
        heading: Stands over the chart.
        curves: Points by name.
    """
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        return None
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    marks = html.ticks(min(ys), max(ys))
    left, width = min(xs), (max(xs) - min(xs)) or 1
    low, high = marks[0], marks[-1]

    def across(x: float, whole: int) -> float:
        return whole * (x - left) / width

    def down(y: float) -> float:
        return 1000 * (high - y) / (high - low)

    ends = [
        f"{name}: {html.short(points[0][1])} at first, {html.short(points[-1][1])} at last"
        for name, points in curves.items()
    ]
    return {
        "heading": heading,
        "width": 1000,
        "height": 1000,
        "label": "; ".join(ends),
        "newest": [(name, points[-1][1]) for name, points in curves.items()],
        "grid": [f"{down(mark):.1f}" for mark in marks],
        "lines": [" ".join(f"{across(x, 1000):.1f},{down(y):.1f}" for x, y in points) for points in curves.values()],
        "x": [(f"{across(x, 100):.2f}", html.short(x)) for x in html.ticks(left, max(xs)) if left <= x <= max(xs)],
        "y": [(f"{100 * (mark - low) / (high - low):.2f}", html.short(mark)) for mark in marks],
    }
