"""Plots of trainings: curves, and predicted against true ages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from facegen.files import atomic_path
from facegen.reading import read_text

SETTINGS = Path("matplotlibrc")


def check_settings() -> None:
    """Raise a FacegenError if matplotlib cannot be imported here, as it reads a file of the current folder then."""
    if SETTINGS.exists() and not SETTINGS.is_dir():
        read_text(SETTINGS)


@contextmanager
def default_settings() -> Iterator[None]:
    """Within this context matplotlib draws as it does by itself, whatever it has read in the current folder."""
    check_settings()
    import matplotlib.style

    with matplotlib.style.context("default"):
        yield


@default_settings()
def plot_curves(
    path: str | os.PathLike[str],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    baselines: Mapping[str, float] | None = None,
) -> Path:
    """Draw named curves (x values, y values) as a PNG; `baselines` are dashed horizontal lines."""
    from matplotlib.figure import Figure  # not pyplot: no window, no state shared with a notebook

    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, (x, y) in curves.items():
        axes.plot(x, y, label=name, marker="o" if len(x) <= 30 else None, markersize=3.5)
    for name, level in (baselines or {}).items():
        axes.axhline(level, label=name, linestyle="--", color="0.5")
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if all(float(value).is_integer() for x, _ in curves.values() for value in x):
        axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


@default_settings()
def plot_ages(
    path: str | os.PathLike[str], true: np.ndarray, predicted: np.ndarray, mae_by_group: Mapping[str, float]
) -> Path:
    """Draw true against predicted ages, and the mean absolute error of each age group, as a PNG.

    Args:
        true: In years, `[N]`.
        predicted: In years, `[N]`.
        mae_by_group: Label of an age group -> its error in years.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    last = max(100.0, float(np.max(true)))
    # Most faces are near the diagonal; a logarithm shows the others too.
    left.hexbin(true, predicted, gridsize=50, bins="log", mincnt=1, cmap="viridis", extent=(0, last, 0, last))
    left.plot([0, last], [0, last], color="0.3", linewidth=1, linestyle="--")
    mae = float(np.abs(np.asarray(predicted) - np.asarray(true)).mean())
    left.set(xlabel="true age", ylabel="predicted age", title=f"{len(true)} faces, MAE {mae:.2f} years", aspect="equal")
    bars = right.bar(list(mae_by_group), list(mae_by_group.values()), color="tab:blue")
    right.bar_label(bars, fmt="%.1f")
    right.axhline(mae, color="0.3", linewidth=1, linestyle="--")
    right.set(xlabel="age group", ylabel="MAE, years", title="by age group")
    right.tick_params(axis="x", labelrotation=45)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)
