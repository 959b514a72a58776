"""The options of an encoder's training, as its run folder keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facegen.errors import FacegenError
from facegen.options import MAX_BATCH, NETWORK_NAMES, PSI_NAMES, Options, option
from facegen.training.encoder.recipes import IDENTITY, RECIPES, Recipe, get_recipe

WARMUP_STEPS = 100
TRAINING_SHARE = 0.8  # share of the pairs; the rest validates
MOST_VALIDATING = 1000  # pairs; more make no difference
MAX_PAIRS = 10_000_000


@dataclass(frozen=True)
class EncoderOptions(Options):
    """What a run of `train_encoder` is made of. `lr` falls to `lr_decay` of itself after every `lr_step` epochs."""

    generator: str = option(
        help="Weights of the generator, or its run folder.",
        metavar="FILE|RUN|URL",
        called="network",
        also=NETWORK_NAMES,
        resumable=True,
    )
    recipe: str | None = option(
        None,
        f"Training recipe: {', '.join(RECIPES)}; see docs/training.md.",
        choices=RECIPES,
        metavar="NAME",
        unset="age with --data, else w+",
    )
    data: str | None = option(
        None, "Training archive of real faces. Needed by real and all later recipes.", metavar="ARCHIVE", resumable=True
    )
    age_estimator: str | None = option(
        None,
        "Age estimator for image and all later recipes.",
        metavar="FILE|RUN|URL",
        unset="the one in the package",
        resumable=True,
    )
    face_network: str | None = option(
        None,
        "facenet-pytorch's weights or InsightFace's mobilefacenet_y1.params, for recipes identity and tune.",
        metavar="FILE",
        unset="VGGFace2's, downloaded, for identity; none for tune",
        resumable=True,
    )
    sex_weight: float | None = option(
        None,
        "Weight of the loss that keeps a face's apparent sex the same while it ages; 0 turns it off.",
        unset="the recipe's",
        min=0,
    )
    perceptual_weight: float | None = option(
        None,
        "Weight of the loss that compares pictures by features of a photo classifier; 0 turns it off.",
        unset="the recipe's",
        min=0,
    )
    pairs: int = option(10000, f"Generated faces; a fifth of them validates, {MOST_VALIDATING} at most.")
    epochs: int = option(8, "Passes over the pairs.", above=0, resumable=True)
    batch: int = option(32, "Pairs per step, all GPUs together. Batch normalization needs at least two.", min=2)
    lr: float = option(1e-3, "Initial learning rate of Adam.", above=0)
    lr_step: int = option(3, "Reduce the learning rate after this many epochs.", above=0)
    lr_decay: float = option(0.3, "Factor by which it is multiplied then.", above=0)
    init: str = option(
        "vggface2",
        "Weights to start from. The named ones are downloaded on first use.",
        metavar="vggface2|casia-webface|none|FILE",
    )
    blocks: tuple[int, int, int] = option(
        (5, 10, 5),
        "Residual blocks in the three stages; 2,2,0 is a small encoder for CPUs.",
        metavar="NUMBERS",
    )
    input_size: int = option(96, "Size in pixels to which the encoder resizes a face (at least 75).")
    psi: float = option(1.0, "Truncation for the generated faces.", also=PSI_NAMES)
    fp32: bool = option(False, "Compute only in float32, even if the processor has bfloat16.")
    bf16: bool = option(False, "Compute in bfloat16 on any device, even if the processor has no bfloat16.")
    seed: int = option(0, "Seed for weights, pairs and their order.")

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield not (self.fp32 and self.bf16), "fp32 and bf16 exclude each other: leave one out"
        yield self.batch <= MAX_BATCH, f"batch must be at most {MAX_BATCH:,}, got {self.batch}"
        yield self.pairs <= MAX_PAIRS, f"pairs must be at most {MAX_PAIRS:,}, got {self.pairs}"
        yield (
            self.pairs * TRAINING_SHARE >= self.batch,
            f"{self.pairs} pairs minus a fifth are fewer than a batch of {self.batch}: give more pairs or a "
            "smaller batch",
        )
        yield (
            not self.chosen_recipe().real or self.data is not None,
            f"the recipe {self.recipe} learns from real faces too: give --data ARCHIVE",
        )
        yield (
            self.face_network is None or self.chosen_recipe().identity > 0,
            f"the recipe {self.recipe_name()} does not use --face-network: leave it out, or use --recipe identity",
        )
        yield (
            not self.perceptual_weight or self.chosen_recipe().pixels > 0,
            f"the recipe {self.recipe_name()} compares no pictures, so it does not use --perceptual-weight: "
            "leave it out",
        )
        yield (
            not self.sex_weight or self.chosen_recipe().age > 0,
            f"the recipe {self.recipe_name()} does not age faces, so it does not use --sex-weight: leave it out",
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderOptions:
        """Return the options that `to_json` gave; runs of earlier versions know no losses `sex` and `perceptual`."""
        return super().from_json({"sex_weight": 0.0, "perceptual_weight": 0.0, **values})

    def run_name(self) -> str:
        """Return the name of the run folder, without its number."""
        return f"encoder-{self.recipe_name()}-{Path(self.generator).stem}-{self.pairs}pairs"

    def recipe_name(self) -> str:
        """The recipe's name; by default the best one that the options allow."""
        return self.recipe or ("w+" if self.data is None else "age")

    def chosen_recipe(self) -> Recipe:
        """The recipe itself."""
        recipe = get_recipe(self.recipe_name())
        if recipe.tune and self.face_network is not None:
            recipe = replace(recipe, identity=IDENTITY)
        if self.sex_weight is not None:
            recipe = replace(recipe, sex=self.sex_weight)
        return recipe if self.perceptual_weight is None else replace(recipe, perceptual=self.perceptual_weight)

    def real_in_batch(self) -> int:
        """How many faces of a batch are real; at least two are generated."""
        return min(round(self.batch * self.chosen_recipe().real), self.batch - 2)

    def check_processes(self, processes: int) -> None:
        """Raise a FacegenError if this many processes cannot share a batch."""
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
