"""Metrics of a generator from files."""

from __future__ import annotations

import time

from facegen.data.archive import FaceArchive
from facegen.device import pick_device
from facegen.metrics.evaluate import Evaluator
from facegen.metrics.features import load_detectors
from facegen.metrics.names import parse_metrics
from facegen.metrics.options import MetricsOptions
from facegen.metrics.record import append_results
from facegen.weights.load import load_generator
from facegen.weights.locate import RUN_OPTIONS, locate


def run_metrics(options: MetricsOptions, *, device: str | None = None) -> dict[str, float]:
    """Return the numbers of a generator, as `Evaluator.measure` does; of one in a run folder, note them there, too.

    They become a line in the folder's `metric-NAME.jsonl`, as the metrics of the training.

    Args:
        options: The files and the metrics.
        device: None takes a GPU when there is one.

    Raises:
        FileNotFoundError, FacegenError: a file that is missing or wrong, or networks that cannot be had.
    """
    where = pick_device(device)
    path = locate(options.network)
    generator, _ = load_generator(path)
    archive = FaceArchive(options.data, use_labels=options.per_group or generator.c_dim > 0)
    detectors = load_detectors(
        parse_metrics(options.metrics),
        inception=options.inception,
        vgg=options.vgg,
        lpips=options.lpips,
        device=where,
    )
    evaluator = Evaluator(
        archive, options.metrics, detectors, per_group=options.per_group, batch=options.batch, seed=options.seed
    )
    begun = time.monotonic()
    results = evaluator.measure(generator.to(where))
    if (path.parent / RUN_OPTIONS).is_file():
        seconds = time.monotonic() - begun
        append_results(path.parent, parse_metrics(options.metrics), results, snapshot=path.name, seconds=seconds)
    return results
