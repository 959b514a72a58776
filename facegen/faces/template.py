"""Where the five landmarks of a face lie: in a photo, and in an aligned picture; and the matrix between the two."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facegen.errors import FacegenError


@dataclass(frozen=True)
class AlignmentTemplate:
    """Where the five landmarks sit in an aligned picture, as fractions of its width and height.

    `points` are (x, y) of left eye, right eye, nose, left and right mouth corner, left and right as seen in
    the picture.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=float)
        if points.shape != (5, 2) or not np.isfinite(points).all():
            raise FacegenError(f"an alignment template is five finite (x, y) points, got {reprlib.repr(self.points)}")

    def to_json(self) -> list[list[float]]:
        return [[float(x), float(y)] for x, y in self.points]

    def widened(self, margin: float) -> AlignmentTemplate:
        """The template for a frame that is wider by this fraction, with the same center."""
        points = 0.5 + (np.array(self.points) - 0.5) / (1 + margin)
        return AlignmentTemplate.from_json(points.round(6).tolist())

    @classmethod
    def from_json(cls, points: Sequence[Sequence[float]]) -> AlignmentTemplate:
        try:
            return cls(tuple((float(x), float(y)) for x, y in points))
        except (TypeError, ValueError, OverflowError) as error:
            message = f"an alignment template is five finite (x, y) points, got {reprlib.repr(points)}"
            raise FacegenError(message) from error


# Medians over 300 pictures of UTKFace's "aligned and cropped" faces, measured with `measure_template`.
UTKFACE_TEMPLATE = AlignmentTemplate(((0.300, 0.291), (0.694, 0.292), (0.498, 0.531), (0.316, 0.694), (0.670, 0.695)))


@dataclass
class Face:
    """One face found in a photo; every length is in pixels of that photo, turned upright by its EXIF entry.

    box: left, top, right, bottom.  landmarks: [5, 2], in the order of `AlignmentTemplate`.
    """

    box: tuple[float, float, float, float]
    probability: float
    landmarks: np.ndarray


def alignment_matrix(
    face: Face | np.ndarray | Sequence[Sequence[float]], template: AlignmentTemplate, size: int
) -> np.ndarray:
    """The 2x3 matrix that takes pixels of the photo to pixels of the aligned picture (`matrix @ [x, y, 1]`).

    It is the least-squares similarity: rotation, one scale, shift, never a reflection. `invert_matrix` gives
    the way back, for pasting an aged face into its photo.
    """
    source = landmarks_of(face)
    target = np.asarray(template.points, dtype=np.float64) * size

    # As complex numbers a similarity is target = a * source + b, and least squares has one line.
    source_c, target_c = source @ [1, 1j], target @ [1, 1j]
    centered = source_c - source_c.mean()
    spread = float(np.sum(np.abs(centered) ** 2))
    a = np.sum(centered.conj() * target_c) / spread if spread > 1e-9 else 0j
    if abs(a) < 1e-9:
        raise FacegenError("the five landmarks of this face are at one point, so it cannot be aligned")
    b = target_c.mean() - a * source_c.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def template_of(
    face: Face | np.ndarray | Sequence[Sequence[float]], matrix: np.ndarray, size: int
) -> AlignmentTemplate:
    """Where the landmarks of a face lie in its aligned picture of `size` pixels, see `alignment_matrix`."""
    return AlignmentTemplate.from_json((moved(landmarks_of(face), matrix) / size).tolist())


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Where a 2x3 affine matrix takes points `[N, 2]`."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def corners_of(width: int, height: int, matrix: np.ndarray) -> np.ndarray:
    """Where a 2x3 affine matrix takes the corners of a picture: `[4, 2]`."""
    return moved(np.array([[0, 0], [width, 0], [width, height], [0, height]]), matrix)


def invert_matrix(matrix: np.ndarray) -> np.ndarray:
    """The 2x3 matrix that undoes a 2x3 affine matrix."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def landmarks_of(face: Face | np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
    """The five landmarks [5, 2], checked."""
    points = np.asarray(face.landmarks if isinstance(face, Face) else face, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise FacegenError(f"a face has five finite landmarks [5, 2], got an array of shape {points.shape}")
    return points
