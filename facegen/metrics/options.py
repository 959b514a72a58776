"""The options of `facegen metrics`. `--help` needs no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from facegen.metrics.names import EXAMPLES, parse_metrics
from facegen.options import NETWORK_NAMES, Options, option


@dataclass(frozen=True)
class MetricsOptions(Options):
    """What to measure, against which faces, and with which networks."""

    network: str | None = option(
        None,
        "Generator: a weights file, a run folder, a URL, ...",
        metavar="N",
        also=NETWORK_NAMES,
        unset="the one in the package",
    )
    data: str | None = option(
        None,
        "Training archive (zip or folder) with real faces.",
        metavar="PATH",
        unset="the generator's training data",
    )
    metrics: str = option(
        "fid50k_full", f"{EXAMPLES}, or another number of pictures, such as fid5k_full.", metavar="NAMES"
    )
    mirror: bool | None = option(
        None,
        "For metrics without _full, also use real faces flipped left to right.",
        unset="as in training; false with --data",
    )
    mirrory: bool | None = option(None, "The same for flips from top to bottom.", unset="the same")
    per_group: bool = option(False, "Also measure each age group separately.", flag=True)
    inception: str | None = option(None, "Inception weights.  [default: downloaded]", metavar="PATH")
    vgg: str | None = option(None, "VGG16 weights for pr and ppl.  [default: downloaded]", metavar="PATH")
    lpips: str | None = option(None, "LPIPS weights for ppl.  [default: downloaded]", metavar="PATH")
    batch: int = option(32, "Pictures per batch.", min=1)
    seed: int = option(0, "Seed for latents, labels and noise.", min=0)
    verbose: bool = option(True, "Show progress bars with the remaining time.")

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield bool(parse_metrics(self.metrics)), "--metrics is empty; try fid5k_full"
