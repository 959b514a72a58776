"""Files of latents w: `.npz`, as the ancestors' projectors write them.

w          float32 [N, num_ws, w_dim]
z, seeds, classes     where the w came from, as far as known
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facegen.errors import FacegenError
from facegen.files import at_home, atomic_path
from facegen.networks.generator import Generator
from facegen.reading import open_plain, open_zip, read_bytes, read_entry

SUFFIXES = (".npz", ".npy")
NAMES = ("w", "dlatents")  # what the programs of the family call them
MAX_BYTES = 2**31  # of one array


@dataclass(frozen=True)
class Latents:
    """Latents w `[N, num_ws, w_dim]` and the name of each: `proj00`."""

    ws: torch.Tensor
    names: tuple[str, ...]


def save_latents(path: str | os.PathLike[str], ws: torch.Tensor, **more: np.ndarray) -> Path:
    """Write latents `[N, num_ws, w_dim]` atomically as `.npz`; `more` are arrays beside them, such as seeds."""
    path = Path(path)
    arrays: dict[str, Any] = {"w": ws.detach().cpu().float().numpy(), **more}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return path


def read_latents(paths: Iterable[str | os.PathLike[str]], generator: Generator) -> Latents:
    """Read latents for a generator from files, or folders of them, in natural order.

    An array `[num_ws, w_dim]` is one latent; of `[N, 1, w_dim]` and `[N, w_dim]` the one w is for all layers.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it holds no latents, or those of another network.
    """
    found = [(path, read_array(path)) for given in paths for path in files_in(given)]
    rows = [_fitted(array, generator.num_ws, generator.w_dim, path) for path, array in found]
    if not rows:
        raise FacegenError("no latent files given; they end in .npz, as in projected_w.npz")
    ws = torch.from_numpy(np.concatenate(rows))
    return Latents(ws, tuple(f"proj{index:02d}" for index in range(len(ws))))


def combine_latents(paths: Iterable[Path]) -> tuple[torch.Tensor, list[int]]:
    """Read files of latents of one network, whichever it is: `[N, num_ws, w_dim]`, and how many each file has.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: a file holds no latents, or those of another network than the first that says how many layers its
            network has.
    """
    found = [(path, read_array(path)) for path in paths]
    whole = [(path, array.shape[1:]) for path, array in found if array.ndim == 3]
    if not whole:
        raise FacegenError(
            "none of these files says how many layers its network has, as the shape [N, num_ws, w_dim] would"
        )
    first, (num_ws, w_dim) = max(whole, key=lambda item: item[1][0] > 1)
    rows = [_fitted(array, num_ws, w_dim, path, f"{first.name}'s network") for path, array in found]
    return torch.from_numpy(np.concatenate(rows)), [len(row) for row in rows]


def files_in(given: str | os.PathLike[str]) -> list[Path]:
    """The files of latents that a path means: itself, or those in a folder, `9.npz` before `10.npz`."""
    path = at_home(given)
    if not path.is_dir():
        return [path]
    inside = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    if not inside:
        raise FacegenError(f"{path}: no latent files in this folder; they end in {' or '.join(SUFFIXES)}")
    return sorted(inside, key=_natural)


def read_array(path: Path) -> np.ndarray:
    """Read the latents in a `.npz` or `.npy`: the array `w`, else `dlatents`, else the first; never a pickle."""
    with open_plain(path) as file:
        is_zip = file.read(2) == b"PK"
    if not is_zip:
        return decode_array(read_bytes(path, MAX_BYTES), path)
    with open_zip(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        chosen = [name for name in NAMES if name in names] or names
        if not chosen:
            raise FacegenError(f"{path}: contains no latents: a zip without an array")
        return decode_array(read_entry(archive, f"{chosen[0]}.npy", str(path), MAX_BYTES), path)


def decode_array(data: bytes, path: Path) -> np.ndarray:
    """The array in the bytes of a `.npy`, never a pickle; a FacegenError that names the file if there is none."""
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy complains in many ways of what is damaged, or not its own
        raise FacegenError(f"{path}: contains no latents: damaged, or not a NumPy file") from error


def _fitted(array: np.ndarray, num_ws: int, w_dim: int, path: Path, whose: str = "this network") -> np.ndarray:
    """Latents as float32 `[N, num_ws, w_dim]`; a FacegenError with both numbers if they are another network's."""
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2, 3) or array.size == 0 or array.shape[-1] != w_dim:
        raise FacegenError(
            f"{path}: {array.dtype} {list(array.shape)} is not the shape of latents for {whose}, [N, {num_ws}, {w_dim}]"
        )
    if array.ndim == 1:
        array = array[None, None]
    elif array.ndim == 2:
        array = array[None] if len(array) == num_ws else array[:, None]
    if array.shape[1] not in (1, num_ws):
        raise FacegenError(f"{path}: latents of {array.shape[1]} layers, but {whose} has {num_ws}")
    if not np.isfinite(array).all():
        raise FacegenError(f"{path}: contains latents that are not finite numbers")
    return np.broadcast_to(array, (len(array), num_ws, w_dim)).astype(np.float32)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
