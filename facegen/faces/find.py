"""Find the faces in a photo (MTCNN), and tell how far one is turned to the side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facegen.faces.template import Face, landmarks_of
from facegen.images import to_rgb, upright_to_cut

if TYPE_CHECKING:
    from facegen.faces.mtcnn import Detector

# MTCNN looks at most at this many pixels along the longer side: its last stage sees a face at 48x48 pixels
# anyway, so more pixels cost time and memory and add only tiny faces.
MAX_DETECTION_SIDE = 1280
# But photos are shrunk by at most this: in one of 100 megapixels a face of 128 pixels would be too small to be seen.
MOST_SHRUNK = 6
SURE = 0.99  # of 60 upright faces of UTKFace none was less sure, of 36 that were "found" in other turns half
TURNS = (Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
REDUCING_GAP = 3.0  # see `_resize`
LARGE_PHOTO = 16_000_000  # pixels; of larger photos a small copy is searched, as each turn would take as much memory
NOSE_DEPTH = 0.5  # how far the tip of the nose stands out before the eyes, as a share of their distance (see `yaw`)


def find_faces(image: Image.Image, *, max_side: int | None = None, detector: Detector | None = None) -> list[Face]:
    """Find the faces in a picture, largest first; an empty list if there are none. See `find_faces_batch`."""
    return find_faces_batch([image], max_side=max_side, detector=detector)[0]


def find_faces_batch(
    images: Sequence[Image.Image], *, max_side: int | None = None, detector: Detector | None = None
) -> list[list[Face]]:
    """Find the faces in each of many pictures, largest first; an empty list for a picture without one.

    Pictures may have different sizes, and none changes what is found in another. They are searched together, on a GPU
    when there is one, in batches of bounded memory. May be called from several threads, each of which then keeps one
    core busy.

    Each picture is shrunk to at most `max_side` pixels for the search, so time and memory are bounded; faces of fewer
    than 20 of these pixels are not seen. None takes 1280, or a sixth of a photo beyond 7680, so that faces of 128
    pixels are always seen. If a picture shows no face, or one at its border (a tight crop), it is searched again with a
    border of half its size: MTCNN needs to see something around a face to place it well.

    Photos may lie on their side or upside down. MTCNN finds faces in them, too, and places their eyes on the mouth, but
    is less sure of them. A picture without a face, or whose surest face may well be turned, is searched in its other
    three turns, and the surest face decides. Boxes and landmarks are those of the picture as it is given.

    Another `detector` than the usual one may look less or more closely.
    """
    detector = detector or _detector()
    images = [upright_to_cut(image) for image in images]
    sides = [_search_side(image.size) if max_side is None else max_side for image in images]
    found: list[list[Face]] = [[] for _ in images]
    for side in dict.fromkeys(sides):  # one for all but huge photos
        members = [index for index, own in enumerate(sides) if own == side]
        for index, faces in zip(members, _find_in_turns([images[i] for i in members], side, detector), strict=True):
            found[index] = faces
    return found


def _search_side(size: tuple[int, int]) -> int:
    """To how many pixels along its longer side a photo is shrunk for the search."""
    return max(MAX_DETECTION_SIDE, math.ceil(max(size) / MOST_SHRUNK))


def _find_in_turns(images: Sequence[Image.Image], max_side: int, detector: Detector) -> list[list[Face]]:
    """As `find_faces_batch`, for pictures that `upright_to_cut` gives."""
    shrinks = [_shrink(image.size, max_side) for image in images]
    images = [to_rgb(image if by == 1 else image.reduce(by)) for image, by in zip(images, shrinks, strict=True)]
    found = _find_upright(images, max_side, detector)
    unsure = [index for index, faces in enumerate(found) if _may_be_turned(images[index], faces, detector)]
    for turn in TURNS:
        turned = _find_upright([images[index].transpose(turn) for index in unsure], max_side, detector)
        for index, faces in zip(unsure, turned, strict=True):
            if _surest(faces) > max(_surest(found[index]), SURE):
                found[index] = [_turned_back(face, turn, images[index].size) for face in faces]
    for faces, by in zip(found, shrinks, strict=True):
        for face in faces if by > 1 else ():
            face.box = tuple((np.array(face.box) * by).tolist())
            face.landmarks = face.landmarks * by
    return found


def _shrink(size: tuple[int, int], max_side: int) -> int:
    """By which number photos beyond any camera's are reduced at once: as much as `_resize` would begin with."""
    return max(1, int(max(size) / max_side / REDUCING_GAP)) if size[0] * size[1] > LARGE_PHOTO else 1


