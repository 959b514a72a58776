"""How pictures are projected, as options of the command; no torch here, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass

from facegen.options import Options, option


@dataclass(frozen=True)
class ProjectionOptions(Options):
    """How pictures are projected into the latent space."""

    space: str = option("w", "One w for all layers, or one each (w+): closer, but worse to edit.", choices=("w", "w+"))
    start: str = option(
        "mean",
        "Start from the mean w of the face's class, or from what the encoder makes of it.",
        choices=("mean", "encoder"),
    )
    distance: str = option(
        "lpips",
        "What judges likeness: lpips on VGG16, downloaded once; or lite, features that come with facegen, and pixels.",
        choices=("lpips", "lite"),
    )
    num_steps: int = option(1000, "Steps.", min=1, max=1_000_000)
    seed: int = option(303, "Seeds the noise.", min=0, max=2**63 - 1)
    align: str = option(
        "auto",
        "Cut out the largest face as the network's training faces were, if its file says how; none takes the middle "
        "square.",
        choices=("auto", "none"),
    )
    batch: int = option(1, "Pictures projected at once.", min=1)
