"""Metrics of a generator from files."""

from __future__ import annotations

from facegen.data.archive import FaceArchive
from facegen.device import pick_device
from facegen.metrics.evaluate import Evaluator
from facegen.metrics.features import load_detectors
from facegen.metrics.names import parse_metrics
from facegen.metrics.options import MetricsOptions
from facegen.weights.load import load_generator


def run_metrics(options: MetricsOptions, *, device: str | None = None) -> dict[str, float]:
    """Return the numbers of a generator, as `Evaluator.measure` does.

    Args:
        options: The files and the metrics.
        device: None takes a GPU when there is one.

    Raises:
        FileNotFoundError, FacegenError: a file that is missing or wrong, or networks that cannot be had.
    """
    where = pick_device(device)
    generator, _ = load_generator(options.network)
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
    return evaluator.measure(generator.to(where))
