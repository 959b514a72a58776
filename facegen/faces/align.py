"""Faces in one place: warp a face onto a template, or measure the template of faces that are aligned already."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from facegen.faces.find import crop_with_edges, find_faces_padded
from facegen.faces.template import (
    UTKFACE_TEMPLATE,
    AlignmentTemplate,
    Face,
    alignment_matrix,
    corners_of,
    invert_matrix,
)
from facegen.images import to_rgb, upright_to_cut

LARGE_FACE = 4_000_000  # pixels of a photo that one face takes; of more, a smaller copy of the photo is warped
PATCH_BATCH = 16  # pictures decoded at a time when many are measured


def align_face(
    image: Image.Image,
    face: Face | np.ndarray | Sequence[Sequence[float]],
    template: AlignmentTemplate = UTKFACE_TEMPLATE,
    size: int = 128,
) -> Image.Image:
    """Warp a face so that its landmarks lie on the template; returns a square RGB picture of `size` pixels.

    Args:
        face: a `Face`, or its landmarks [5, 2] in pixels of `image`.
    """
    image = upright_to_cut(image)
    return cut_face(image, alignment_matrix(face, template, size), size)


def cut_face(image: Image.Image, matrix: np.ndarray, size: int, *, mirrored: bool = False) -> Image.Image:
    """Cut a square RGB picture of `size` pixels out of a photo.

    Large faces are reduced without aliasing; where the picture reaches beyond the photo, the photo's edge pixels are
    repeated.

    Args:
        matrix: [2, 3], pixels of the photo to pixels of the picture, see `alignment_matrix`.
        mirrored: beyond the photo, show its mirror image instead.
    """
    image = upright_to_cut(image)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))  # aligned pixels per photo pixel

    # Sample at least as finely as the photo, then average down: so large photos do not alias.
    oversampling = max(1, int(np.ceil(1 / scale - 1e-9)))  # an aligned picture stays as it is
    inverse = invert_matrix(matrix)
    corners = corners_of(size, size, inverse)
    left, top = (np.floor(corners.min(axis=0)).astype(int) - 2).tolist()
    right, bottom = (np.ceil(corners.max(axis=0)).astype(int) + 2).tolist()
    # Only the part of the photo around the face is processed: a photo of 100 megapixels takes 400 MB.
    x, y = min(max(left, 0), image.width - 1), min(max(top, 0), image.height - 1)
    around = (x, y, min(max(right, x + 1), image.width), min(max(bottom, y + 1), image.height))
    shrink = math.isqrt((right - left) * (bottom - top) // LARGE_FACE)
    if shrink > 1:  # still far finer than the result, or nearly as fine as a photo can be
        smaller = np.column_stack([matrix[:, :2] * shrink, matrix[:, :2] @ (x, y) + matrix[:, 2]])
        return cut_face(image.reduce(shrink, around), smaller, size, mirrored=mirrored)
    region = crop_with_edges(to_rgb(image.crop(around)), left - x, top - y, right - x, bottom - y, mirrored=mirrored)

    to_region = inverse.copy()
    to_region[:, :2] /= oversampling
    to_region[:, 2] -= (left, top)
    fine = size * oversampling
    warped = region.transform(
        (fine, fine), Image.Transform.AFFINE, tuple(to_region.ravel()), resample=Image.Resampling.BICUBIC
    )
    return warped if oversampling == 1 else warped.resize((size, size), Image.Resampling.LANCZOS)


def in_photo(matrix: np.ndarray, side: int, photo: tuple[int, int]) -> np.ndarray:
    """Tell which pixels of a cut face show the photo, and not what lies beyond: bool `[side, side]`.

    Args:
        matrix: [2, 3], pixels of the photo to pixels of the face.
        photo: width and height.
    """
    y, x = np.mgrid[:side, :side] + 0.5
    inverse = invert_matrix(matrix)
    across, down = (inverse[row, 0] * x + inverse[row, 1] * y + inverse[row, 2] for row in (0, 1))
    return (across >= 0) & (across < photo[0]) & (down >= 0) & (down < photo[1])


def completed(face: Image.Image, inside: np.ndarray) -> Image.Image:
    """Return a face, cut by the border of its photo, with what is missing taken from its other half, where that is.

    An encoder makes more of that than of repeated edge pixels: where an eye is cut through, ages were read 3 years
    off, not 6, and the change in what is left of the face was wrong by less (60 faces of UTKFace).

    Args:
        face: as `align_face` cuts it, so that its left and right half mirror each other.
        inside: see `in_photo`.
    """
    missing = ~inside & inside[:, ::-1]
    if not missing.any():
        return face
    pixels = np.array(face)
    pixels[missing] = pixels[:, ::-1][missing]
    return Image.fromarray(pixels)


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
    for start in tqdm(range(0, len(chosen), PATCH_BATCH), "measuring the alignment", disable=not progress):
        batch = [to_rgb(images[int(i)]) for i in chosen[start : start + PATCH_BATCH]]
        for image, faces in zip(batch, find_faces_padded(batch), strict=True):
            if faces:
                found.append(faces[0].landmarks / image.size)
    if len(found) < max(1, min_found * len(chosen)):
        return None
    median = np.median(np.stack(found), axis=0).round(4)
    return AlignmentTemplate.from_json(median.tolist())
