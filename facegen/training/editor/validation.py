"""How good an editor is, on faces that it has not learned from: numbers and a picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from facegen.figures.grids import save_image_grid, to_pixels
from facegen.images import to_float
from facegen.networks.editor import Editor
from facegen.training.editor.data import RealFaces
from facegen.training.editor.losses import Judges

AGES = (5, 20, 40, 60, 85)  # shown and measured
ROWS = 10  # faces shown
AT_ONCE = 32


@torch.no_grad()
def validate(editor: Editor, faces: RealFaces, judges: Judges) -> dict[str, float]:
    """Return `val_age_error` in years, `val_identity` (cosine), `val_sex_kept` and `val_same` (mean absolute change).

    The judges are those of the losses, so the numbers flatter; `facegen evaluate` has others.
    """
    sums: dict[str, list[torch.Tensor]] = {}
    for part in torch.arange(len(faces)).split(AT_ONCE):
        images, ages = _on_device(editor, faces, part)
        found = {"val_same": (editor(images, ages, ages) - images).abs().mean(dim=(1, 2, 3))}
        for target in AGES:
            targets = torch.full_like(ages, target)
            edited = editor(images, ages, targets).clamp(-1, 1)
            seen = torch.stack([estimator.predict(edited) for estimator in judges.estimators]).mean(dim=0)
            found = {"val_age_error": (seen - targets).abs()} | found
            if judges.identity is not None:
                found["val_identity"] = judges.identity.similarity(edited, images)
            if judges.sex is not None:
                alike = judges.sex(edited).argmax(dim=1) == judges.sex(images).argmax(dim=1)
                found["val_sex_kept"] = alike.float()
            for name, values in found.items():
                sums.setdefault(name, []).append(values.float().cpu())
            found = {}
    return {name: float(torch.cat(values).mean()) for name, values in sums.items()}


@torch.no_grad()
def save_edits(path: str | os.PathLike[str], editor: Editor, faces: RealFaces) -> Path:
    """Draw some faces, one a row, from young to old, each with what the editor makes of it at every age."""
    chosen = torch.from_numpy(np.linspace(0, len(faces) - 1, min(ROWS, len(faces))).astype(int))
    images, ages = _on_device(editor, faces, chosen)
    columns = [images] + [editor(images, ages, torch.full_like(ages, target)) for target in AGES]
    tiles = to_pixels(torch.stack(columns, dim=1).flatten(0, 1))
    return save_image_grid(
        list(tiles),
        path,
        len(columns),
        column_labels=["photo", *(f"{age}" for age in AGES)],
        row_labels=[f"{age:.0f}" for age in ages.tolist()],
    )


def _on_device(editor: Editor, faces: RealFaces, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    device = next(editor.parameters()).device
    images = to_float(faces.images[indices].to(device)).contiguous(memory_format=torch.channels_last)
    return images, faces.ages[indices].to(device)
