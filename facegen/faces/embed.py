"""Who looks like whom: faces as vectors, and the distances between them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from facegen.files import atomic_path
from facegen.weights.face_network import FaceNetwork


@torch.no_grad()
def embed(network: FaceNetwork, faces: np.ndarray) -> np.ndarray:
    """Return vectors of length 1, float32 `[N, F]`, of faces as the network takes them, uint8 `[N, size, size, 3]`."""
    device = next(network.network.parameters()).device
    pixels = torch.from_numpy(faces).to(device).permute(0, 3, 1, 2).float()
    return functional.normalize(network.network((pixels - 127.5) / 128)).cpu().numpy()


def distances(vectors: np.ndarray) -> np.ndarray:
    """Return how far vectors `[N, F]` lie apart, Euclidean, `[N, N]`: 0 for the same face, at most 2."""
    cosines = (vectors @ vectors.T).clip(-1, 1)
    apart = np.sqrt(2 - 2 * cosines)
    np.fill_diagonal(apart, 0)
    return apart


def write_vectors(path: Path, names: Sequence[str], photos: Sequence[str], vectors: np.ndarray) -> None:
    """Write a `.npz`: `embeddings` float32 `[N, F]`, and `pictures` and `photos`, the names of each face's."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, embeddings=vectors, pictures=np.array(names, str), photos=np.array(photos, str))


def write_distances(path: Path, names: Sequence[str], apart: np.ndarray) -> None:
    """Write a table of the distances `[N, N]`, with names above and at the left."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["", *names])
    writer.writerows([name, *(f"{value:.4f}" for value in row)] for name, row in zip(names, apart, strict=True))
    with atomic_path(path) as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8", errors="backslashreplace", newline="")
