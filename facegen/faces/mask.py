"""Where a face may change: an ellipse around eyes, nose and mouth, and in it the places that aging hardly touches."""

from __future__ import annotations

import numpy as np

from facegen.faces.align import in_photo
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate

FEATHER = 0.3  # width of the mask's fade, as a share of the face's radius
BORDER = 0.12  # width of the fade at the crop's border, as a share of the crop's side
# How much of a change is left out at the middle of an eye, and of the mouth: what a small generator knows of irises and
# teeth are dark and white patches, and doubled they are holes.
EYES, MOUTH = 0.65, 0.5
BROWS, NOSTRILS = 0.8, 0.7  # how much of their own detail they keep, at least, while that of skin fades


def face_mask(x: np.ndarray, y: np.ndarray, template: AlignmentTemplate = UTKFACE_TEMPLATE) -> np.ndarray:
    """How much of a pasted face shows at points of its crop: 1 on the face, smoothly 0 toward its outline.

    The face is an ellipse around the landmarks of the template, upright between eyes and mouth: the forehead, the
    cheeks and the chin lie inside of it, ears and background outside. Where it reaches the border of the crop, it
    fades before it.

    Args:
        x, y: float, fractions of the crop's width and height, of any one shape.

    Returns:
        0..1, of that shape.
    """
    points = np.asarray(template.points, dtype=np.float32)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    eye_distance = max(float(np.hypot(*(points[1] - points[0]))), 1e-3)
    height = max(float(np.hypot(*(mouth - eyes))), 1e-3)
    down = (mouth - eyes) / height
    middle = eyes + 0.42 * (mouth - eyes)
    along = (x - middle[0]) * down[0] + (y - middle[1]) * down[1]
    across = (x - middle[0]) * down[1] - (y - middle[1]) * down[0]
    radius = np.hypot(across / (1.15 * eye_distance), along / (1.3 * height))
    ellipse = _smooth_step((1 - radius) / FEATHER)
    return ellipse * _fade(x, BORDER) * _fade(y, BORDER)


def border_mask(side: int, width: float) -> np.ndarray:
    """Return 1 at a square picture's pixels, smoothly 0 toward its border, over a share of its side: `[H, W, 1]`."""
    fade = _fade((np.arange(side, dtype=np.float32) + 0.5) / side, width)
    return fade[:, None, None] * fade[None, :, None]


def _fade(places: np.ndarray, width: float) -> np.ndarray:
    """1 inside of 0..1, smoothly 0 toward both ends, over this width."""
    return _smooth_step(np.minimum(places, 1 - places) / width)


def crop_mask(shape: tuple[int, int], template: AlignmentTemplate) -> np.ndarray:
    """Return `face_mask` at the pixels of a crop: float32 `[H, W, 1]`."""
    return face_mask(*_points_of(shape), template)[..., None].astype(np.float32)


def protection(shape: tuple[int, int], template: AlignmentTemplate) -> np.ndarray:
    """Return how much of a change is let through at a crop's pixels, for eyes and mouth: float32 `[H, W, 1]`, 0..1."""
    eyes, _, mouth, eye_distance, mouth_width = _features(template)
    spots = [(eye, 0.3 * eye_distance, 0.2 * eye_distance, EYES) for eye in eyes]
    return _without(shape, [*spots, (mouth, 0.6 * mouth_width, 0.28 * mouth_width, MOUTH)])


def skin(shape: tuple[int, int], template: AlignmentTemplate) -> np.ndarray:
    """Return 1 at a crop's pixels that show skin, less at what people know a face by: float32 `[H, W, 1]`, 0..1.

    These are the eyes, the brows above them, the nostrils below the tip of the nose, and the mouth.
    """
    eyes, nose, mouth, eye_distance, mouth_width = _features(template)
    down = np.array([0, eye_distance])
    spots = [(mouth, 0.62 * mouth_width, 0.3 * mouth_width, 1.0)]
    spots.append((nose + 0.06 * down, 0.25 * eye_distance, 0.12 * eye_distance, NOSTRILS))
    for eye in eyes:
        spots.append((eye, 0.3 * eye_distance, 0.16 * eye_distance, 1.0))
        spots.append((eye - 0.26 * down, 0.42 * eye_distance, 0.13 * eye_distance, BROWS))
    return _without(shape, spots)


def _features(template: AlignmentTemplate) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Both eyes, the tip of the nose, the mouth's middle, the distance of the eyes and the width of the mouth."""
    points = np.asarray(template.points, dtype=np.float32)
    eye_distance, mouth_width = (max(float(np.hypot(*(b - a))), 1e-3) for a, b in (points[:2], points[3:]))
    return points[:2], points[2], points[3:].mean(axis=0), eye_distance, mouth_width


def _without(shape: tuple[int, int], spots: list[tuple[np.ndarray, float, float, float]]) -> np.ndarray:
    """1 at a crop's pixels, less in spots: each a middle, a width, a height, and how much is missing there."""
    x, y = _points_of(shape)
    left = np.ones(shape)
    for middle, width, height, part in spots:
        left = left * (1 - part * _blob(x - middle[0], y - middle[1], width, height))
    return left[..., None].astype(np.float32)


def share_inside(
    matrix: np.ndarray, side: int, photo: tuple[int, int], template: AlignmentTemplate = UTKFACE_TEMPLATE
) -> float:
    """Return how much of a face lies inside of its photo, 0..1: of all that may change, in a crop of `side` pixels.

    Args:
        matrix: [2, 3], pixels of the photo to pixels of the crop.
        photo: width and height.
    """
    mask = crop_mask((side, side), template)[..., 0]
    return float((mask * in_photo(matrix, side, photo)).sum() / max(float(mask.sum()), 1e-3))


def _points_of(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of a crop, as fractions of its width and height."""
    y, x = (np.mgrid[: shape[0], : shape[1]] + 0.5) / np.array(shape).reshape(2, 1, 1)
    return x, y


def _blob(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """1 in an ellipse around the origin, smoothly 0 beyond."""
    return np.exp(-(((x / width) ** 2 + (y / height) ** 2) ** 2))


def _smooth_step(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and a ramp without a kink between."""
    values = values.clip(0, 1)
    return values * values * (3 - 2 * values)
