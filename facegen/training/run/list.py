"""The training runs in a folder: what each trains, how far it is, how it stands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from facegen.errors import FacegenError, one_line
from facegen.reading import is_number, read_note
from facegen.text import shown
from facegen.training.run.folder import OPTIONS, STATS, read_stats
from facegen.training.run.lock import BROKEN, FINISHED, STATUS, STOPPED, read_status
from facegen.training.run.snapshots import read_best, read_metrics
from facegen.weights.in_words import edits_in_words

# The option that says what it trains with; it must be there.
_CONFIG = {"generator": "cfg", "encoder": "pairs", "age estimator": "arch", "editor": "batch"}
# What stats.jsonl calls the seconds of a kimg or epoch.
_SECONDS = {"encoder": "seconds", "age estimator": "seconds_per_kimg", "editor": "seconds_per_kimg"}
_RECENT = 5  # ticks whose median is the speed: what a run does now, without a tick that was slow by chance


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        path: The folder.
        kind: `generator`, `encoder`, `age estimator` or `editor`; empty where the options cannot be read.
        options: As in training_options.json.
        stats: The lines of stats.jsonl, oldest first.
        metrics: What was measured of its snapshots, oldest first.
        state: `running`, `stopped`, `finished` or `broken`.
        reason: One line on the state, or nothing.
    """

    path: Path
    kind: str
    options: dict[str, Any]
    stats: list[dict[str, Any]] = field(repr=False)
    metrics: list[dict[str, Any]] = field(repr=False)
    state: str
    reason: str = ""

    @property
    def config(self) -> str:
        """What it trains with, in a few words."""
        if self.kind == "encoder":
            recipe = f" {self.options['recipe']}" if self.options.get("recipe") else ""
            return f"encoder{recipe}, {self.options.get('pairs', '?')} pairs"
        if self.kind == "age estimator":
            half = self.options.get("half")
            return f"age estimator, {self.options['arch']}" + (f", {half} half" if half else "")
        if self.kind == "editor":
            return f"editor, batch {self.options['batch']}"
        return f"{self.options['cfg']}, batch {self.options.get('batch', '?')}" if self.kind else ""

    @property
    def sources(self) -> list[str]:
        """The names of what it learns from: the archive, and of an encoder or editor the generator."""
        taught = self.kind in ("encoder", "editor")
        found = [self.options.get("data"), self.options.get("generator") if taught else None]
        return [Path(str(source)).name for source in found if source]

    @property
    def done(self) -> float:
        """kimg, or epochs of an encoder, so far."""
        return float(self.stats[-1]["step"]) if self.stats else 0.0

    @property
    def planned(self) -> float | None:
        """kimg or epochs at the end."""
        return self.options.get("epochs" if self.kind == "encoder" else "kimg")

    @property
    def seconds(self) -> float | None:
        """Seconds per kimg or epoch, of late."""
        name = _SECONDS.get(self.kind, "Timing/sec_per_kimg")
        found = [line[name] for line in self.stats if line.get(name) is not None]
        return median(found[-_RECENT:]) if found else None

    @property
    def p(self) -> float | None:
        """Strength of the augmentation."""
        found = [line["Progress/augment"] for line in self.stats if line.get("Progress/augment") is not None]
        return found[-1] if found else None

    @property
    def measured(self) -> str:
        """The numbers of its best weights (see `best.json`, `encoder-best` or `age-best`) as text."""
        if self.kind == "encoder":
            if not (best := _lowest(self.stats, "val_loss")):
                return ""
            mse = f", MSE {best['val_mse']:.4f}" if best.get("val_mse") is not None else ""
            return f"loss {best['val_loss']:.4f}{mse} at epoch {count(best['step'])}"
        if self.kind == "age estimator":
            best = _lowest(self.stats, "val_mae")
            return f"MAE {best['val_mae']:.2f} years at {count(best['step'])} kimg" if best else ""
        if self.kind == "editor":  # keeps its newest weights: age and identity are at odds, so none are the best
            measured = [(edits, line) for line in self.stats if (edits := edits_in_words(line))]
            return f"{measured[-1][0]} at {count(measured[-1][1]['step'])} kimg" if measured else ""
        try:
            best = read_best(self.path)
        except OSError:
            return ""
        if not best:
            return ""
        words = f"{best['metric']} {best['value']:.4g}"
        return words if len(self.metrics) < 2 else f"{words} at {count(best['kimg'])} kimg"

    @property
    def length(self) -> str:
        """`162 of 400 kimg`."""
        unit = "epochs" if self.kind == "encoder" else "kimg"
        return f"{count(self.done)} of {count(self.planned)} {unit}" if self.planned else ""

    @property
    def speed(self) -> str:
        """`20.5 s/kimg`."""
        unit = "epoch" if self.kind == "encoder" else "kimg"
        return "" if self.seconds is None else f"{count(float(f'{self.seconds:.3g}'))} s/{unit}"

    @property
    def strength(self) -> str:
        """`0.120`, of the augmentation."""
        return "" if self.p is None else f"{self.p:.3f}"


