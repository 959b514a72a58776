"""Photos in, aligned faces out: open a photo, find its faces (MTCNN), warp a face to its place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facegen.data import pictures
from facegen.data.pictures import to_rgb
from facegen.errors import FacegenError

# MTCNN looks at most at this many pixels along the longer side: its last stage sees a face at 48x48 pixels
# anyway, so more pixels cost time and memory and add only tiny faces.
MAX_DETECTION_SIDE = 1280
PATCH_BATCH = 16  # pictures decoded at a time when many are measured
NOSE_DEPTH = 0.5  # of the distance of the eyes: how far the tip of the nose stands out before them (see `yaw`)


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
            raise FacegenError(f"an alignment template is five finite (x, y) points, got {self.points!r}")

    def to_json(self) -> list[list[float]]:
        return [[float(x), float(y)] for x, y in self.points]

    @classmethod
    def from_json(cls, points: Sequence[Sequence[float]]) -> AlignmentTemplate:
        try:
            return cls(tuple((float(x), float(y)) for x, y in points))
        except (TypeError, ValueError) as error:
            raise FacegenError(f"an alignment template is five finite (x, y) points, got {points!r}") from error


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


def open_photo(path: str | os.PathLike[str]) -> Image.Image:
    """Open a photo as upright 8-bit RGB.

    EXIF rotation is applied, grayscale becomes RGB, transparency is laid over white, 16 bits become 8.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is a folder, empty, damaged, or not a picture; one line that names the file.
    """
    return to_rgb(pictures.decode(_read(path), str(path)))


def open_original(path: str | os.PathLike[str]) -> Image.Image:
    """Open a photo as `open_photo` does, but let gray stay gray and transparency stay: mode L, LA, RGB or RGBA."""
    with pictures.opened(_read(path), str(path)) as image:
        return pictures.upright_with_alpha(image)


def find_faces(image: Image.Image, *, min_probability: float = 0.9, max_side: int = MAX_DETECTION_SIDE) -> list[Face]:
    """Find the faces in a picture, largest first; an empty list when there is none. See `find_faces_batch`."""
    return find_faces_batch([image], min_probability=min_probability, max_side=max_side)[0]


def find_faces_batch(
    images: Sequence[Image.Image], *, min_probability: float = 0.9, max_side: int = MAX_DETECTION_SIDE
) -> list[list[Face]]:
    """Find the faces in each of many pictures, largest first; an empty list for a picture without one.

    Pictures may have different sizes, and none changes what is found in another. They are searched together, on a GPU
    when there is one, in batches of bounded memory. May be called from several threads, each of which then keeps one
    core busy.

    Each picture is shrunk to at most `max_side` pixels for the search, so time and memory are bounded; faces of fewer
    than 20 of these pixels are not seen. If it shows no face, or one at its border (a tight crop), it is searched again
    with a border of half its size: MTCNN needs to see something around a face to place it well.
    """
    images = [to_rgb(image) for image in images]
    found = _detect(images, min_probability, max_side)
    unsure = [
        index
        for index, faces in enumerate(found)
        if not faces or any(_is_cut_off(face, images[index].size) for face in faces)
    ]
    second = _detect_padded([images[index] for index in unsure], min_probability, max_side)
    for index, padded in zip(unsure, second, strict=True):
        found[index] = padded + [face for face in found[index] if not any(_overlap(face, other) for other in padded)]
    return [sorted(faces, key=_area, reverse=True) for faces in found]


def yaw(face: Face | np.ndarray | Sequence[Sequence[float]]) -> float:
    """How far a face is turned to the side, in degrees: 0 looks at the camera, near 90 is a profile.

    Positive means turned towards the right of the picture, so that the nose lies right of the eyes' middle.

    The model is a head seen from afar (orthographic projection) whose nose tip stands out before the line of the
    eyes by `NOSE_DEPTH` of their distance, about 31 of 63 mm on an adult. Turned by an angle t, the eyes appear
    cos(t) of their distance apart, and the nose tip moves along their axis by sin(t) of its depth; the ratio of both
    gives tan(t). Measured along the eyes' own axis it does not depend on how the head is tilted in the picture, and
    little on nodding. Flat noses (infants') read as turned less. Expect errors of several degrees.

    Args:
        face: a `Face`, or its landmarks [5, 2].
    """
    left, right, nose = _landmarks(face)[:3]
    axis = right - left
    distance = float(np.hypot(*axis))
    if distance < 1e-9:
        return 90.0  # one eye hides the other
    shift = float((nose - (left + right) / 2) @ axis) / distance
    return float(np.degrees(np.arctan2(shift, NOSE_DEPTH * distance)))


def align_face(
    image: Image.Image,
    face: Face | np.ndarray | Sequence[Sequence[float]],
    template: AlignmentTemplate = UTKFACE_TEMPLATE,
    size: int = 128,
) -> Image.Image:
    """Warp a face so that its landmarks come to lie on the template: a square RGB picture of `size` pixels.

    The warp is the one of `alignment_matrix`. Large faces are reduced without aliasing; where the template
    reaches beyond the photo, the photo's edge pixels go on.

    Args:
        face: a `Face`, or its landmarks [5, 2] in pixels of `image`.
    """
    image = to_rgb(image)
    matrix = alignment_matrix(face, template, size)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))  # aligned pixels per photo pixel

    # Sample at least as finely as the photo, then average down: so large photos do not alias.
    oversampling = max(1, int(np.ceil(1 / scale)))
    inverse = invert_matrix(matrix)
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]]) @ inverse[:, :2].T + inverse[:, 2]
    left, top = np.floor(corners.min(axis=0)).astype(int) - 2
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 2
    region = _crop_with_edges(image, left, top, right, bottom)

    to_region = inverse.copy()
    to_region[:, :2] /= oversampling
    to_region[:, 2] -= (left, top)
    fine = size * oversampling
    warped = region.transform(
        (fine, fine), Image.Transform.AFFINE, tuple(to_region.ravel()), resample=Image.Resampling.BICUBIC
    )
    return warped if oversampling == 1 else warped.resize((size, size), Image.Resampling.LANCZOS)


def alignment_matrix(
    face: Face | np.ndarray | Sequence[Sequence[float]], template: AlignmentTemplate, size: int
) -> np.ndarray:
    """The 2x3 matrix that takes pixels of the photo to pixels of the aligned picture (`matrix @ [x, y, 1]`).

    It is the least-squares similarity: rotation, one scale, shift, never a reflection. `invert_matrix` gives
    the way back, for pasting an aged face into its photo.
    """
    source = _landmarks(face)
    target = np.asarray(template.points, dtype=np.float64) * size

    # As complex numbers a similarity is target = a * source + b, and least squares has one line.
    source_c, target_c = source @ [1, 1j], target @ [1, 1j]
    centred = source_c - source_c.mean()
    spread = float(np.sum(np.abs(centred) ** 2))
    a = np.sum(centred.conj() * target_c) / spread if spread > 1e-9 else 0j
    if abs(a) < 1e-9:
        raise FacegenError("the five landmarks of this face lie in one point: it cannot be aligned")
    b = target_c.mean() - a * source_c.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def invert_matrix(matrix: np.ndarray) -> np.ndarray:
    """The 2x3 matrix that undoes a 2x3 affine matrix."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def measure_template(
    images: Sequence[Image.Image], *, max_images: int = 300, min_found: float = 0.25, progress: bool = False
) -> AlignmentTemplate | None:
    """Measure where the landmarks sit in pictures that are already aligned: the median over the faces found.

    At most `max_images` are looked at, spread evenly over `images`. Returns None when fewer than the share
    `min_found` of them shows a face: then the pictures are not aligned faces.
    """
    if len(images) == 0:
        return None
    chosen = np.unique(np.linspace(0, len(images) - 1, min(max_images, len(images))).round().astype(int))
    found: list[np.ndarray] = []
    for start in _progress(range(0, len(chosen), PATCH_BATCH), "measuring the alignment", progress):
        batch = [to_rgb(images[int(i)]) for i in chosen[start : start + PATCH_BATCH]]
        for image, faces in zip(batch, _detect_padded(batch), strict=True):
            if faces:
                found.append(faces[0].landmarks / image.size)
    if len(found) < max(1, min_found * len(chosen)):
        return None
    median = np.median(np.stack(found), axis=0).round(4)
    return AlignmentTemplate.from_json(median.tolist())


