"""The options of an age estimator's training, as its run folder keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from facegen.options import MAX_BATCH, Options, option

HALVES = ("first", "second")
WARMUP = 0.05  # share of the run with a rising learning rate
LAST_LR = 0.01  # share of the learning rate that is left at the end
# Small enough for one CPU core: 1.1, 1.0 and 1.9 million parameters. `lite` is most of EfficientNet-Lite0, whose widths
# Lite1 shares.
SHAPES = {
    "resnet": {"widths": [32, 64, 128, 160], "depths": [1, 2, 2, 1]},
    "plain": {"widths": [40, 80, 120, 160], "depths": [1, 1, 2, 1]},
    "lite": {"widths": [16, 24, 40, 80, 112, 192], "depths": [1, 2, 2, 3, 3, 3]},
}
SIZES = {"resnet": 64, "plain": 64, "lite": 128}


@dataclass(frozen=True)
class AgeOptions(Options):
    """What a run of `train_age` is made of."""

    data: str = option(help="Training archive with exact ages.", metavar="ARCHIVE", resumable=True)
    val: str | None = option(
        None, "Archive for validation.", metavar="ARCHIVE", unset="a tenth of the data", resumable=True
    )
    arch: str = option("resnet", "Architecture of the network.", choices=SHAPES)
    widths: tuple[int, ...] | None = option(
        None, "Channels of its stages, such as 32,64,128,160.", metavar="NUMBERS", unset="by --arch"
    )
    depths: tuple[int, ...] | None = option(
        None, "Blocks in its stages, such as 1,2,2,1.", metavar="NUMBERS", unset="by --arch"
    )
    init: str | None = option(
        None,
        "Start from the weights of an EfficientNet-Lite (arch lite); its first layers stay as they are.",
        metavar="FILE",
        unset="from random weights",
    )
    half: str | None = option(
        None,
        "Train on only this half of the pictures. The split is always the same.",
        choices=HALVES,
        unset="on all",
    )
    kimg: float = option(300, "Length, in thousands of pictures.", above=0, resumable=True)
    batch: int = option(64, "Pictures per step. Batch normalization needs at least two.", min=2)
    lr: float = option(2e-3, "Learning rate of AdamW after the warm-up.", above=0)
    weight_decay: float = option(0.05, "Weight decay of AdamW.")
    sigma: float = option(2.5, "Standard deviation, in years, of the distribution used as target.", above=0)
    balance: float = option(0.3, "How evenly to draw age groups: 0 as in the data, 1 all equally often.", min=0, max=1)
    ema: float = option(100, "Half-life of the averaged weights, in steps.", above=0)
    dropout: float = option(0.2, "Fraction of features dropped during training.")
    snap: float = option(20, "Thousands of pictures between validations.", above=0)
    size: int | None = option(None, "Side to which pictures are resized, in pixels; by arch.", command=False)
    both_sides: bool = option(False, "Average the predictions for a face and its mirror image.")
    fp32: bool = option(False, "Compute only in float32, even if the processor has bfloat16.")
    bf16: bool = option(False, "Compute in bfloat16 on any device, even if the processor has no bfloat16.")
    seed: int = option(0, "Seed for weights, order and distortions.", min=0)
    license: str | None = option(None, "License note to store in the weights file.", was="licence")

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield not (self.fp32 and self.bf16), "fp32 and bf16 exclude each other: leave one out"
        yield self.init is None or self.arch == "lite", f"init is for the arch lite, got {self.arch}: leave one out"
        yield self.batch <= MAX_BATCH, f"batch must be at most {MAX_BATCH:,}, got {self.batch}"

    def run_name(self) -> str:
        """Return the name of the run folder, without its number."""
        return f"age-{self.arch}-{Path(self.data).stem}" + (f"-{self.half}" if self.half else "")

    @property
    def side(self) -> int:
        """Side to which pictures are resized, in pixels."""
        return self.size or SIZES[self.arch]

    @property
    def steps(self) -> int:
        """Batches in all."""
        return max(1, math.ceil(self.kimg * 1000 / self.batch))

    @property
    def steps_per_snap(self) -> int:
        """Batches between two validations."""
        return max(1, round(self.snap * 1000 / self.batch))

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0: rises in a line, falls as a cosine."""
        done = (step + 1) / self.steps
        if done < WARMUP:
            return self.lr * done / WARMUP
        return self.lr * (LAST_LR + (1 - LAST_LR) * 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))))