def _find_upright(images: Sequence[Image.Image], max_side: int, detector: Detector) -> list[list[Face]]:
    """As `find_faces_batch`, for pictures of mode RGB, in one turn."""
    found = _detect(images, max_side, detector)
    unsure = [
        index
        for index, faces in enumerate(found)
        if not faces or any(_is_cut_off(face, images[index].size) for face in faces)
    ]
    second = find_faces_padded([images[index] for index in unsure], max_side, detector)
    for index, padded in zip(unsure, second, strict=True):
        found[index] = padded + [face for face in found[index] if not any(_overlap(face, other) for other in padded)]
    return [sorted(faces, key=_area, reverse=True) for faces in found]


def _surest(faces: Sequence[Face]) -> float:
    return max((face.probability for face in faces), default=0.0)


def _may_be_turned(image: Image.Image, faces: Sequence[Face], detector: Detector) -> bool:
    """Whether there is no sure face, or the surest one would be surer in another turn (of its box alone: quick)."""
    if _surest(faces) < SURE:
        return True
    box = max(faces, key=lambda face: face.probability).box
    side, middle = max(box[2] - box[0], box[3] - box[1]), np.add(box[:2], box[2:]) / 2
    corners = np.rint([*(middle - side / 2), *(middle + side / 2)]).astype(int)
    crop = image.crop(tuple(corners.tolist())).resize((48, 48), Image.Resampling.BILINEAR, reducing_gap=3.0)
    turns = [np.asarray(crop), *(np.asarray(crop.transpose(turn)) for turn in TURNS)]
    return int(detector.look_closely(np.stack(turns))[1].argmax()) != 0


def _turned_back(face: Face, turn: Image.Transpose, size: tuple[int, int]) -> Face:
    """Return a face that was found in a turned picture as it lies in the picture itself, of this size."""
    width, height = size

    def back(points: np.ndarray) -> np.ndarray:
        x, y = points[:, 0], points[:, 1]
        if turn == Image.Transpose.ROTATE_180:
            x, y = width - x, height - y
        elif turn == Image.Transpose.ROTATE_90:  # counterclockwise
            x, y = width - y, x
        else:
            x, y = y, height - x
        return np.stack([x, y], axis=1)

    corners = back(np.reshape(face.box, (2, 2)))
    box = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
    return Face(box, face.probability, back(face.landmarks))


