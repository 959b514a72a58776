"""Metrics during the training: measured after a snapshot is written, of the weights in it."""

from __future__ import annotations

import math
import time

import torch

from facegen.data.archive import FaceArchive
from facegen.metrics.evaluate import Evaluator
from facegen.metrics.features import load_detectors
from facegen.metrics.names import parse_metrics
from facegen.metrics.record import append_results
from facegen.metrics.share import Share
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.saving import is_out_of_memory
from facegen.training.generator.state import TrainingState
from facegen.training.run import distributed
from facegen.training.run.session import Session
from facegen.training.run.snapshots import record_metrics
from facegen.weights.locate import snapshot_name


class Measurements:
    """The metrics of a run; making them loads the judging networks and looks at the real pictures.

    So whatever is missing is reported before the training starts. All processes share the pictures.

    Args:
        options: the run's options; without `metrics` there is nothing to do, ever.
        device: where the training runs.
        progress: show progress bars.

    Raises:
        FileNotFoundError, FacegenError: an unknown metric, weights that cannot be had, data that does not fit.
    """

    def __init__(self, options: TrainOptions, device: torch.device, progress: bool) -> None:
        self._evaluator: Evaluator | None = None
        metrics = parse_metrics(options.metrics)
        if metrics:
            weights = {"inception": options.inception, "vgg": options.vgg, "lpips": options.lpips}
            # All pictures, also where the training sees a part: the aim is the data set. `_full` has them as they are.
            archive = FaceArchive(options.data, use_labels=options.cond)
            self._evaluator = Evaluator(
                archive,
                options.metrics,
                load_detectors(metrics, **weights, device=device, progress=progress),
                mirror=options.mirror,
                mirrory=options.mirrory,
                share=Share(distributed.rank(), distributed.world_size(), distributed.gather),
                progress=progress,
            )

    def after_snapshot(self, session: Session, state: TrainingState) -> None:
        """Measure `G_ema` and write the numbers to the log, the statistics and the files of metrics.

        Memory that runs out costs the measurement, not the run.
        """
        if self._evaluator is None:
            return
        start = time.perf_counter()
        kimg = state.images_seen / 1000
        try:
            results = self._evaluator.measure(state.G_ema)
        except (MemoryError, RuntimeError) as error:
            if distributed.world_size() > 1 or not is_out_of_memory(error):
                raise
            session.log(f"at {kimg:.1f} kimg: out of memory while measuring; training continues without these numbers")
            return
        seconds = time.perf_counter() - start
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in results.items())
        values = {"Progress/kimg": kimg, **{f"Metrics/{name}": value for name, value in results.items()}}
        session.report(kimg, values, f"kimg {kimg:<8.1f} {numbers}  ({seconds:.0f} s)", state.images_seen)
        snapshot = snapshot_name(state.images_seen)
        if distributed.is_main() and (session.path / snapshot).exists():  # on a full disk there is none
            append_results(
                session.path,
                self._evaluator.metrics,
                results,
                snapshot=snapshot,
                seconds=seconds,
                processes=distributed.world_size(),
            )
            finite = {name: value for name, value in results.items() if math.isfinite(value)}
            if finite:
                record_metrics(session.path, snapshot, kimg, finite)
