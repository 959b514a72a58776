"""Faces of photos in the latent space: what an encoder makes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from facegen.aging.transfer import AgeTransfer
from facegen.errors import FacegenError
from facegen.faces.find import find_faces
from facegen.images import open_photo
from facegen.latents.generate import Picture
from facegen.latents.space import LatentSpace


@torch.no_grad()
def faces_of_photo(
    transfer: AgeTransfer, space: LatentSpace, path: str | os.PathLike[str]
) -> Iterator[tuple[Picture, np.ndarray]]:
    """Find the faces in a photo, encode them, and place each in w at the age that it looks.

    Args:
        transfer: has the encoder.
        space: of its generator; truncates toward the mean of the face's age.

    Yields:
        Each face, the largest first, named `photo` or `photo-face2`, and as it was cut from the photo, uint8
        `[S, S, 3]`.

    Raises:
        FacegenError: no photo, or no face in it.
    """
    photo = open_photo(path)
    found = find_faces(photo)
    if not found:
        raise FacegenError(f"{path}: no face found")
    cut = [transfer.cut_out(photo, face) for face in found]
    ages = transfer.estimate_ages(cut)
    middles = transfer.latent_ages.middles
    latents = transfer.encoder(transfer.to_tensor(cut))
    ws = transfer.latent_ages.place(latents, torch.tensor(ages, device=transfer.device))
    for number, (w, age, picture) in enumerate(zip(ws, ages, cut, strict=True), start=1):
        name = Path(path).stem + (f"-face{number}" if len(found) > 1 else "")
        label = space.classes.of_age(min(max(age, middles[0]), middles[-1]))
        yield Picture(name, space.truncate(w[None], label)[0], f"a face in {Path(path).name}"), np.asarray(picture)
