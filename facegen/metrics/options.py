"""The options of `facegen metrics`. `--help` needs no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from facegen.metrics.names import EXAMPLES, parse_metrics
from facegen.options import NETWORK_NAMES, Options, option


@dataclass(frozen=True)
class MetricsOptions(Options):
    """What is measured, against which faces, and by which networks."""

    network: str | None = option(
        None,
        "Generator: a weight file, a run folder, an address, ...",
        metavar="N",
        also=NETWORK_NAMES,
        unset="the one in the package",
    )
    data: str | None = option(
        None,
        "Training archive (zip or folder) with the real faces.",
        metavar="PATH",
        unset="what the generator was trained on",
    )
    metrics: str = option("fid50k_full", f"{EXAMPLES}, or any other number (fid5k_full).", metavar="NAMES")
    mirror: bool | None = option(
        None,
        "Metrics without _full see real faces flipped from left to right, too.",
        unset="without --data as in the training, else false",
    )
    mirrory: bool | None = option(None, "From top to bottom, likewise.", unset="the same")
    per_group: bool = option(False, "Measure every age group apart, too.", flag=True)
    inception: str | None = option(None, "Weights of the Inception network [default: downloaded].", metavar="PATH")
    vgg: str | None = option(None, "Weights of VGG16, for pr and ppl [default: downloaded].", metavar="PATH")
    lpips: str | None = option(None, "Weights of LPIPS, for ppl [default: downloaded].", metavar="PATH")
    batch: int = option(32, "Pictures at a time.", min=1)
    seed: int = option(0, "Seeds latents, labels and noise.", min=0)
    verbose: bool = option(True, "Show bars with the remaining time.")

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield bool(parse_metrics(self.metrics)), "--metrics names none; try fid5k_full"
