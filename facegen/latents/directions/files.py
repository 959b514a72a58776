"""Files of directions: `.pt` as dvschultz's fork writes them, `.safetensors`, `.npz`.

eigvec     float32 `[w_dim, n]`, a direction in each column
ckpt       the name of the generator's file, as far as known
layers     for which of its w they were found; missing for all
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facegen.errors import FacegenError
from facegen.files import at_home, atomic_path, write_with_torch
from facegen.latents.files import MAX_BYTES, decode_array
from facegen.reading import open_zip, read_entry
from facegen.text import shown
from facegen.weights.tensors.safetensors_file import open_safetensors
from facegen.weights.tensors.torch_file import read_torch_file

SUFFIXES = (".pt", ".safetensors", ".npz")
MAX_LAYERS = 100  # no generator has more


@dataclass(frozen=True)
class Factor:
    """What a file of directions holds.

    vectors: `[w_dim, n]`, a direction in each column.
    network: the name of the generator's file; empty where it is not known.
    layers: for which w they were found; None for all.
    """

    vectors: torch.Tensor
    network: str = ""
    layers: tuple[int, ...] | None = None


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise a FacegenError if no file of directions is called so."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise FacegenError(f"{path}: direction files end in {', '.join(SUFFIXES)}")


def save_factor(path: str | os.PathLike[str], factor: Factor) -> Path:
    """Write directions atomically, as the kind of file that the suffix says; the `.pt` is one for the fork, too."""
    check_suffix(path)
    path = Path(path)
    vectors, layers = factor.vectors.detach().cpu().float().contiguous(), factor.layers
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".pt":
            more = {} if layers is None else {"layers": list(layers)}
            write_with_torch({"ckpt": factor.network, "eigvec": vectors, **more}, temporary)
        elif path.suffix.lower() == ".npz":
            arrays: dict[str, Any] = {"ckpt": np.array(factor.network), "eigvec": vectors.numpy()}
            if layers is not None:
                arrays["layers"] = np.array(layers)
            with temporary.open("wb") as file:
                np.savez(file, **arrays)
        else:
            _save_safetensors(vectors, factor, temporary)
    return path


def _save_safetensors(vectors: torch.Tensor, factor: Factor, temporary: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    layers = {} if factor.layers is None else {"layers": ",".join(map(str, factor.layers))}
    try:
        save_file({"eigvec": vectors}, temporary, metadata={"ckpt": factor.network, **layers})
    except SafetensorError as error:
        raise OSError("safetensors did not write all of it") from error


def read_factor(path: str | os.PathLike[str]) -> Factor:
    """Read a file of directions of any kind, the fork's `factor.pt` among them; nothing in it runs.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is damaged, or holds no directions.
    """
    path = at_home(path)
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    content = readers.get(path.suffix.lower(), read_torch_file)(path)
    if not isinstance(content, dict) or not isinstance(content.get("eigvec"), torch.Tensor):
        raise FacegenError(f"{path}: contains no directions; they should be called eigvec, as in factor.pt")
    vectors, layers, network = content["eigvec"], content.get("layers"), content.get("ckpt")
    if vectors.ndim != 2 or not vectors.is_floating_point() or vectors.numel() == 0:
        raise FacegenError(f"{path}: {vectors.dtype} {list(vectors.shape)} is not the shape of directions, [w_dim, n]")
    if not vectors.isfinite().all():
        raise FacegenError(f"{path}: contains directions that are not finite numbers")
    if layers is not None and not _are_layers(layers):
        raise FacegenError(f"{path}: layers {shown(layers)} do not exist in any generator")
    return Factor(
        vectors.float(), network if isinstance(network, str) else "", None if layers is None else tuple(layers)
    )


def _are_layers(layers: Any) -> bool:
    return (
        isinstance(layers, (list, tuple))
        and 1 <= len(layers) <= MAX_LAYERS
        and all(type(layer) is int and 0 <= layer < MAX_LAYERS for layer in layers)
    )


def _read_npz(path: Path) -> dict[str, Any]:
    with open_zip(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()} & {"eigvec", "layers", "ckpt"}
        arrays = {name: decode_array(read_entry(archive, f"{name}.npy", str(path), MAX_BYTES), path) for name in names}
    content: dict[str, Any] = {name: array.tolist() for name, array in arrays.items() if name != "eigvec"}
    if "eigvec" in arrays and arrays["eigvec"].dtype.kind == "f":
        content["eigvec"] = torch.from_numpy(arrays["eigvec"].astype(np.float32))
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    with open_safetensors(path) as file:
        content: dict[str, Any] = {"eigvec": file.tensor("eigvec")} if "eigvec" in file.entries else {}
        content |= {name: file.metadata[name] for name in ("ckpt", "layers") if name in file.metadata}
    if "layers" in content:
        parts = content["layers"].split(",")
        content["layers"] = [int(part) if part.isdecimal() and len(part) < 4 else part for part in parts]
    return content
