"""Features of an archive's pictures, computed once: the cache keeps them by the archive's content and the network."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm import tqdm

from facegen import beside
from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.metrics.features import BATCH, Extractor
from facegen.metrics.share import ALONE, Share
from facegen.parallel import map_in_order
from facegen.reading import open_zip
from facegen.text import visible
from facegen.weights.cache import cache_folder
from facegen.weights.tensors.safetensors_file import open_safetensors


def real_features(
    archive: FaceArchive,
    indices: Sequence[int],
    extractor: Extractor,
    *,
    batch: int = BATCH,
    share: Share = ALONE,
    progress: bool = True,
) -> torch.Tensor:
    """Return the features `[len(indices), D]`, float32 on the CPU, of these pictures of an archive.

    Beyond its N pictures they are counted on, flipped: left to right from N on, top to bottom from 2 N on, both ways
    from 3 N on.

    Read from the cache where they were computed before; computed and kept there otherwise.

    Raises:
        FacegenError: a picture cannot be read.
    """
    path = cache_folder() / "metrics" / f"{cache_key(archive, indices, extractor)}.safetensors"
    found = _read(path, len(indices))
    # All processes must do the same, also where they do not share a disk.
    everywhere = bool(share.gather(torch.tensor([found is not None])).all())
    if found is not None and everywhere:
        return found
    mine = [indices[i] for i in share.of(len(indices))]
    images = map_in_order(partial(_image, archive), mine)
    stacks = (np.stack(list(islice(images, batch))) for _ in range(0, len(mine), batch))
    batches = (as_rgb(torch.from_numpy(stack)) for stack in stacks)
    hidden = not progress or share.rank > 0
    features = share.gather(_look(extractor, batches, f"real {extractor.name}", len(mine), hidden))
    if share.rank == 0:
        _write(path, features)
    return features


def _image(archive: FaceArchive, index: int) -> np.ndarray:
    flip, index = divmod(index, len(archive))
    image = archive.image(index)
    return image[:, :: -1 if flip & 2 else 1, :: -1 if flip & 1 else 1]


def picture_features(
    images: torch.Tensor, extractor: Extractor, words: str, *, keep: bool = False, progress: bool = True
) -> torch.Tensor:
    """Return the features `[N, D]`, float32 on the CPU, of pictures in memory, uint8 `[N, 3, H, W]`.

    Args:
        words: For the bar.
        keep: Read them from the cache where they were computed before, and keep them there.
        progress: Show a bar with the remaining time.
    """
    digest = hashlib.sha256(f"{tuple(images.shape)}".encode())
    if keep:
        digest.update(images.contiguous().numpy().data)
    path = cache_folder() / "metrics" / f"{extractor.name}-{digest.hexdigest()[:24]}.safetensors"
    if keep and (found := _read(path, len(images))) is not None:
        return found
    features = _look(extractor, images.split(BATCH), words, len(images), not progress)
    if keep:
        _write(path, features)
    return features


def _look(extractor: Extractor, batches: Iterable[torch.Tensor], words: str, count: int, hidden: bool) -> torch.Tensor:
    """The features `[count, D]` of batches of pictures, with a bar."""
    parts = []
    with tqdm(total=count, desc=words, unit="img", disable=hidden) as bar:
        for images in batches:
            parts.append(extractor.features(images).float().cpu())
            bar.update(len(images))
    return torch.cat(parts) if parts else torch.empty([0, 0])


def as_rgb(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 `[N, 3, H, W]` of `[N, 1 or 3, H, W]`."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def cache_key(archive: FaceArchive, indices: Sequence[int], extractor: Extractor) -> str:
    """Return the name of these features, made from the pictures' content, which of them are used, and the network.

    A zip is known by the checksums that its directory holds; a folder, which has none, by sizes and times of change.
    """
    digest = hashlib.sha256(f"1 {extractor.name} {archive.resolution} {archive.channels} {len(archive)}\n".encode())
    if archive.path.is_dir():
        stats = ((name, (archive.path / name).stat()) for name in archive.file_names)
        marks = {name: f"{stat.st_size} {stat.st_mtime_ns} {archive.path.resolve()}" for name, stat in stats}
    else:
        with open_zip(archive.path) as file:
            marks = {info.filename.replace("\\", "/"): f"{info.CRC} {info.file_size}" for info in file.infolist()}
    for name in archive.file_names:
        digest.update(f"{name} {marks.get(name)}\n".encode())
    digest.update(np.asarray(indices, np.int64).tobytes())
    return f"{extractor.name}-{digest.hexdigest()[:24]}"


def _read(path: Path, count: int) -> torch.Tensor | None:
    """Return the features that are kept there, `[count, D]`; None to compute them again, as what is there is not ours.

    The checksum finds what was damaged or changed, but for changes by who knows how it is made: therefore no file is
    taken that another user may have put there.
    """
    try:
        if not beside.download.is_complete(path):
            return None
        with open_safetensors(path) as file:
            features = file.tensor("features")
            is_whole = file.metadata.get("sha256") == _checksum(features)
    except (OSError, FacegenError, KeyError):  # not there, or damaged
        return None
    is_kind = features.dtype == torch.float32 and features.ndim == 2 and len(features) == count
    return features if is_whole and is_kind else None


def _checksum(features: torch.Tensor) -> str:
    return hashlib.sha256(features.contiguous().view(torch.uint8).numpy().data).hexdigest() if features.ndim else ""


def _write(path: Path, features: torch.Tensor) -> None:
    try:
        cache_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            save_file({"features": features.contiguous()}, temporary, {"sha256": _checksum(features)})
    except (OSError, SafetensorError) as error:  # the number is worth more than the cache
        warnings.warn(visible(f"{path}: cannot be cached ({error})"), stacklevel=2)
