"""The options of an editor's training, as its run folder keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from facegen.errors import FacegenError
from facegen.options import MAX_BATCH, NETWORK_NAMES, Options, option

SMALLEST = 16  # pixels that the discriminator can halve four times
WARMUP = 30  # steps with a rising learning rate
NO_NETWORK = "none"  # `--face-network`: no identity loss
FALLING = 0.3  # share of the run, its end, with a falling one


def parse_files(text: str) -> tuple[str, ...]:
    """Read file names with commas between."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


@dataclass(frozen=True)
class EditorOptions(Options):
    """What a run of `train_editor` is made of."""

    data: str = option(help="Training archive with exact ages.", metavar="ARCHIVE", resumable=True)
    generator: str | None = option(
        None,
        "Weights of the generator that draws pairs, or its run folder.",
        metavar="FILE|RUN|URL",
        unset="the one in the package",
        called="network",
        also=NETWORK_NAMES,
        resumable=True,
    )
    encoder: str | None = option(
        None,
        "The generator's encoder. It says how ages differ in w.",
        metavar="FILE|RUN|URL",
        unset="use the means of the generator's groups",
        resumable=True,
    )
    age_estimators: tuple[str, ...] | None = option(
        None,
        "Age estimators for the age loss, separated by commas. Several are harder to fool than one.",
        metavar="FILES",
        parse=parse_files,
        unset="the one in the package",
        resumable=True,
    )
    face_network: str | None = option(
        None,
        "Weights of the face recognition network for the identity loss, facenet-pytorch's or MobileFaceNet's; or none.",
        metavar="FILE|none",
        unset="VGGFace2's, downloaded",
        resumable=True,
    )
    init: str | None = option(None, "An editor to start from.", metavar="FILE|RUN|URL", unset="random weights")
    widths: tuple[int, ...] = option(
        (32, 64, 112, 160), "Channels of the editor's levels, from fine to coarse.", metavar="NUMBERS"
    )
    inner_size: int = option(64, "Side at which it sees whole faces, in pixels.", command=False)
    kimg: float = option(60, "Length, in thousands of faces.", above=0, resumable=True)
    batch: int = option(8, "Faces per step.", min=8)
    coarse: float = option(
        0.5,
        "Fraction of the run, from the beginning, that uses pictures at half size, which takes half the time.",
        min=0,
        max=1,
        resumable=True,
    )
    generated: float = option(
        0.25,
        "Fraction of each batch that the generator draws: pairs of one person at two ages.",
        min=0,
        max=0.75,
        resumable=True,
    )
    lr: float = option(1e-3, "Learning rate of Adam after the warm-up.", above=0, resumable=True)
    balance: float = option(0.7, "How evenly to draw age groups: 0 as in the data, 1 all equally often.", min=0, max=1)
    ema: float = option(200, "Half-life of the averaged weights, in steps.", above=0)
    snap: float = option(2, "Thousands of faces between snapshots.", above=0, resumable=True)
    fp32: bool = option(False, "Compute only in float32, even if the processor has bfloat16.")
    bf16: bool = option(False, "Compute in bfloat16 on any device, even if the processor has no bfloat16.")
    seed: int = option(0, "Seed for weights, order and distortions.", min=0)
    license: str | None = option(None, "License note to store in the weights file.")

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield not (self.fp32 and self.bf16), "fp32 and bf16 exclude each other: leave one out"
        yield self.batch <= MAX_BATCH, f"batch must be at most {MAX_BATCH:,}, got {self.batch}"

    def run_name(self) -> str:
        """Return the name of the run folder, without its number."""
        return f"editor-{Path(self.data).stem}"

    @property
    def steps(self) -> int:
        """Batches in all."""
        return max(1, math.ceil(self.kimg * 1000 / self.batch))

    def check_size(self, size: int) -> None:
        """Raise a FacegenError for pictures, `size` pixels wide, that are too small for the discriminator."""
        smallest = SMALLEST * (2 if self.coarse else 1)
        if size < smallest:
            raise FacegenError(f"{self.data}: pictures of {size} pixels, an editor learns from {smallest} and more")

    def is_coarse(self, step: int) -> bool:
        """Whether a step, counted from 0, learns from pictures of half the size."""
        return step < self.coarse * self.steps

    @property
    def steps_per_snap(self) -> int:
        """Batches between two snapshots."""
        return max(1, round(self.snap * 1000 / self.batch))

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0: rises in a line, stays, falls in a line to a tenth."""
        left = (self.steps - step) / (FALLING * self.steps)
        return self.lr * min(1.0, (step + 1) / WARMUP) * min(1.0, max(0.1, left))
