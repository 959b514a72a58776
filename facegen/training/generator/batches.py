"""An endless stream of training batches whose order depends on a seed and a position alone, so that it can resume."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from tqdm import tqdm

from facegen.data.archive import FaceArchive, label_counts
from facegen.device import to_device
from facegen.errors import FacegenError
from facegen.parallel import map_in_order
from facegen.text import shown
from facegen.training.draws import WHOLE, Part
from facegen.training.generator.options import MOST_WORKERS

IN_MEMORY_BYTES = 4 * 2**30  # an archive that decodes to less than this is held in memory
GPU_SHARE = 0.25  # one that takes no more than this of what is free of a GPU's memory is held there


def class_weights(archive: FaceArchive, balance: float) -> np.ndarray:
    """Return how often each class is drawn: its share of the pictures, flattened by `balance`.

    Args:
        archive: a labeled archive.
        balance: 0 draws classes as often as the data has them, 1 all equally often, between is between.

    Returns:
        float64 `[c_dim]`, sum 1; a class without pictures has 0.
    """
    counts = label_counts(archive.labels, archive.c_dim).astype(np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** (1 - balance), 0)
    return weights / weights.sum()


def picture_weights(classes: np.ndarray, balance: float, values: Sequence[str | None] | None = None) -> np.ndarray:
    """Return how often each picture is drawn where its class is drawn by `class_weights`: float64 `[N]`, sum 1.

    Args:
        classes: int64 `[N]`, from 0 upwards.
        balance: see `class_weights`.
        values: values of an attribute, one for each picture; within a class those that it has are drawn equally often.
            Pictures whose value is unknown (None) keep their share of the class. None draws a class as it is.
    """
    counts = np.maximum(np.bincount(classes), 1).astype(np.float64)
    weights = (counts**-balance)[classes]
    if values is not None:
        weights = weights * _evening(classes, values)
    return weights / weights.sum()


def _evening(classes: np.ndarray, values: Sequence[str | None]) -> np.ndarray:
    """Return by how much more often each picture is drawn so that values come evenly; its mean in a class is 1."""
    pairs = list(zip(classes.tolist(), values, strict=True))
    of_value = Counter(pair for pair in pairs if pair[1] is not None)
    of_class: Counter[int] = Counter()
    values_of_class: Counter[int] = Counter()
    for (label, _), count in of_value.items():
        of_class[label] += count
        values_of_class[label] += 1
    return np.array(
        [
            1.0 if value is None else of_class[label] / (values_of_class[label] * of_value[label, value])
            for label, value in pairs
        ]
    )


class Batches:
    """Iterate over `(uint8 pictures [N, C, H, W], float32 one-hot labels [N, c_dim])` forever.

    Args:
        archive: the pictures; opened without its own mirroring.
        batch: pictures per batch, of all processes together.
        seed: seeds order and mirroring.
        mirror: flip every other picture, at random.
        mirrory: turn every other picture upside down, at random.
        balance: see `class_weights`; 0 goes through the archive in random order, epoch by epoch.
        even: an attribute of faces whose values are drawn equally often within each class (within all pictures where
            there are no classes), see `picture_weights`; None draws faces of a class alike.
        part: the pictures of each batch to give; the other processes get the others.
        device: where batches are given. An archive that fits there (`GPU_SHARE`) is copied once, as bytes.
        workers: processes that decode ahead where an archive is not held in memory; None is one per core, few at most.
        progress: show a bar while an archive is read into memory.

    Attributes:
        position: pictures used so far by all processes; to continue an earlier run, set it to where that stopped.
        resident: whether the pictures are on the device for good.
        waiting: seconds spent waiting for pictures.
    """

    def __init__(
        self,
        archive: FaceArchive,
        batch: int,
        *,
        seed: int = 0,
        mirror: bool = False,
        mirrory: bool = False,
        balance: float = 0,
        even: str | None = None,
        part: Part = WHOLE,
        device: torch.device | str = "cpu",
        workers: int | None = None,
        progress: bool = True,
    ) -> None:
        if not 0 <= balance <= 1:
            raise FacegenError(f"balance must be between 0 (as in the data) and 1 (all groups alike), got {balance}")
        self.archive, self.batch, self.seed = archive, batch, seed
        self.mirrors = {3: mirror, 2: mirrory}  # by the axis of [N, C, H, W] that it turns around
        self.workers = min(os.cpu_count() or 1, MOST_WORKERS) if workers is None else workers
        self.position, self.part = 0, part
        self.device = torch.device(device)
        self.waiting = 0.0
        self._probabilities = None
        if even is not None or (balance > 0 and archive.c_dim > 0):
            classes = archive.labels if archive.c_dim > 0 else np.zeros(len(archive), np.int64)
            values = None if even is None else archive.attribute(even)
            self._probabilities = picture_weights(classes, balance, values)
        self._chunk_number = -1
        decoded = len(archive) * archive.channels * archive.resolution**2
        self.resident = fits_on(self.device, decoded)
        self.in_memory = self.resident or decoded <= IN_MEMORY_BYTES
        if self.resident:
            self._images = load_onto(archive, self.device, progress=progress)
        elif self.in_memory:
            self._images = torch.from_numpy(archive.load_all(progress=progress))
        self._stream: Iterator[torch.Tensor] | None = None

    def __iter__(self) -> Batches:
        return self

    def close(self) -> None:
        """End the processes that decode ahead; the next batch starts them again."""
        self._stream = None

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        start = time.perf_counter()
        indices, flips = self._draw(self.position)
        if self.in_memory:
            images = self._images[to_device(torch.from_numpy(indices), self._images.device)]
        else:
            images = self._next_images()
        images = to_device(images, self.device)
        for axis, chosen in flips.items():
            if chosen.any():
                images = torch.where(to_device(chosen, self.device)[:, None, None, None], images.flip(axis), images)
        labels = torch.zeros([len(indices), self.archive.c_dim])
        if self.archive.c_dim > 0:
            labels.scatter_(1, torch.from_numpy(self.archive.labels[indices])[:, None], 1.0)
        labels = to_device(labels, self.device)
        self.position += self.batch
        self.waiting += time.perf_counter() - start
        return images, labels

    def _draw(self, position: int) -> tuple[np.ndarray, dict[int, torch.Tensor]]:
        """Return the indices and, by axis, flips of the part of a batch at a position; it may straddle two chunks."""
        size = len(self.archive)
        indices: list[np.ndarray] = []
        flips: dict[int, list[np.ndarray]] = {axis: [] for axis in self.mirrors}
        while (missing := self.batch - sum(map(len, indices))) > 0:
            start = position + self.batch - missing
            self._load_chunk(start // size)
            part = slice(start % size, start % size + missing)
            indices.append(self._chunk_indices[part])
            for axis, chosen in self._chunk_flips.items():
                flips[axis].append(chosen[part])
        rows = slice(self.part.index, None, self.part.count)
        turned = {axis: torch.from_numpy(np.concatenate(chosen)[rows]) for axis, chosen in flips.items()}
        return np.concatenate(indices)[rows], turned

    def _load_chunk(self, number: int) -> None:
        """Draw as many indices as there are pictures; they depend on the seed and the chunk's number only."""
        if number == self._chunk_number:
            return
        random = np.random.default_rng([self.seed, number])
        size = len(self.archive)
        if self._probabilities is None:
            self._chunk_indices = random.permutation(size)
        else:
            self._chunk_indices = random.choice(size, size, p=self._probabilities)
        self._chunk_flips = {
            axis: random.random(size) < 0.5 if wanted else np.zeros(size, bool) for axis, wanted in self.mirrors.items()
        }
        self._chunk_number = number

    def _next_images(self) -> torch.Tensor:
        """The pictures of the next batch, decoded ahead by other processes.

        Raises FacegenError, in one line, when one cannot be read: what a process raises arrives with its traceback.
        """
        if self._stream is None:  # not before the first batch: only then it is certain where an earlier run was
            self._stream = self._start_workers()
        try:
            return next(self._stream)
        except FacegenError as error:
            line = str(error.args[0]).strip().splitlines()[-1]  # `str` of our errors is one line already
            raise FacegenError(line.removeprefix(f"{FacegenError.__module__}.FacegenError: ")) from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise FacegenError(
                f"{self.archive.path}: a process that reads it ended ({error}); too little memory?"
            ) from error

    def _start_workers(self) -> Iterator[torch.Tensor]:
        loader = torch.utils.data.DataLoader(
            _Pictures(self.archive),
            batch_sampler=_Order(self),
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # or it would take a number from the training's own
        )
        return iter(loader)


