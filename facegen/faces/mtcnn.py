"""facenet-pytorch's MTCNN (Zhang et al. 2016) over pictures of different sizes, in batches of bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from facenet_pytorch import MTCNN

SMALLEST_FACE = 20  # pixels
THRESHOLDS, FACTOR = (0.6, 0.7, 0.7), 0.709  # facenet-pytorch's own, see `Detector`
MIN_PROBABILITY = 0.9  # that what MTCNN found is a face
CROP_SIDE = 48  # what the last network takes
# Pictures of one size that are searched together: enough for a GPU, and bounded in memory by their pixels.
MAX_BATCH = 16
MAX_BATCH_PIXELS = {"cpu": 2**20, "cuda": 2**25}


class Detections(NamedTuple):
    """The faces of one picture: boxes [N, 4] (left, top, right, bottom), probabilities [N], landmarks [N, 5, 2]."""

    boxes: np.ndarray
    probabilities: np.ndarray
    landmarks: np.ndarray


NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))


@lru_cache(maxsize=4)
def get_detector(device: torch.device) -> Detector:
    """The detector on a device, built once."""
    return Detector(device)


class Detector:
    """Finds faces in pictures. It may be used from several threads; each then computes on one core.

    Args:
        thresholds: how sure each of the three networks must be, 0..1. Given, the last one is also enough for a face;
            else MIN_PROBABILITY is asked for.
        factor: by how much the picture is shrunk from one search for larger faces to the next, 0..1.

    Attributes:
        min_probability: what is less surely a face does not count.
    """

    def __init__(self, device: torch.device, thresholds: Sequence[float] | None = None, factor: float = FACTOR) -> None:
        self.min_probability = MIN_PROBABILITY if thresholds is None else thresholds[-1]
        levels = list(thresholds or THRESHOLDS)
        found = MTCNN(min_face_size=SMALLEST_FACE, thresholds=levels, factor=factor, keep_all=True, device=device)
        self.mtcnn = found.float()  # whatever the caller has made torch's default type

    def detect(self, pictures: Sequence[np.ndarray]) -> list[Detections]:
        """The faces of each picture (uint8 [H, W, 3], RGB), whatever their sizes."""
        found = [NOTHING] * len(pictures)
        with single_threaded():
            for members in self._batches(pictures):
                answers = self.mtcnn.detect(np.stack([pictures[index] for index in members]), landmarks=True)
                for index, boxes, *others in zip(members, *answers, strict=True):
                    if boxes is not None:
                        found[index] = Detections(*(np.asarray(part, dtype=np.float64) for part in (boxes, *others)))
        return found

    def look_closely(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ask the last of the three networks about crops (uint8 [N, CROP_SIDE, CROP_SIDE, 3]) of single faces.

        Returns:
            Landmarks [N, 5, 2] as fractions of a crop's sides, and how sure it is of an upright face: [N], 0..1.
        """
        pixels = torch.from_numpy(crops).to(self.mtcnn.device).permute(0, 3, 1, 2).float()
        with single_threaded(), torch.no_grad():
            _, points, probabilities = self.mtcnn.onet((pixels - 127.5) / 128)
        return points.reshape(-1, 2, 5).transpose(1, 2).double().cpu().numpy(), probabilities[:, 1].cpu().numpy()

    def _batches(self, pictures: Sequence[np.ndarray]) -> Iterator[list[int]]:
        """Indices of pictures of one size, as many as may be held at once."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        for index, picture in enumerate(pictures):
            if min(picture.shape[:2]) >= SMALLEST_FACE:  # else there is no room for a face
                sizes.setdefault(picture.shape[:2], []).append(index)
        budget = MAX_BATCH_PIXELS.get(self.mtcnn.device.type, MAX_BATCH_PIXELS["cpu"])
        for (height, width), indices in sizes.items():
            count = min(MAX_BATCH, max(1, budget // (height * width)))
            for start in range(0, len(indices), count):
                yield indices[start : start + count]


_lock = threading.Lock()
_inside = 0
_usual_threads = 1


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let PyTorch compute on one core within the block, unless this is the main thread.

    Threads of a pool keep all cores busy by themselves. PyTorch's number of threads belongs to each thread, but the
    last number set is what new threads begin with, so it is put back.
    """
    global _inside, _usual_threads
    if threading.current_thread() is threading.main_thread():
        yield
        return
    with _lock:
        if _inside == 0:
            _usual_threads = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(_usual_threads)
