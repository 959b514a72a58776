"""Metrics of a generator from files."""

from __future__ import annotations

import time

import torch

from facegen.data.archive import FaceArchive
from facegen.device import pick_device
from facegen.metrics.evaluate import Evaluator
from facegen.metrics.features import load_detectors
from facegen.metrics.names import parse_metrics
from facegen.metrics.options import MetricsOptions
from facegen.metrics.record import append_results
from facegen.metrics.share import ALONE, Share
from facegen.metrics.trained_on import as_trained
from facegen.weights.load import load_generator
from facegen.weights.locate import RUN_OPTIONS, locate


def run_metrics(
    options: MetricsOptions, *, device: str | torch.device | None = None, share: Share = ALONE
) -> dict[str, float]:
    """Return the numbers of a generator, as `Evaluator.measure` does; for a generator in a run folder, also write them
    there.

    They become a line in the folder's `metric-NAME.jsonl`, like the metrics of the training.

    Args:
        options: The files and the metrics; without data, see `as_trained`.
        device: None uses a GPU if there is one.
        share: Which part of the pictures this process handles; all processes return the same numbers.

    Raises:
        FileNotFoundError, FacegenError: a missing or wrong file, or networks that cannot be loaded.
    """
    options, where = as_trained(options, tell=share.rank == 0), pick_device(device)
    assert options.network is not None
    assert options.data is not None
    path = locate(options.network)
    generator, _ = load_generator(path)
    archive = FaceArchive(options.data, use_labels=options.per_group or generator.c_dim > 0)
    detectors = load_detectors(
        parse_metrics(options.metrics),
        inception=options.inception,
        vgg=options.vgg,
        lpips=options.lpips,
        device=where,
        progress=options.verbose,
    )
    evaluator = Evaluator(
        archive,
        options.metrics,
        detectors,
        per_group=options.per_group,
        mirror=bool(options.mirror),
        mirrory=bool(options.mirrory),
        batch=options.batch,
        seed=options.seed,
        share=share,
        progress=options.verbose,
    )
    begun = time.monotonic()
    results = evaluator.measure(generator.to(where))
    if share.rank == 0 and (path.parent / RUN_OPTIONS).is_file():
        append_results(
            path.parent,
            evaluator.metrics,
            results,
            snapshot=path.name,
            seconds=time.monotonic() - begun,
            processes=share.world,
        )
    return results