def _read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a photo's file; see `open_photo` for what it raises."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise FacegenError(f"{path}: not a file; give a photo (JPEG, PNG, WebP, TIFF, ...)")
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise FacegenError(f"{path}: no permission to read it") from error


def _landmarks(face: Face | np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
    """The five landmarks [5, 2], checked."""
    points = np.asarray(face.landmarks if isinstance(face, Face) else face, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise FacegenError(f"a face has five finite landmarks [5, 2], got an array of shape {points.shape}")
    return points


def _detect(
    images: Sequence[Image.Image], min_probability: float = 0.9, max_side: int = MAX_DETECTION_SIDE
) -> list[list[Face]]:
    """The faces of each picture (mode RGB), largest first."""
    from facegen.device import pick_device
    from facegen.mtcnn import get_detector

    if not images:
        return []
    small = []
    for image in images:
        factor = min(1.0, max_side / max(image.size))
        small.append(_resize(image, (max(1, round(image.width * factor)), max(1, round(image.height * factor)))))
    results = []
    detections = get_detector(pick_device()).detect([np.asarray(image) for image in small])
    for image, shrunk, found in zip(images, small, detections, strict=True):
        scale = np.array(image.size) / shrunk.size
        faces = [
            Face(tuple((box.reshape(2, 2) * scale).ravel().tolist()), float(probability), landmarks * scale)
            for box, probability, landmarks in zip(found.boxes, found.probabilities, found.landmarks, strict=True)
            if probability >= min_probability
        ]
        results.append(sorted(faces, key=_area, reverse=True))
    return results


def _detect_padded(
    images: Sequence[Image.Image], min_probability: float = 0.9, max_side: int = MAX_DETECTION_SIDE
) -> list[list[Face]]:
    """As `_detect`, each picture with a border of half its size made of its edge pixels.

    Tiny pictures are enlarged for it: MTCNN counts in whole pixels, which costs a third of one at 64x64.
    """
    sizes = [_detection_size(image.size, max_side // 2) for image in images]
    padded = []
    for image, (width, height) in zip(images, sizes, strict=True):
        right, bottom = width + width // 2, height + height // 2
        small = _resize(image, (width, height))
        padded.append(_crop_with_edges(small, -(width // 2), -(height // 2), right, bottom))

    results = []
    for image, size, faces in zip(images, sizes, _detect(padded, min_probability, max_side), strict=True):
        scale = np.array(image.size) / size
        shift = np.array(size) // 2
        for face in faces:
            face.box = tuple(((np.reshape(face.box, (2, 2)) - shift) * scale).ravel().tolist())
            face.landmarks = (face.landmarks - shift) * scale
        # What was found in the border alone is an echo of the picture's edge.
        results.append([face for face in faces if _contains((0, 0, *image.size), _middle(face))])
    return results


def _detection_size(size: tuple[int, int], max_side: int, min_side: int = 160) -> tuple[int, int]:
    """The size in the same proportions with its longer side between `min_side` and `max_side`."""
    factor = min(max(1.0, min_side / max(size)), max_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize without aliasing; `reducing_gap` makes it quick for large photos by averaging blocks first."""
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)


def _crop_with_edges(image: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """Crop; what lies outside the picture repeats its nearest edge pixel."""
    columns = np.clip(np.arange(left, right), 0, image.width - 1)
    rows = np.clip(np.arange(top, bottom), 0, image.height - 1)
    pixels = np.asarray(image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)))
    return Image.fromarray(pixels[(rows - rows[0])[:, None], columns - columns[0]])


def _is_cut_off(face: Face, size: tuple[int, int]) -> bool:
    """Whether a face's box reaches the border of its picture, where MTCNN places landmarks badly."""
    width, height = size
    left, top, right, bottom = face.box
    return left < 0.02 * width or top < 0.02 * height or right > 0.98 * width or bottom > 0.98 * height


def _area(face: Face) -> float:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)


def _middle(face: Face) -> np.ndarray:
    return face.landmarks.mean(axis=0)


def _contains(box: tuple[float, ...], point: np.ndarray) -> bool:
    return bool(box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3])


def _overlap(one: Face, other: Face) -> bool:
    """Whether two detections are of one face: the middle of either lies in the box of the other."""
    return _contains(one.box, _middle(other)) or _contains(other.box, _middle(one))


def _progress(steps: range, text: str, show: bool) -> Any:
    from tqdm import tqdm

    return tqdm(steps, desc=text, disable=not show)
