"""The two charts of an evaluation, drawn as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facegen.evaluation.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#2f6f8f", "#b5654a", "#5b8c5a", "#8a5a9e", "#a38a2c", "#646a73")


def age_chart(evaluation: Evaluation) -> Image.Image:
    """Judged against target age: the median of each system, and the band that holds half of its results."""
    figure, axes = _axes("target age, years", "judged age, years")
    targets, order = np.array(evaluation.targets), np.argsort(evaluation.targets)
    reach = [0, max(*evaluation.targets, 100)]
    axes.plot(reach, reach, "--", color="0.6", label="as wanted")
    for number, scores in enumerate(evaluation.systems):
        low, middle, high = np.array([found.quartiles for found in scores.age_per_target]).T
        color = COLORS[number % len(COLORS)]
        axes.plot(targets[order], middle[order], color=color, marker="o", markersize=4, label=scores.system.name)
        axes.fill_between(targets[order], low[order], high[order], color=color, alpha=0.15, linewidth=0)
    axes.set(xlim=reach, ylim=reach)
    return _drawn(figure, axes)


def identity_chart(evaluation: Evaluation) -> Image.Image:
    """Similarity of input and result at each target age with its 95 % interval, between floor and ceilings."""
    figure, axes = _axes("target age, years", "similarity to the input")
    targets, order = np.array(evaluation.targets), np.argsort(evaluation.targets)
    for number, scores in enumerate(evaluation.systems):
        found = [scores.identity.per_target[index] for index in order]
        values = np.array([estimate.value for estimate in found])
        reach = np.array([[e.value - e.low, e.high - e.value] for e in found]).T
        color = COLORS[number % len(COLORS)]
        axes.errorbar(
            targets[order], values, reach, color=color, marker="o", markersize=4, capsize=3, label=scores.system.name
        )
        axes.axhline(scores.identity.ceiling.value, color=color, linestyle=":", linewidth=1.2)
    axes.axhline(evaluation.floor.value, color="0.5", linestyle="--", label="two different people")
    axes.plot([], [], color="0.3", linestyle=":", label="ceiling: reconstruction")
    return _drawn(figure, axes)


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
