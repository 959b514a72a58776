"""Crop square pictures of faces from any pictures, or give the reason why a picture is not usable."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from facegen import images as pictures
from facegen.data.options import CropOptions
from facegen.data.sources.base import Skipped, read_item
from facegen.errors import FacegenError, shorten
from facegen.faces.align import align_face
from facegen.faces.find import find_faces_batch, yaw
from facegen.faces.template import Face, alignment_matrix, invert_matrix
from facegen.reading import check_types
from facegen.text import visible

# Faces are first sought in pictures of this side: in most pictures of data sets the face is large, and a search costs
# by the pixel. Landmarks come out as steady as at 1280 (they scatter by 1.5 % of the distance of the eyes). Where that
# shows none, or only one so small that another of a third of its size could be missed, all the detail that the detector
# takes is used.
QUICK_SIDE, QUICK_FACE = 320, 60
MAX_PIXELS_AT_ONCE = 16_000_000  # decoded pictures that wait for one search: about 50 MB a thread
COUNTED_FACE = 1 / 3  # share of the largest face's size: smaller ones are bystanders, or specks taken for faces
SHARPNESS_SIDE = 128
JPEG_REDUCTION = 2  # a JPEG may be decoded at 1/2, 1/4 or 1/8 while its side stays this many times the target's
MAX_OUTSIDE = 0.1  # share of the crop's area; more is worth a note
FLAT = 8  # gray levels: a picture of less contrast has no difference hash, it would be one of noise

UNREADABLE = "unreadable picture"  # why a picture is dropped that cannot be decoded
_Read = Callable[[str], bytes]
_CROPPED_TYPES = {"name": (str,), "sha256": (str,), "dhash": (int, type(None)), "notes": (list,)}


@dataclass(frozen=True, slots=True)
class Cropped:
    """The square picture of a face.

    Attributes:
        name: the file, as given.
        sha256: the checksum of the source file's bytes, in hexadecimal.
        dhash: `difference_hash` of the crop.
        notes: what a person should know of it: `pictures.oddities`, `enlarged` (the crop spans fewer pixels of the
            source than it has), `cut to a square`, `no face: the middle was used`, `reaches beyond the picture` (more
            than a tenth of the crop, where the picture's edge pixels are repeated).
        png: RGB, of the resolution asked for; empty once the picture lies in a spool or an archive.
    """

    name: str
    sha256: str
    dhash: int | None
    notes: tuple[str, ...]
    png: bytes = b""


def read_outcome(row: Any) -> Cropped | Skipped:
    """Return what came of a picture, from its fields in JSON, no PNG among them. Raises FacegenError for nonsense."""
    if isinstance(row, dict) and "reason" in row:
        skipped = read_item(row)
        assert isinstance(skipped, Skipped)  # as it has a reason
        return skipped
    found = Cropped(**check_types(row, _CROPPED_TYPES) | {"notes": tuple(row["notes"])})
    if not re.fullmatch("[0-9a-f]{64}", found.sha256) or not 0 <= (found.dhash or 0) < 2**64:
        raise FacegenError(f"{shorten(found.name, 60)}: its checksums are missing or damaged")
    if not all(isinstance(note, str) for note in found.notes):
        raise FacegenError(f"{shorten(found.name, 60)}: its notes are missing or damaged")
    return found


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture decoded to RGB. `size` is that of the file, turned upright: a JPEG may have been decoded smaller.

    One that `is_large` has its turn, see `pictures.in_turn`, and is used up before the next is loaded.
    """

    name: str
    image: Image.Image
    size: tuple[int, int]
    sha256: str
    notes: tuple[str, ...]
    is_large: bool


def crop_pictures(names: Sequence[str], read: _Read, options: CropOptions) -> list[Cropped | Skipped]:
    """Crop pictures; `read` gives the bytes of each, or raises the FacegenError that they are unreadable.

    One result for each, in order; none depends on the others. May be called from several threads, each of which then
    keeps one core busy. With crop `align` a few dozen pictures make a good batch.
    """
    if options.crop != "align":
        return [_load_and_crop_middle(name, read, options) for name in names]
    results: list[Cropped | Skipped] = []
    for loaded in _load_in_portions(names, read, options):
        results += _crop_faces(loaded, options)
    return results


def _load_and_crop_middle(name: str, read: _Read, options: CropOptions) -> Cropped | Skipped:
    with ExitStack() as turn:
        picture = _load(name, read, options, turn)
        return picture if isinstance(picture, Skipped) else _crop_middle(picture, options)


def _crop_faces(loaded: Sequence[_Picture | Skipped], options: CropOptions) -> list[Cropped | Skipped]:
    faces = iter(_search([picture.image for picture in loaded if isinstance(picture, _Picture)]))
    return [p if isinstance(p, Skipped) else _crop_face(p, next(faces), options) for p in loaded]


def sharpness(crop: Image.Image) -> float:
    """How sharp a square picture is: the variance of the Laplacian of its gray values (0..255) at 128x128 pixels.

    Being taken at that size, it does not depend on the resolution that is asked for. Aligned faces, for example: below
    15 the face is a smear, below 50 eyelashes and wrinkles are gone, 50-150 is soft, 150-500 a good snapshot, and sharp
    studio portraits have 500-2500. Of UTKFace's originals a tenth has less than 47, and half more than 167. Strong
    grain, JPEG blocks and writing read as sharp, low contrast as blurred.
    """
    gray = crop.convert("L")
    if gray.size != (SHARPNESS_SIDE, SHARPNESS_SIDE):
        gray = gray.resize((SHARPNESS_SIDE, SHARPNESS_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    x = np.asarray(gray, dtype=np.float32)
    return float((x[1:-1, :-2] + x[1:-1, 2:] + x[:-2, 1:-1] + x[2:, 1:-1] - 4 * x[1:-1, 1:-1]).var())


def difference_hash(image: Image.Image) -> int | None:
    """A 64-bit hash whose bits say where the picture grows brighter to the right, on an 8x8 grid, row by row.

    Resized, recompressed and lightly retouched copies differ in few bits, other pictures in about half of them. None
    for a picture that is flat at that scale.
    """
    grid = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    if np.ptp(grid) < FLAT:
        return None
    return int.from_bytes(np.packbits(grid[:, 1:] > grid[:, :-1]).tobytes(), "big")


# -- reading


def _load(name: str, read: _Read, options: CropOptions, turn: ExitStack) -> _Picture | Skipped:
    """Decode a picture, once and if its header shows that it is worth it; a large one when it is its turn."""
    try:
        data = read(name)
        with pictures.opened(data, name) as image:
            size = image.size
            notes = tuple(pictures.oddities(image, name))
            if options.crop != "align":
                if problem := _why_not_whole(name, size, options):
                    return problem
                _decode_small(image, options)
            is_large = pictures.is_large(image, data)
            turn.enter_context(pictures.in_turn(image, data))
            upright = pictures.upright(image)
            if upright.size != image.size:  # it was turned
                size = size[::-1]
    except FacegenError as error:
        return not_decoded(name, error)
    return _Picture(name, pictures.to_rgb(upright), size, hashlib.sha256(data).hexdigest(), notes, is_large)


def not_decoded(name: str, error: FacegenError) -> Skipped:
    """Why a picture is dropped of which the decoder says this, without the name that stands beside it in the report."""
    reason = "too large" if isinstance(error, pictures.TooManyPixelsError) else UNREADABLE
    return Skipped(name, reason, str(error).removeprefix(visible(f"{name}: ")))


def _load_in_portions(names: Sequence[str], read: _Read, options: CropOptions) -> Iterator[list[_Picture | Skipped]]:
    """Load pictures, as many at a time as memory is meant for."""
    portion: list[_Picture | Skipped] = []
    pixels = 0
    for name in names:
        with ExitStack() as turn:
            portion.append(_load(name, read, options, turn))
            pixels += _count(portion[-1])
            if pixels >= MAX_PIXELS_AT_ONCE:
                yield portion
                portion.clear()
                pixels = 0
    yield portion


def _count(item: _Picture | Skipped) -> int:
    """How many of MAX_PIXELS_AT_ONCE a picture takes."""
    if isinstance(item, Skipped):
        return 0
    return MAX_PIXELS_AT_ONCE if item.is_large else item.size[0] * item.size[1]


def _decode_small(image: Image.Image, options: CropOptions) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size where it is made far smaller anyway.

    The result differs from that of a full decode by less than one gray level (PSNR above 50 dB), and a photo of 1000
    pixels takes a fifth of the time.
    """
    target = max(options.resolution, SHARPNESS_SIDE if options.min_sharpness else 0) * JPEG_REDUCTION
    factor = target / min(image.size)
    if factor < 1:
        image.draft(None, (int(np.ceil(image.width * factor)), int(np.ceil(image.height * factor))))


# -- whole pictures


def _why_not_whole(name: str, size: tuple[int, int], options: CropOptions) -> Skipped | None:
    if options.crop == "as-is" and size[0] != size[1]:
        return Skipped(name, "not square", f"{size[0]}x{size[1]} pixels; --crop center uses the middle")
    return _why_too_small(name, min(size), options)


def _why_too_small(name: str, span: float, options: CropOptions) -> Skipped | None:
    if span < options.min_size:
        return Skipped(name, "too small", f"{int(span)} pixels wide, at least {options.min_size} required")
    return None


def _crop_middle(picture: _Picture, options: CropOptions, notes: Sequence[str] = ()) -> Cropped | Skipped:
    # In parts of a pixel, so that the square is the same in a picture that was decoded smaller.
    (width, height), side = picture.size, min(picture.size)
    left, top = (width - side) // 2, (height - side) // 2
    reduced = round(width / picture.image.width)
    box = (left / reduced, top / reduced, (left + side) / reduced, (top + side) / reduced)

    def resized(to: int) -> Image.Image:
        return picture.image.resize((to, to), Image.Resampling.LANCZOS, box)

    if options.min_sharpness and (problem := _why_too_blurred(picture.name, resized(SHARPNESS_SIDE), options)):
        return problem
    cut = ["cut to a square"] if picture.size[0] != picture.size[1] else []
    return _finish(picture, resized(options.resolution), side, [*notes, *cut])


# -- faces


def _search(images: Sequence[Image.Image]) -> list[list[Face]]:
    """The faces of each picture, largest first: a quick look at all, a closer one at those that need it."""
    found = find_faces_batch(images, max_side=QUICK_SIDE)
    unsure = [
        index
        for index, (image, faces) in enumerate(zip(images, found, strict=True))
        if max(image.size) > QUICK_SIDE and (not faces or _side(faces[0]) * QUICK_SIDE / max(image.size) < QUICK_FACE)
    ]
    for index, faces in zip(unsure, find_faces_batch([images[index] for index in unsure]), strict=True):
        found[index] = faces
    return found


def _crop_face(picture: _Picture, faces: list[Face], options: CropOptions) -> Cropped | Skipped:
    """Align the largest face."""
    name, template = picture.name, options.template
    assert template is not None  # as the crop is "align"
    if not faces:
        if options.no_face == "drop":
            return Skipped(name, "no face", "none found with a probability of 0.9 or more")
        if problem := _why_too_small(name, min(picture.size), options):
            return problem
        return _crop_middle(picture, options, ["no face: the middle was used"])
    counted = sum(_side(face) >= COUNTED_FACE * _side(faces[0]) for face in faces)
    if options.several_faces == "drop" and counted > 1:
        return Skipped(name, "several faces", f"{counted} faces")
    # What a batch does to rounding errors must not reach the pixels: eighths of a pixel are far finer than MTCNN.
    landmarks = np.round(faces[0].landmarks * 8) / 8
    matrix = alignment_matrix(landmarks, template, options.resolution)
    span = options.resolution / float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if problem := _why_too_small(name, span, options):
        return problem
    if options.max_turn is not None and abs(turn := yaw(landmarks)) > options.max_turn:
        return Skipped(name, "turned too far", f"by {abs(turn):.0f} degrees, at most {options.max_turn:g} allowed")
    if options.min_sharpness:
        fixed = align_face(picture.image, landmarks, template, SHARPNESS_SIDE)
        if problem := _why_too_blurred(name, fixed, options):
            return problem
    notes = ["reaches beyond the picture"] if _share_outside(matrix, options.resolution, picture) > MAX_OUTSIDE else []
    return _finish(picture, align_face(picture.image, landmarks, template, options.resolution), span, notes)


def _share_outside(matrix: np.ndarray, resolution: int, picture: _Picture) -> float:
    """Which share of an aligned picture lies outside its source, on a grid of 16x16 points."""
    x, y = (np.indices((16, 16)).reshape(2, -1) + 0.5) * resolution / 16
    inverse = invert_matrix(matrix)
    points = inverse[:, :2] @ np.stack([x, y]) + inverse[:, 2:]
    return float(1 - ((points >= 0) & (points <= np.array(picture.image.size)[:, None])).all(axis=0).mean())


def _side(face: Face) -> float:
    left, top, right, bottom = face.box
    return float(np.sqrt((right - left) * (bottom - top)))


# -- any crop


def _why_too_blurred(name: str, crop: Image.Image, options: CropOptions) -> Skipped | None:
    if (measured := sharpness(crop)) < options.min_sharpness:
        return Skipped(name, "too blurred", f"sharpness {measured:.0f}, at least {options.min_sharpness:g} required")
    return None


def _finish(picture: _Picture, crop: Image.Image, span: float, notes: Sequence[str]) -> Cropped:
    """Encode the crop, which spans `span` pixels of its source."""
    enlarged = ["enlarged"] if span < crop.width else []
    return Cropped(
        name=picture.name,
        png=pictures.encode_png(crop),
        sha256=picture.sha256,
        dhash=difference_hash(crop),
        notes=(*picture.notes, *notes, *enlarged),
    )
