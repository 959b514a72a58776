"""The snapshots in a run's folder: which there are, which is the best, which may go."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facegen.errors import FacegenError
from facegen.files import atomic_path, write_json
from facegen.reading import is_number, read_json_lines, read_note
from facegen.weights.locate import SNAPSHOTS, files_by_images, list_snapshots

METRICS = "metrics.jsonl"
BEST = "best.json"
FAKES = "fakes*.png"  # for `name_at`
_HIGHER_IS_BETTER = ("pr", "is", "precision", "recall", "cosine", "accuracy")  # of all other metrics, lower


def record_metrics(folder: str | os.PathLike[str], snapshot: str, kimg: float, values: Mapping[str, float]) -> None:
    """Add what was measured of a snapshot to metrics.jsonl, and say in best.json which snapshot is the best so far.

    The first metric of the first call decides which is the best: the lowest FID, KID, PPL; the highest precision, IS.

    Args:
        folder: the run folder.
        snapshot: file name of the snapshot.
        kimg: its age.
        values: numbers by metric, as `{"fid50k_full": 12.3}`.
    """
    if not values:
        raise FacegenError(f"{snapshot}: no metric to record")
    line = {"snapshot": snapshot, "kimg": kimg, **{name: float(value) for name, value in values.items()}}
    _write_metrics(Path(folder), [*read_metrics(folder), line])


def _write_metrics(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl, and choose the best again."""
    with atomic_path(folder / METRICS) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    names = [name for line in lines[:1] for name in line if name not in ("snapshot", "kimg")]
    metric = (read_best(folder) or {}).get("metric") or next(iter(names), "")
    measured = [entry for entry in lines if is_number(entry.get(metric))]
    if not measured:
        (folder / BEST).unlink(missing_ok=True)
    else:
        choose = max if _higher_is_better(metric) else min
        best = choose(measured, key=lambda entry: entry[metric])
        content = {"snapshot": best["snapshot"], "kimg": best["kimg"], "metric": metric, "value": best[metric]}
        write_json(folder / BEST, content)


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl, oldest first; none where nothing was measured."""
    try:
        found = read_json_lines(Path(folder) / METRICS)
    except FileNotFoundError:
        return []
    return [
        {name: value for name, value in line.items() if name == "snapshot" or is_number(value)}
        for line in found
        if isinstance(line.get("snapshot"), str) and is_number(line.get("kimg"))
    ]


def read_best(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what best.json says: `snapshot`, `kimg`, `metric`, `value`; None where nothing was measured."""
    try:
        best = read_note(Path(folder) / BEST)
    except (FileNotFoundError, ValueError):
        return None
    named = isinstance(best.get("snapshot"), str) and isinstance(best.get("metric"), str)
    return best if named and is_number(best.get("kimg")) and is_number(best.get("value")) else None


def prune(folder: str | os.PathLike[str], keep: int | None) -> list[Path]:
    """Delete all snapshots but the `keep` newest and the best, and return what was deleted; None keeps them all."""
    if keep is None:
        return []
    best = (read_best(folder) or {}).get("snapshot")
    old = [path for path in list_snapshots(folder)[:-keep] if path.name != best]
    for path in old:
        path.unlink(missing_ok=True)
    return old


def drop_later(folder: str | os.PathLike[str], images_seen: int) -> None:
    """Delete what is of a time that a run has yet to come to, as it will come again: snapshots, pictures, metrics."""
    measured = read_metrics(folder)
    kept = [line for line in measured if line["kimg"] <= images_seen / 1000]
    if len(kept) < len(measured):
        _write_metrics(Path(folder), kept)
    for images, path in (*files_by_images(folder, SNAPSHOTS), *files_by_images(folder, FAKES)):
        if images > images_seen:
            path.unlink(missing_ok=True)


def _higher_is_better(metric: str) -> bool:
    return metric.lower().startswith(_HIGHER_IS_BETTER)
