"""The options of an age estimator's training, as its run folder keeps them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from facegen.errors import FacegenError

HALVES = ("first", "second")
WARMUP = 0.05  # of the run, with a rising learning rate
LAST_LR = 0.01  # of the learning rate, at the end
# Small enough for one CPU core, 64 pixels: 1.1 and 1.0 million parameters.
SHAPES = {
    "resnet": {"widths": [32, 64, 128, 160], "depths": [1, 2, 2, 1]},
    "plain": {"widths": [40, 80, 120, 160], "depths": [1, 1, 2, 1]},
}


@dataclass(frozen=True)
class AgeOptions:
    """What a run is made of.

    `half` trains on one half of `data` (`first` or `second`; None on all of it). `val` is an archive that is never
    trained on; None keeps a tenth of the pictures back. `widths` and `depths` are the network's; None for `SHAPES`.
    `sigma` is the width in years of the distribution that an age stands for, `balance` as in `picture_weights`, `ema`
    the half-life of the averaged weights in steps, `snap` how many kimg lie between two validations. `both_sides` is
    the network's. It computes in bfloat16 on a processor that has it, with `bf16` on any device, with `fp32` on none.
    `licence` stands in the file.
    """

    data: str
    val: str | None = None
    arch: str = "resnet"
    widths: Sequence[int] | None = None
    depths: Sequence[int] | None = None
    half: str | None = None
    kimg: float = 300
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    sigma: float = 2.5
    balance: float = 0.3
    ema: float = 100
    dropout: float = 0.2
    snap: float = 20
    size: int = 64
    both_sides: bool = False
    fp32: bool = False
    bf16: bool = False
    seed: int = 0
    licence: str | None = None

    def check(self) -> None:
        """Raise a FacegenError that names the first impossible value."""
        if self.arch not in SHAPES:
            raise FacegenError(f"arch is one of {', '.join(SHAPES)}, got {self.arch!r}")
        if self.half is not None and self.half not in HALVES:
            raise FacegenError(f"half is one of {', '.join(HALVES)}, got {self.half!r}")
        for name in ("kimg", "batch", "lr", "sigma", "ema", "snap"):
            if not getattr(self, name) > 0:
                raise FacegenError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.balance <= 1:
            raise FacegenError(
                f"balance must be between 0 (as the data is) and 1 (all groups alike), got {self.balance}"
            )
        if self.fp32 and self.bf16:
            raise FacegenError("fp32 and bf16 exclude each other: leave out one of them")
        if self.seed < 0:
            raise FacegenError(f"seed must be 0 or more, got {self.seed}")
        if self.batch < 2:
            raise FacegenError(f"batch must be at least 2 (batch normalisation), got {self.batch}")

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
