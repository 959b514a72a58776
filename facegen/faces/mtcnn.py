"""The MTCNN cascade (Zhang et al. 2016) over batches of pictures of different sizes, with facenet-pytorch's networks.

Three networks look at ever fewer windows: the proposal network slides over a pyramid of shrunk pictures, the refining
and the output network judge what it proposes. Here many pictures go through each network together. Pictures of
different sizes share a canvas, and what would come from the canvas beyond a picture is masked, so each gets the result
that it gets alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from facenet_pytorch import ONet, PNet, RNet
from torchvision.ops import nms

SMALLEST_FACE = 20  # pixels
WINDOW, STRIDE = 12, 2  # of the proposal network: it sees 12x12 pixels, and moves by 2
PYRAMID_STEP = 0.709  # about the square root of a half: each level has half the pixels of the one before
THRESHOLDS = (0.6, 0.7, 0.7)  # the least probability of a face, for each network
WINDOWS_PER_CALL = 512

# Pictures that go through the networks together: enough for a GPU, and bounded in memory by their pixels. On a
# processor a batch that leaves the cache only costs: 2**20 pixels take about 60 MB in the first layers.
MAX_BATCH = 16
MAX_BATCH_PIXELS = {"cpu": 2**20, "cuda": 2**25}
BUCKET = 64  # pictures whose sides differ by less than this share a canvas


@dataclass(frozen=True)
class Detections:
    """The faces of one picture: boxes [N, 4] (left, top, right, bottom), probabilities [N], landmarks [N, 5, 2]."""

    boxes: np.ndarray
    probabilities: np.ndarray
    landmarks: np.ndarray


@lru_cache(maxsize=4)
def get_detector(device: torch.device) -> Detector:
    """The detector on a device, built once."""
    return Detector(device)


class Detector:
    """Finds faces in pictures. It may be used from several threads; each then computes on one core."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.proposer, self.refiner, self.finisher = (
            network().eval().requires_grad_(False).to(device) for network in (PNet, RNet, ONet)
        )

    def detect(self, pictures: Sequence[np.ndarray]) -> list[Detections]:
        """The faces of each picture (uint8 [H, W, 3], RGB), whatever their sizes."""
        found: list[Detections] = [_NOTHING] * len(pictures)
        with single_threaded(), torch.inference_mode():
            for members in self._batches(pictures):
                for index, faces in zip(members, self._detect([pictures[i] for i in members]), strict=True):
                    found[index] = faces
        return found

    def _batches(self, pictures: Sequence[np.ndarray]) -> Iterator[list[int]]:
        """Indices of pictures of about one size, as many as may be held at once."""
        buckets: dict[tuple[int, int], list[int]] = {}
        for index, picture in enumerate(pictures):
            height, width = picture.shape[:2]
            if min(height, width) >= SMALLEST_FACE:  # else there is no room for a face
                buckets.setdefault((-(-height // BUCKET), -(-width // BUCKET)), []).append(index)
        budget = MAX_BATCH_PIXELS.get(self.device.type, MAX_BATCH_PIXELS["cpu"])
        for (rows, columns), indices in buckets.items():
            count = min(MAX_BATCH, max(1, budget // (rows * columns * BUCKET**2)))
            for start in range(0, len(indices), count):
                yield indices[start : start + count]

    def _detect(self, pictures: list[np.ndarray]) -> list[Detections]:
        sizes = np.array([picture.shape[:2] for picture in pictures])
        sums = _area_sums(pictures, self.device)
        owner, boxes = self._propose(sums, sizes)
        owner, boxes = self._refine(sums, sizes, owner, boxes)
        owner, boxes, scores, landmarks = self._finish(sums, sizes, owner, boxes)
        found = []
        for index in range(len(pictures)):
            mine = np.flatnonzero(owner == index)
            mine = mine[_suppress_contained(boxes[mine], scores[mine], 0.7)]
            found.append(Detections(boxes[mine], scores[mine], landmarks[mine]))
        return found

    def _propose(self, sums: torch.Tensor, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Stage 1: windows that may show a face, over a pyramid of scales; (owner [M], boxes [M, 4])."""
        owners, boxes, scores, shifts = [], [], [], []
        scale = WINDOW / SMALLEST_FACE
        while (members := np.flatnonzero(sizes.min(axis=1) * scale >= WINDOW)).size:
            probability, shift = (x.cpu().numpy() for x in self._propose_level(sums, sizes, members, scale))
            which, row, column = np.nonzero(probability >= THRESHOLDS[0])
            score = probability[which, row, column]
            corner = np.stack([column, row], axis=1) * STRIDE + 1.0
            window = np.concatenate([np.floor(corner / scale), np.floor((corner + WINDOW - 1) / scale)], axis=1)
            kept = _suppress(members[which], window, score, 0.5)
            owners.append(members[which][kept])
            boxes.append(window[kept])
            scores.append(score[kept])
            shifts.append(shift.transpose(0, 2, 3, 1)[which, row, column][kept])
            scale *= PYRAMID_STEP
        owner, box, score, shift = (np.concatenate(parts) for parts in (owners, boxes, scores, shifts))
        kept = _suppress(owner, box, score, 0.7)
        return owner[kept], _square(_moved(box[kept], shift[kept], 0.0))

    def _propose_level(
        self, sums: torch.Tensor, sizes: np.ndarray, members: np.ndarray, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One level of the pyramid: probabilities [N, rows, columns], 0 beyond a picture, and shifts [N, 4, ...]."""
        net = self.proposer
        groups = _by_size(sizes[members])
        if len(members) < len(sums):  # the smallest pictures have fewer levels
            sums = sums[members]
        shrunk = {size: (int(size[0] * scale + 1), int(size[1] * scale + 1)) for size in groups}
        height, width = np.max(list(shrunk.values()), axis=0)
        canvas = torch.zeros(len(members), height, width, 3, device=self.device)
        for size, group in groups.items():
            rows, columns = shrunk[size]
            for index in [slice(None)] if len(groups) == 1 else group.tolist():
                canvas[index, :rows, :columns] = _shrink(sums[index], size, (rows, columns))

        # Windows that straddle a picture's edge must not see the canvas: pooling takes the largest, so it is nothing.
        x = net.prelu1(net.conv1(canvas.permute(0, 3, 1, 2)))
        for size, group in groups.items():
            _fill_beyond(x, group, shrunk[size][0] - 2, shrunk[size][1] - 2, -torch.inf)
        x = net.pool1(x)
        pooled = {size: (-(-(rows - 2) // 2), -(-(columns - 2) // 2)) for size, (rows, columns) in shrunk.items()}
        for size, group in groups.items():
            _fill_beyond(x, group, *pooled[size], 0.0)
        x = net.prelu3(net.conv3(net.prelu2(net.conv2(x))))
        probability = net.softmax4_1(net.conv4_1(x))[:, 1:]
        for size, group in groups.items():
            _fill_beyond(probability, group, pooled[size][0] - 4, pooled[size][1] - 4, 0.0)
        return probability[:, 0], net.conv4_2(x)

    def _refine(
        self, sums: torch.Tensor, sizes: np.ndarray, owner: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stage 2: throw out most windows, and move the rest onto the faces."""
        owner, boxes, (shift, probability) = self._judge(self.refiner, 24, sums, sizes, owner, boxes)
        score = probability[:, 1]
        kept = np.flatnonzero(score > THRESHOLDS[1])
        kept = kept[_suppress(owner[kept], boxes[kept], score[kept], 0.7)]
        return owner[kept], _square(_moved(boxes[kept], shift[kept], 1.0))

    def _finish(
        self, sums: torch.Tensor, sizes: np.ndarray, owner: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Stage 3: the faces; (owner [M], boxes [M, 4], probabilities [M], landmarks [M, 5, 2])."""
        owner, boxes, (shift, points, probability) = self._judge(self.finisher, 48, sums, sizes, owner, boxes)
        score = probability[:, 1]
        kept = score > THRESHOLDS[2]
        owner, boxes, score, shift = owner[kept], boxes[kept], score[kept], shift[kept]
        shares = points[kept].reshape(-1, 2, 5).transpose(0, 2, 1)  # of the box's width and height
        landmarks = boxes[:, None, :2] - 1 + shares * (boxes[:, None, 2:] - boxes[:, None, :2] + 1)
        return owner, _moved(boxes, shift, 1.0), score, landmarks

    def _judge(
        self,
        network: torch.nn.Module,
        side: int,
        sums: torch.Tensor,
        sizes: np.ndarray,
        owner: np.ndarray,
        boxes: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Run a network on the content of each box, shrunk to `side` pixels; boxes outside their picture go."""
        # The networks were trained with coordinates that count from 1, cut to whole pixels.
        whole = np.trunc(boxes).astype(np.int64)
        start = np.maximum(whole[:, :2], 1) - 1
        stop = np.minimum(whole[:, 2:], sizes[owner][:, ::-1])
        inside = (stop > start).all(axis=1)
        owner, boxes, start, stop = owner[inside], boxes[inside], start[inside], stop[inside]
        if len(owner) == 0:  # the shapes of no answer: the networks do not take a batch of none
            blank = network(torch.zeros(1, 3, side, side, device=self.device))
            return owner, boxes, [x[:0].cpu().double().numpy() for x in blank]
        parts = []
        for first in range(0, len(owner), WINDOWS_PER_CALL):
            here = slice(first, first + WINDOWS_PER_CALL)
            parts.append(network(_patches(sums, owner[here], start[here], stop[here], side)))
        return owner, boxes, [torch.cat(part).cpu().double().numpy() for part in zip(*parts, strict=True)]


_NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))


# -- shrinking by averaging, from sums over rectangles


def _area_sums(pictures: list[np.ndarray], device: torch.device) -> torch.Tensor:
    """Sums of the pixels above and left of each corner [N, H + 1, W + 1, 3], on one canvas for all pictures.

    Whole numbers, so what is computed from them depends on nothing but the picture (Crow 1984).
    """
    height, width = np.max([picture.shape[:2] for picture in pictures], axis=0)
    canvas = np.zeros((len(pictures), height + 1, width + 1, 3), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        canvas[index, 1 : picture.shape[0] + 1, 1 : picture.shape[1] + 1] = picture
    return torch.from_numpy(canvas).to(device).cumsum(2, dtype=torch.int32).cumsum_(1)


def _edges(length: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First and last corner [..., count] of each of `count` cells that cover `length` pixels, cut to whole pixels."""
    cells = torch.arange(count, device=length.device)
    return cells * length // count, -(-(cells + 1) * length // count)


def _shrink(sums: torch.Tensor, size: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    """One picture, or several of one `size`, averaged down to [..., rows, columns, 3], as the networks read them."""
    (top, bottom), (left, right) = (
        _edges(torch.tensor(old, device=sums.device), new) for old, new in zip(size, target, strict=True)
    )
    rows = sums.index_select(-3, bottom) - sums.index_select(-3, top)  # index_select is several times as fast as []
    total = rows.index_select(-2, right) - rows.index_select(-2, left)
    return _normalised(total / ((bottom - top)[:, None] * (right - left)).unsqueeze(-1))


def _patches(sums: torch.Tensor, owner: np.ndarray, start: np.ndarray, stop: np.ndarray, side: int) -> torch.Tensor:
    """The rectangles from `start` to `stop` (x, y) averaged to [M, 3, side, side], as the networks read them."""
    index, first, length = (torch.from_numpy(x).to(sums.device) for x in (owner, start, stop - start))
    near, far = _edges(length[..., None], side)  # [M, 2, side]
    low, high = first[..., None] + near, first[..., None] + far
    height, width = sums.shape[1:3]
    flat = sums.reshape(-1, 3)

    def corner(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        places = ((index[:, None] * height + rows) * width)[:, :, None] + columns[:, None, :]
        return flat.index_select(0, places.reshape(-1))

    (left, top), (right, bottom) = low.unbind(1), high.unbind(1)
    total = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)
    area = (bottom - top)[:, :, None] * (right - left)[:, None, :]
    return _normalised(total.view(-1, side, side, 3) / area.unsqueeze(-1)).permute(0, 3, 1, 2)


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels - 127.5) / 128


def _by_size(sizes: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (height, width) in enumerate(sizes.tolist()):
        groups.setdefault((height, width), []).append(index)
    return {size: np.array(indices) for size, indices in groups.items()}


def _fill_beyond(x: torch.Tensor, group: np.ndarray, rows: int, columns: int, value: float) -> None:
    """Overwrite what lies beyond the first rows and columns in the pictures of a group; x is [N, C, H, W]."""
    x[group, :, max(0, rows) :] = value
    x[group, :, :, max(0, columns) :] = value


# -- boxes


def _moved(boxes: np.ndarray, shift: np.ndarray, extra: float) -> np.ndarray:
    """Boxes [M, 4] with each edge moved by a share of the box's width or height, which count `extra` pixels more."""
    size = boxes[:, 2:] - boxes[:, :2] + extra
    return boxes + shift * np.concatenate([size, size], axis=1)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Boxes grown to squares about their middle."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + (size - side) / 2
    return np.concatenate([corner, corner + side], axis=1)


def _suppress(owner: np.ndarray, boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Indices of the boxes that no better box of the same picture overlaps by more than that share of their union."""
    kept = []
    for picture in np.unique(owner):
        mine = np.flatnonzero(owner == picture)
        chosen = nms(torch.from_numpy(boxes[mine]).double(), torch.from_numpy(scores[mine]).double(), overlap)
        kept.append(mine[chosen.numpy()])
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)


def _suppress_contained(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Indices of the boxes that share no more than that part of the smaller one with any better box."""
    kept: list[int] = []
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    for index in np.argsort(-scores, kind="stable"):
        better = boxes[kept]
        size = np.minimum(better[:, 2:], boxes[index, 2:]) - np.maximum(better[:, :2], boxes[index, :2]) + 1
        shared = np.maximum(size, 0).prod(axis=1)
        if (shared <= overlap * np.minimum(areas[kept], areas[index])).all():
            kept.append(int(index))
    return np.array(kept, dtype=np.int64)


# -- threads

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
