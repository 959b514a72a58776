"""The charts of an evaluation: judged age, identity by age and by distance, and the dial."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facegen.evaluation.bootstrap import Estimate
from facegen.evaluation.evaluate import Evaluation
from facegen.evaluation.report.details import distance_labels, reference_rows
from facegen.evaluation.report.tables import identity_of
from facegen.figures.plots import default_settings
from facegen.text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#2f6f8f", "#b5654a", "#5b8c5a", "#8a5a9e", "#a38a2c", "#646a73")  # one for each row of the tables


def charts(evaluation: Evaluation) -> list[tuple[str, Image.Image]]:
    """Each chart with what it shows, in words."""
    found = [("Judged age: medians, and the bands that hold half of the results", age_chart(evaluation))]
    if evaluation.floor is not None:
        found += [
            ("Similarity to the input, with 95 % intervals", identity_chart(evaluation, evaluation.floor)),
            ("Similarity by the years between a face's age and the target", distance_chart(evaluation)),
            (
                f"The dial: the first system's photos of {evaluation.dial[0].people:,d} people at other strengths",
                dial_chart(evaluation),
            ),
        ]
    return found


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
        axes.plot(targets[order], middle[order], color=color, marker="o", markersize=4, label=_in_chart(scores.name))
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
            label=_in_chart(scores.name),
        )
        axes.axhline(identity.ceiling.value, color=color, linestyle=":", linewidth=1.2)
    axes.axhline(floor.value, color="0.5", linestyle="--", label="two different people")
    axes.plot([], [], color="0.3", linestyle=":", label="ceiling: reconstruction")
    return _drawn(figure, axes)


@default_settings()
def distance_chart(evaluation: Evaluation) -> Image.Image:
    """Similarity by the years between a face's age and the target, beside real people's."""
    figure, axes = _axes("between a face's own age and the target", "similarity to the input")
    labels = distance_labels()
    for number, scores in enumerate(evaluation.systems):
        values = [found.value for found in identity_of(scores).per_distance]
        color = COLORS[number % len(COLORS)]
        axes.plot(labels, values, color=color, marker="o", markersize=4, label=_in_chart(scores.name))
        axes.axhline(identity_of(scores).ceiling.value, color=color, linestyle=":", linewidth=1.2)
    for (name, values), line in zip(reversed(reference_rows(evaluation).items()), ("--", "-.", "-"), strict=False):
        axes.plot(labels, values, color="0.5", linestyle=line, label=name)
    axes.plot([], [], color="0.3", linestyle=":", label="ceiling: reconstruction")
    return _drawn(figure, axes)


@default_settings()
def dial_chart(evaluation: Evaluation) -> Image.Image:
    """Age error against similarity, from strength to strength."""
    figure, axes = _axes("similarity to the input", "age error, years")
    points = [(p.similarity.value, p.age.error.value, p.strength) for p in evaluation.dial if p.similarity is not None]
    turned = [point for point in points if point[2] is not None]
    line = np.array(turned, dtype=float).T[:2]
    axes.plot(*line, color=COLORS[0], marker="o", markersize=4, label="one strength for all")
    for similarity, error, strength in points:
        if strength is None:
            axes.plot(
                [similarity], [error], color=COLORS[1], marker="D", linestyle="", label="its own for each face and age"
            )
        else:
            axes.annotate(f"{strength:g}", (similarity, error), (5, -10), textcoords="offset points", fontsize=8)
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
