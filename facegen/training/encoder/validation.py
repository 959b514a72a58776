"""How good an encoder is: its losses on held-out faces, and pictures of their reconstructions."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from facegen.figures import grids
from facegen.images import to_float
from facegen.networks.latents import draw, group_means, place_latents
from facegen.training.encoder.data import FaceData, epoch_batches, make_batch, other_z_for, target_ages_for
from facegen.training.encoder.objective import EncoderObjective, closest_group
from facegen.training.encoder.options import EncoderOptions
from facegen.training.encoder.pairs import Pairs, one_hot
from facegen.training.encoder.weight_average import WeightAverage

VALIDATION_BATCH = 64
CALIBRATING_BATCHES = 20


def validate(objective: EncoderObjective, data: FaceData) -> dict[str, float]:
    """The mean of every loss over the faces held back, as `EncoderObjective` names them; sets it to evaluation.

    Where real faces are at hand, the losses of pictures are theirs: that is what the encoder is for.
    """
    objective.eval()
    device = next(objective.encoder.parameters()).device
    pairs, real = data.validation, data.real_validation
    losses = _mean_losses(objective, pairs.images, data.ages_of(pairs.classes), data, pairs, device)
    if real is not None and objective.recipe.real:
        losses |= _mean_losses(objective, real.images, real.ages, data, None, device)
    # Of two epochs' adversarial losses none is the better: the other side learns, too.
    comparable = {name: loss for name, loss in losses.items() if name != "adversarial"}
    return losses | {"loss": objective.recipe.weighted_sum(comparable)}


def validate_average(
    average: WeightAverage, data: FaceData, options: EncoderOptions, epoch: int, device: torch.device
) -> dict[str, float]:
    """As `validate`, of the averaged weights; batch normalization is calibrated on batches of that epoch."""
    batches = islice(epoch_batches(len(data.training), options, epoch, data), CALIBRATING_BATCHES)
    average.calibrate(batch.share(slice(None), data, device)[0] for batch in batches)
    return validate(average.objective, data)


def _mean_losses(
    objective: EncoderObjective,
    images: torch.Tensor,
    ages: torch.Tensor,
    data: FaceData,
    pairs: Pairs | None,
    device: torch.device,
) -> dict[str, float]:
    """Means over faces, each shifted to one random age; `pairs` has their latents, None for real faces."""
    sums: dict[str, float] = {}
    targets, other_z = target_ages_for(len(images), data.ages, seed=0), other_z_for(len(images), data.training, seed=0)
    for indices in torch.arange(len(images)).split(VALIDATION_BATCH):
        known = indices if pairs is not None else indices[:0]
        faces = make_batch(images[indices], ages[indices], pairs or data.validation, known, other_z[indices], device)
        with torch.no_grad():
            losses = objective(faces, targets[indices].to(device))
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + float(loss) * len(indices)
    return {name: total / len(images) for name, total in sums.items()}


def save_reconstructions(
    path: str | os.PathLike[str], objective: EncoderObjective, data: FaceData, labels: list[str] | None = None
) -> Path:
    """Draw faces over what the generator makes of their latents (same class, constant noise).

    One column per class, two faces of each. Without age groups eight columns. `labels` names the classes. Real faces
    that were held back follow below, where the recipe learns from real ones.
    """
    generator = objective.generator
    columns = generator.c_dim or 8
    pairs = data.validation
    rows = []
    chosen = _two_rows(pairs.classes, columns)
    rows += _face_rows(objective, pairs.images[chosen], pairs.classes[chosen], columns)
    names = ["generated", "encoded"] * 2
    real = data.real_validation
    if real is not None and objective.recipe.real:
        classes = closest_group(real.ages, data.ages)
        chosen = _two_rows(classes, columns)
        rows += _face_rows(objective, real.images[chosen], classes[chosen], columns)
        names += ["real", "encoded"] * 2
    return grids.save_image_grid(
        [image for row in rows for image in row],
        path,
        columns,
        column_labels=labels if labels and len(labels) == columns else None,
        row_labels=names,
    )


def _two_rows(classes: torch.Tensor, columns: int) -> list[int]:
    """Indices of two faces for every column: from its class where it has any, else from all."""
    chosen = []
    for turn in range(2):
        for column in range(columns):
            fitting = torch.nonzero(classes == column).flatten()
            if len(fitting) == 0:
                fitting = torch.arange(len(classes))
            chosen.append(int(fitting[turn % len(fitting)]))
    return chosen


def _face_rows(objective: EncoderObjective, faces: torch.Tensor, classes: torch.Tensor, columns: int) -> list[Any]:
    """Two rows of faces, uint8, each followed by a row of the generator's pictures of them."""
    objective.eval()
    generator = objective.generator
    device = next(generator.parameters()).device
    with torch.no_grad():
        latents = objective.encoder(to_float(faces.to(device)))
        if objective.recipe.target == "z":
            labels = one_hot(classes, generator.c_dim).to(device)
            latents = place_latents(generator, latents, labels, group_means(generator))
        again = draw(generator, latents)
    inputs, outputs = grids.to_pixels(to_float(faces)), grids.to_pixels(again)
    return [inputs[:columns], outputs[:columns], inputs[columns:], outputs[columns:]]
