"""How long a generator's training will take on a CPU, said early to who chose a configuration that is for GPUs."""

from __future__ import annotations

import time

from facegen.training.run.session import Session

FOR_CPU = ("tiny", "small")
STEPS = 2  # that are measured
FIRST_SHARE = 0.25  # the first step holds the regularizations; that of G, the costly one, comes in every fourth step
_UNITS = {"years": 365 * 86400, "days": 86400, "hours": 3600, "minutes": 60}


class Forecast:
    """Measures the first steps on a CPU and logs one line; does nothing where there is a GPU or a small network.

    Args:
        session: the training, about to begin.
        cfg: its configuration.
        images: how many it has yet to see.
        batch: images per step.
    """

    def __init__(self, session: Session, cfg: str, images: int, batch: int) -> None:
        self._session, self._cfg, self._images, self._batch = session, cfg, images, batch
        self._wanted = session.device.type == "cpu" and cfg not in FOR_CPU
        self._times = [time.perf_counter()]

    def after_step(self) -> None:
        """Count a step, and log the line after the last that is measured."""
        if not self._wanted:
            return
        self._times.append(time.perf_counter())
        if len(self._times) <= STEPS:
            return
        self._wanted = False
        start, first, second = self._times
        seconds = FIRST_SHARE * (first - start) + (1 - FIRST_SHARE) * (second - first)
        duration = in_words(seconds * self._images / self._batch)
        self._session.log(
            f"time            {duration} for the {self._images / 1000:g} kimg to come: --cfg {self._cfg} is for "
            "GPUs, and this is a CPU; try --cfg tiny or --cfg small"
        )


def in_words(seconds: float) -> str:
    """A duration in the largest unit of which it has two: `about 90 minutes`."""
    for unit, size in _UNITS.items():
        if seconds >= 2 * size:
            return f"about {seconds / size:,.0f} {unit}"
    return f"about {seconds:.0f} seconds"