def fits_on(device: torch.device, size: int) -> bool:
    """Tell whether this many bytes of pictures may stay in a GPU's memory, as the training needs most of that."""
    return device.type == "cuda" and size <= GPU_SHARE * torch.cuda.mem_get_info(device)[0]


def load_onto(archive: FaceArchive, device: torch.device, chunk: int = 256, *, progress: bool = True) -> torch.Tensor:
    """Decode an archive to uint8 `[N, C, H, W]` on a device; no more than a chunk of it is in the CPU's memory."""
    size = archive.resolution
    images = torch.empty([len(archive), archive.channels, size, size], dtype=torch.uint8, device=device)
    decoded = map_in_order(archive.image, range(len(archive)))
    bar = iter(tqdm(decoded, f"decoding {shown(archive.name, 40)}", len(archive), unit="img", disable=not progress))
    start = 0
    while pictures := list(islice(bar, chunk)):
        images[start : start + len(pictures)] = torch.from_numpy(np.stack(pictures)).to(device)
        start += len(pictures)
    return images


class _Pictures(torch.utils.data.Dataset):
    """The archive's pictures without labels."""

    def __init__(self, archive: FaceArchive) -> None:
        self.archive = archive

    def __len__(self) -> int:
        return len(self.archive)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.archive.image(int(index)))


class _Order:
    """The indices of one batch after the other, ahead of the batches that have been taken."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        position = self.batches.position
        ahead = Batches.__new__(Batches)  # draws the same order without loading a picture
        ahead.__dict__.update(self.batches.__dict__)
        ahead._chunk_number = -1
        while True:
            yield ahead._draw(position)[0].tolist()
            position += ahead.batch