def find_faces_padded(
    images: Sequence[Image.Image], max_side: int = MAX_DETECTION_SIDE, detector: Detector | None = None
) -> list[list[Face]]:
    """Find the faces in each picture (mode RGB), searched with a border of half its size made of its edge pixels.

    In a tight crop, such as an aligned face, this finds what `find_faces` would find on its second try.

    Tiny pictures are enlarged for it: MTCNN counts in whole pixels, which costs a third of one at 64x64.
    """
    sizes = [_detection_size(image.size, max_side // 2) for image in images]
    padded = []
    for image, (width, height) in zip(images, sizes, strict=True):
        right, bottom = width + width // 2, height + height // 2
        small = _resize(image, (width, height))
        padded.append(crop_with_edges(small, -(width // 2), -(height // 2), right, bottom))

    results = []
    for image, size, faces in zip(images, sizes, _detect(padded, max_side, detector or _detector()), strict=True):
        scale = np.array(image.size) / size
        shift = np.array(size) // 2
        for face in faces:
            face.box = tuple(((np.reshape(face.box, (2, 2)) - shift) * scale).ravel().tolist())
            face.landmarks = (face.landmarks - shift) * scale
        # What was found in the border alone is an echo of the picture's edge.
        results.append([face for face in faces if _contains((0, 0, *image.size), _middle(face))])
    return results


def yaw(face: Face | np.ndarray | Sequence[Sequence[float]]) -> float:
    """How far a face is turned to the side, in degrees: 0 looks at the camera, near 90 is a profile.

    Positive means turned toward the right of the picture, so that the nose lies right of the eyes' middle.

    The model is a head seen from afar (orthographic projection) whose nose tip stands out before the line of the
    eyes by `NOSE_DEPTH` of their distance, about 31 of 63 mm on an adult. Turned by an angle t, the eyes appear
    cos(t) of their distance apart, and the nose tip moves along their axis by sin(t) of its depth; the ratio of both
    gives tan(t). Measured along the eyes' own axis it does not depend on how the head is tilted in the picture, and
    little on nodding. Flat noses (infants') read as turned less. Expect errors of several degrees.

    Args:
        face: a `Face`, or its landmarks [5, 2].
    """
    left, right, nose = landmarks_of(face)[:3]
    axis = right - left
    distance = float(np.hypot(*axis))
    if distance < 1e-9:
        return 90.0  # one eye hides the other
    shift = float((nose - (left + right) / 2) @ axis) / distance
    return float(np.degrees(np.arctan2(shift, NOSE_DEPTH * distance)))


def crop_with_edges(
    image: Image.Image, left: int, top: int, right: int, bottom: int, *, mirrored: bool = False
) -> Image.Image:
    """Crop; what lies outside the picture repeats its nearest edge pixel, or mirrors the picture."""
    if (left, top, right, bottom) == (0, 0, *image.size):
        return image
    columns = _inside(np.arange(left, right), image.width, mirrored)
    rows = _inside(np.arange(top, bottom), image.height, mirrored)
    first, above = int(columns.min()), int(rows.min())
    pixels = np.asarray(image.crop((first, above, int(columns.max()) + 1, int(rows.max()) + 1)))
    return Image.fromarray(pixels[(rows - above)[:, None], columns - first])


def _inside(places: np.ndarray, length: int, mirrored: bool) -> np.ndarray:
    """The pixels that stand for places along a side of a picture, be they in it or beyond."""
    if not mirrored:
        return places.clip(0, length - 1)
    places = places % (2 * length)
    return np.minimum(places, 2 * length - 1 - places)


def _detect(images: Sequence[Image.Image], max_side: int, detector: Detector) -> list[list[Face]]:
    """The faces of each picture (mode RGB), largest first."""
    if not images:
        return []
    small = []
    for image in images:
        factor = min(1.0, max_side / max(image.size))
        small.append(_resize(image, (max(1, round(image.width * factor)), max(1, round(image.height * factor)))))
    results = []
    detections = detector.detect([np.asarray(image) for image in small])
    for image, shrunk, found in zip(images, small, detections, strict=True):
        scale = np.array(image.size) / shrunk.size
        faces = [
            Face(tuple((box.reshape(2, 2) * scale).ravel().tolist()), float(probability), landmarks * scale)
            for box, probability, landmarks in zip(found.boxes, found.probabilities, found.landmarks, strict=True)
            if probability >= detector.min_probability
        ]
        results.append(sorted(faces, key=_area, reverse=True))
    return results


def _detector() -> Detector:
    from facegen.device import pick_device
    from facegen.faces.mtcnn import get_detector

    return get_detector(pick_device())


def _detection_size(size: tuple[int, int], max_side: int, min_side: int = 160) -> tuple[int, int]:
    """The size in the same proportions with its longer side between `min_side` and `max_side`."""
    factor = min(max(1.0, min_side / max(size)), max_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize without aliasing; `reducing_gap` makes it quick for large photos by averaging blocks first."""
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)


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
