"""The options of an encoder's training, as its run folder keeps them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facegen.errors import FacegenError
from facegen.training.encoder.recipes import Recipe, get_recipe
from facegen.training.run.folder import read_options

WARMUP_STEPS = 100
TRAINING_SHARE = 0.8  # of the pairs; the rest validates
MOST_VALIDATING = 1000  # pairs; more make no difference


@dataclass(frozen=True)
class EncoderOptions:
    """What a run is made of. `lr` falls to `lr_decay` of itself after every `lr_step` epochs.

    `recipe` names one of `recipes.RECIPES`; None takes the best that the rest allows: `age` with `data`, else `w+`.
    `data` is a training archive of real faces, `age_estimator` a weight file or run folder, None for the one that
    comes with the package. `face_network` is a file of facenet-pytorch's weights, for the recipe `identity`; None
    downloads those of VGGFace2. Encoder and estimator compute in bfloat16 on a processor that has it, with `bf16` on
    any device, with `fp32` on none.
    """

    generator: str
    recipe: str | None = None
    data: str | None = None
    age_estimator: str | None = None
    face_network: str | None = None
    pairs: int = 10000
    epochs: int = 8
    batch: int = 32
    lr: float = 1e-3
    lr_step: int = 3
    lr_decay: float = 0.3
    init: str = "vggface2"
    blocks: tuple[int, int, int] = (5, 10, 5)
    input_size: int = 96
    psi: float = 1.0
    fp32: bool = False
    bf16: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raise a FacegenError that names the first impossible value."""
        for name in ("epochs", "batch", "lr", "lr_step", "lr_decay"):
            if not getattr(self, name) > 0:
                raise FacegenError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.fp32 and self.bf16:
            raise FacegenError("fp32 and bf16 exclude each other: leave out one of them")
        if not math.isfinite(self.psi):
            raise FacegenError(f"psi must be a finite number, got {self.psi}")
        if self.batch < 2:
            raise FacegenError(f"batch must be at least 2 (batch normalisation), got {self.batch}")
        if self.pairs * TRAINING_SHARE < self.batch:
            raise FacegenError(
                f"{self.pairs} pairs less a fifth make no batch of {self.batch}: give more pairs or a smaller batch"
            )
        if self.chosen_recipe().real and self.data is None:
            raise FacegenError(f"the recipe {self.recipe} learns from real faces too: give --data ARCHIVE")
        if self.face_network is not None and not self.chosen_recipe().identity:
            raise FacegenError(
                f"the recipe {self.recipe_name()} has no use for --face-network: leave it out, or --recipe identity"
            )

    def recipe_name(self) -> str:
        """The recipe's name; for want of one that of the best there is."""
        return self.recipe or ("w+" if self.data is None else "age")

    def chosen_recipe(self) -> Recipe:
        """The recipe itself."""
        return get_recipe(self.recipe_name())

    def real_in_batch(self) -> int:
        """How many faces of a batch are real; at least two are generated."""
        return min(round(self.batch * self.chosen_recipe().real), self.batch - 2)

    def check_processes(self, processes: int) -> None:
        """Raise a FacegenError if so many processes cannot share a batch."""
        if self.batch % processes or self.real_in_batch() % processes:
            raise FacegenError(
                f"a batch of {self.batch} cannot be shared by {processes} processes: choose another --batch"
            )

    def lr_at(self, epoch: int, step: int | None = None) -> float:
        """Learning rate in an epoch, at a step of the run; both count from 0. Without step that of the epoch's end.

        It rises over the first steps: the losses of pictures are steep where an untrained head leads.
        """
        warm = 1.0 if step is None else min(1.0, (step + 1) / WARMUP_STEPS)
        return warm * self.lr * self.lr_decay ** (epoch // self.lr_step)


def read_encoder_options(folder: Path) -> EncoderOptions:
    """The options of the run in a folder; FileNotFoundError or FacegenError where there are none."""

    def make(blocks: list[int], **fields: Any) -> EncoderOptions:
        return EncoderOptions(blocks=tuple(blocks), **fields)

    return read_options(folder, make, "an encoder run")
