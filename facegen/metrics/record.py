"""Write metrics to files: a line per measurement in `metric-NAME.jsonl`, as other StyleGAN programs do."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from facegen.files import open_in_place
from facegen.metrics.names import Metric


def finite_or_none(results: Mapping[str, float]) -> dict[str, float | None]:
    """Return the numbers with None for what JSON has no word for."""
    return {name: value if math.isfinite(value) else None for name, value in results.items()}


def append_results(
    folder: str | os.PathLike[str],
    metrics: Iterable[Metric],
    results: Mapping[str, float],
    *,
    snapshot: str,
    seconds: float,
    processes: int = 1,
) -> None:
    """Append one line to `metric-NAME.jsonl` in the folder for each metric, its classes' numbers included."""
    for metric in metrics:
        own = {name: x for name, x in finite_or_none(results).items() if name.split("/")[0] in metric.results}
        line = {
            "results": own,
            "metric": metric.name,
            "total_time": round(seconds, 3),
            "num_gpus": processes,
            "snapshot_pkl": snapshot,
            "timestamp": round(time.time(), 3),
        }
        with open_in_place(Path(folder) / f"metric-{metric.name}.jsonl", append=True) as file:
            file.write(json.dumps(line).encode() + b"\n")