def count(number: float) -> str:
    """Return kimg or epochs as text: all digits before the point and one after it; three digits below ten."""
    return f"{round(number, 1 if number >= 10 else 3):.10g}"


def _lowest(lines: Sequence[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The first of the lines whose number of that name is the lowest, as a training keeps its best weights."""
    measured = [line for line in lines if line.get(name) is not None]
    return min(measured, key=lambda line: line[name], default=None)


def find_runs(folder: str | os.PathLike[str]) -> list[Run]:
    """Return the runs in a folder, by number, or the run if the folder is one; other folders are skipped.

    Raises:
        FileNotFoundError: there is no such folder.
        FacegenError: there is no run in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; give the one that holds the runs, which was --outdir in training"
        )
    paths = (
        [folder] if _is_run(folder) else sorted(path for path in folder.iterdir() if path.is_dir() and _is_run(path))
    )
    if not paths:
        raise FacegenError(f"{folder}: contains no training run, and is not one itself")
    return [read_run(path) for path in paths]


def read_run(path: Path) -> Run:
    """Return what a run folder tells, whatever is missing or damaged in it."""
    try:
        stats = read_stats(path) if (path / STATS).exists() else []
        metrics = read_metrics(path)
    except (OSError, FacegenError) as error:
        return Run(path, "", {}, [], [], BROKEN, one_line(error))
    try:
        options = read_note(path / OPTIONS)
        kind = _kind(options)
        planned = options["epochs" if kind == "encoder" else "kimg"]
        if not is_number(planned) or not isinstance(options[_CONFIG[kind]], str | int):
            raise ValueError
    except (OSError, ValueError, TypeError, LookupError):
        status = read_status(path)
        if status is None or status.state != "running":  # else it is just being made
            return Run(
                path, "", {}, stats, metrics, BROKEN, f"{OPTIONS} is missing or damaged, so the run cannot continue"
            )
        return Run(path, "", {}, stats, metrics, status.state)
    status = read_status(path)
    if status is not None:
        return Run(path, kind, options, stats, metrics, status.state, status.reason)
    # A run of a version that noted nothing. How far it got says whether it came to its end.
    done = bool(stats) and stats[-1]["step"] >= planned
    return Run(path, kind, options, stats, metrics, FINISHED if done else STOPPED)


def as_table(runs: Sequence[Run]) -> str:
    """Return a table of runs as text, the reason for each that is broken below it."""
    rows: list[tuple[str, ...]] = [("STATE", "DONE", "SPEED", "P", "BEST", "CONFIG", "FROM", "RUN")]
    notes = [""]
    for run in runs:
        sources = ", ".join(run.sources)
        row = (run.state, run.length, run.speed, run.strength, run.measured, run.config, sources, run.path.name)
        rows.append(tuple(shown(cell, 255) for cell in row))
        notes.append(f"\n  {shown(run.reason, 500)}" if run.reason and run.state == BROKEN else "")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(line + note for line, note in zip(lines, notes, strict=True))


def _kind(options: dict[str, Any]) -> str:
    """What a run with these options trains."""
    if "pairs" in options:
        return "encoder"
    if "face_network" in options and "generated" in options:
        return "editor"
    return "age estimator" if "arch" in options else "generator"


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in (OPTIONS, STATUS, STATS))
