"""The part of a photo around its faces. The page compares this part, or nobody would see small faces change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from facegen.aging.results import FaceResult

Box = tuple[float, float, float, float]  # left, top, right, bottom
LEAST = 400  # pixels of the photo: a smaller part would be a blur on the page


@dataclass(frozen=True)
class Part:
    """A part of a photo, or all of it, as large as the page shows it.

    left, top: where it begins, in pixels of the photo.
    scale: its pixels for each pixel of the photo.
    """

    picture: Image.Image
    left: float
    top: float
    scale: float

    def placed(self, result: FaceResult) -> FaceResult:
        """A face of the photo as one of `picture`."""
        linear, shift = result.matrix[:, :2], result.matrix[:, 2]
        matrix = np.column_stack([linear / self.scale, linear @ (self.left, self.top) + shift])
        return replace(result, matrix=matrix, box=self.box_of(result.box))

    def box_of(self, box: Box) -> Box:
        """A box in the photo as one in `picture`."""
        left, top, right, bottom = box
        return (
            (left - self.left) * self.scale,
            (top - self.top) * self.scale,
            (right - self.left) * self.scale,
            (bottom - self.top) * self.scale,
        )


def whole(photo: Image.Image, side: int) -> Part:
    """All of a photo, of at most `side` pixels, with its color profile."""
    return _shrunk(photo, (0, 0, *photo.size), side)


def around(photo: Image.Image, boxes: Sequence[Box], side: int) -> Part:
    """The part of a photo with all its faces and as much again on each side; all of it where that is most of it.

    Args:
        side: at most so many pixels.
    """
    margin = max(max(right - left, bottom - top) for left, top, right, bottom in boxes)
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    left, right = _widened(min(lefts) - margin, max(rights) + margin, photo.width)
    top, bottom = _widened(min(tops) - margin, max(bottoms) + margin, photo.height)
    if (right - left) * (bottom - top) > photo.width * photo.height / 2:
        return whole(photo, side)
    return _shrunk(photo, (left, top, right, bottom), side)


def _widened(start: float, end: float, size: int) -> tuple[int, int]:
    """A stretch from `start` to `end`, of LEAST pixels if there are as many, within `size`."""
    missing = max(LEAST - (end - start), 0) / 2
    return max(round(start - missing), 0), min(round(end + missing), size)


def _shrunk(photo: Image.Image, box: tuple[int, int, int, int], side: int) -> Part:
    picture = photo.crop(box)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return Part(picture, box[0], box[1], picture.width / (box[2] - box[0]))
