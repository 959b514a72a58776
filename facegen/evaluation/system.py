"""A system under test: one way of changing ages, and what it makes of the held-out faces."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from facegen.aging.edit import Edit
from facegen.aging.transfer import AgeTransfer
from facegen.evaluation.photos import Photos
from facegen.images import to_float, to_uint8
from facegen.text import shown


@dataclass(frozen=True)
class System:
    """A row of the tables.

    Attributes:
        name: What the row is called.
        renderer: Makes the pictures.
        edit: How it changes ages; None for its default.
        description: What it is, for the report: files and settings.
    """

    name: str
    renderer: AgeTransfer
    edit: Edit | None
    description: dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """What a system made of the evaluated faces, as files would hold it.

    Attributes:
        reconstructions: uint8 `[N, 3, S, S]`.
        aged: uint8 `[N, targets, 3, S, S]`.
        seconds: `[N]`, each face alone: encoding, reconstruction and all ages.
        estimated: `[N]`, how old the system took each face for, in years; NaN where it was told.
    """

    reconstructions: torch.Tensor
    aged: torch.Tensor
    seconds: np.ndarray
    estimated: np.ndarray


def render_all(
    system: System, photos: Photos, targets: Sequence[float], *, give_ages: bool = True, progress: bool = True
) -> Rendered:
    """Let a system work on the evaluated faces, one after the other, as a user would.

    Args:
        targets: Ages in years.
        give_ages: Tell it the age of a face where it is known; otherwise it has to estimate.
        progress: Show a bar.
    """
    renderer, reconstructions, aged, seconds, estimated = system.renderer, [], [], [], []
    first, last = renderer.groups.bounds[0][0], renderer.groups.bounds[-1][1]
    bar = tqdm(range(photos.tested), f"{shown(system.name, 40)}: aging", unit="face", disable=not progress)
    for index in bar:
        face = to_float(photos.images[index : index + 1].to(renderer.device))
        age = photos.ages[index]
        # Older than all groups counts as the last.
        ages = [float(np.clip(age, first, last))] if give_ages and np.isfinite(age) else None
        _wait(renderer.device)
        start = time.perf_counter()
        rendering = renderer.render(face, targets, input_ages=ages, edit=system.edit)
        _wait(renderer.device)
        seconds.append(time.perf_counter() - start)
        reconstructions.append(_as_files(rendering.reconstructions))
        aged.append(_as_files(rendering.aged[0])[None])
        estimated.append(float(rendering.input_ages[0]) if ages is None else np.nan)
    return Rendered(torch.cat(reconstructions), torch.cat(aged), np.array(seconds), np.array(estimated))


def _as_files(images: torch.Tensor) -> torch.Tensor:
    """Gray or RGB pictures in -1..1 as uint8 `[N, 3, H, W]` on the CPU."""
    return to_uint8(images).expand(-1, 3, -1, -1).cpu()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
