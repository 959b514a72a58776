"""How pictures are projected, as options of the command; no torch here, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass

from facegen.options import Options, option


@dataclass(frozen=True)
class ProjectionOptions(Options):
    """How pictures are projected into the latent space."""

    space: str = option(
        "w",
        "w: the same w for all layers. w+: one per layer, which is closer to the photo but harder to edit.",
        choices=("w", "w+"),
    )
    start: str = option(
        "mean",
        "Start from the mean w of the face's class, or from the encoder's result.",
        choices=("mean", "encoder"),
    )
    distance: str = option(
        "lpips",
        "How pictures are compared. lpips: LPIPS on VGG16, downloaded once. lite: features that come with "
        "facegen, and pixels.",
        choices=("lpips", "lite"),
    )
    num_steps: int = option(1000, "Steps.", min=1, max=1_000_000)
    seed: int = option(303, "Seed for the noise.", min=0, max=2**63 - 1)
    align: str = option(
        "auto",
        "auto: crop the largest face like the network's training faces, if its file says how. none: use the "
        "middle square.",
        choices=("auto", "none"),
    )
    batch: int = option(1, "Number of pictures projected at once.", min=1)
