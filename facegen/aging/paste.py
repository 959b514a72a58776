"""Put aged faces back into their photo: turned and scaled into place, in the photo's colors, without a seam.

There are two modes, named by what is put into the photo:

- `change` adds the difference between the aged face and the reconstruction (`facegen.aging.change`). The photo keeps
  what the generator cannot draw: identity, pores, glasses, sharpness. An unchanged face leaves every pixel as it was.
- `face` replaces the face with the generated one. It shows everything that the generator does, even if that is another
  person, and is as blurred as the generator is small.

Colors: the reconstruction is the generator's version of the input. Apart from detail, the two differ in the photo's
light, exposure, contrast and color cast. This difference is measured and applied to the aged face:
`matched = low(input) + T (aged - low(reconstruction))`. `low` is a wide blur, which carries the light. The matrix T is
the linear map that turns the colors of the reconstruction into those of the input with the least movement (Pitie and
Kokaram 2007, "The linear Monge-Kantorovitch linear color mapping"). It transfers contrast, and removes colors that a
sepia photo does not have. Because the aged face's own colors are not used, changes such as gray hair stay. In the
difference of two matched faces, everything except T cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from facegen.aging.change import LIGHTNESS, FaceChange
from facegen.aging.edit import PASTE_MODES
from facegen.errors import FacegenError
from facegen.faces.mask import face_mask
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate, corners_of, invert_matrix
from facegen.images import PHOTO_MODES, fitting_profile, from_srgb, to_rgb, turn_upright

if TYPE_CHECKING:
    from facegen.aging.results import AgedFace, FaceResult

LIGHT = 1 / 8  # blur that leaves only light and color, as a share of the crop's side
BAND = 256  # rows of the photo that are worked on at a time: bounds the memory for large faces
EDGE = 40.0  # levels of contrast that make an edge, such as that of glasses, which does not fade
CLOSER = 40.0  # how soon the closer one of two faces has all of a pixel, where they have masks of their own
FINEST = 8  # the crop is enlarged at most by this before it is turned; the rest is smooth anyway


@dataclass(frozen=True)
class PastedFace:
    """One face to put into a photo: three pictures of one size, and where they lie.

    input: the face as it was cut from the photo.
    reconstruction: what the generator makes of it at its own age.
    aged: the face at another age.
    matrix: [2, 3], pixels of the photo to pixels of the pictures, see `facegen.faces.template.alignment_matrix`.
    strength: how much of the change is put in, in mode `change`: 1 as the generator draws it.
    years: by how much the aged face is older than the input, below 0 younger; see `FaceChange.to`.
    template: where the landmarks of this very face lie in the pictures: of a face seen from the side they are closer
        together, and beyond them is background. None: where they should lie.
    """

    input: Image.Image
    reconstruction: Image.Image
    aged: Image.Image
    matrix: np.ndarray
    strength: float = 1.0
    years: float = 0.0
    template: AlignmentTemplate | None = None


@dataclass(frozen=True)
class PastedChange:
    """What an editor changes in one face of a photo: added to it in mode `change`, there is no other.

    input: a square of the photo around the face, RGB.
    change: float `[W, W, 3]`, in levels, what is added to it at strength 1.
    mask: how much of that shows, float32 `[W, W, 1]`, 0..1.
    matrix, strength: as in `PastedFace`.
    """

    input: Image.Image
    change: np.ndarray
    mask: np.ndarray
    matrix: np.ndarray
    strength: float = 1.0


class Placed(NamedTuple):
    """What is put into a photo for one face.

    pixels: float32 [H, W, 3], levels that are added to the photo, or replace it in mode `face`; not yet masked.
    matrix: [2, 3], pixels of the photo to these.
    template: as in `PastedFace`.
    smoothed: how much of the photo's detail that is finer than `source` fades, 0..1 [H, W, 1]; None: none of it.
    source: the face as it was cut from the photo, float32 [H, W, 3], in levels.
    mask: how much of `pixels` shows, 0..1 [H, W, 1]; None: the face's ellipse.
    """

    pixels: np.ndarray
    matrix: np.ndarray
    template: AlignmentTemplate | None = None
    smoothed: np.ndarray | None = None
    source: np.ndarray | None = None
    mask: np.ndarray | None = None


def paste_faces(
    photo: Image.Image,
    faces: Sequence[PastedFace | PastedChange],
    mode: str = "change",
    *,
    template: AlignmentTemplate = UTKFACE_TEMPLATE,
) -> Image.Image:
    """Put aged faces into their photo; a new picture of the photo's size and mode.

    Where faces overlap, each counts as much as its mask does there, in whatever order they come. What of a face lies
    outside of the photo is left out. A photo that shows no color stays without.

    Args:
        photo: Mode L, LA, RGB or RGBA (see `open_original`); it is turned upright. Alpha and color profile stay.
        mode: `change` or `face`, see the module.
        template: Where the landmarks lie in the faces' pictures: the shape of the mask.
    """
    if mode not in PASTE_MODES:
        raise FacegenError(f"faces are pasted as {' or '.join(map(repr, PASTE_MODES))}, not {mode!r}")
    if photo.mode not in PHOTO_MODES:
        raise FacegenError(f"a photo of mode {photo.mode} cannot take faces: open the photo with open_original")
    for number, face in enumerate(faces, start=1):
        _check(face, number, mode)

    photo = turn_upright(photo)  # as the faces were found
    profile = photo.info.get("icc_profile") or b""
    placed = []
    for face in faces:
        if isinstance(face, PastedChange):
            placed.append(_placed_change(face, profile, photo.mode))
        else:
            placed.append(_placed(_in_profile(face, profile, photo.mode), mode, template))
    return put_in(photo, placed, mode, template)


def put_in(
    photo: Image.Image,
    faces: Sequence[Placed],
    mode: str = "change",
    template: AlignmentTemplate = UTKFACE_TEMPLATE,
) -> Image.Image:
    """Put into an upright photo what `paste_faces` makes of faces, or what was made otherwise; see there."""
    result = photo.copy()  # bands of it become arrays: a photo of 100 megapixels takes 400 MB
    result.info = {}
    colors = 3 if photo.mode.startswith("RGB") else 1
    whole = (0, 0, *photo.size)
    is_gray = colors == 1 or all(
        bool((pixels[:, :, :3] == pixels[:, :, :1]).all())
        for pixels in (_pixels(photo, band) for band in _bands(whole))
    )
    boxes = [_box(face, photo.size) for face in faces]
    for number, face in enumerate(faces):
        for band in _bands(boxes[number]):
            near = [_overlap(box, band) for box in boxes]
            weight = _share(faces, number, near, band, template)[..., None]
            new = _warp(face.pixels, face.matrix, band)
            if is_gray:
                new = new @ LIGHTNESS
            # From the photo as it was, so that nothing is done twice where faces overlap.
            before = _pixels(photo, band)[:, :, :colors].astype(np.float32)
            change = new - _lost_detail(before, face, band) if mode == "change" else new - before
            after = _pixels(result, band)
            after[:, :, :colors] = np.rint(after[:, :, :colors] + weight * change).clip(0, 255)
            result.paste(Image.fromarray(after if after.shape[2] > 1 else after[:, :, 0], photo.mode), band[:2])
    if profile := fitting_profile(photo):
        result.info["icc_profile"] = profile
    return result


def _in_profile(face: PastedFace, profile: bytes, mode: str) -> PastedFace:
    """Return the face with its pictures in the numbers that the photo's color profile has for their colors."""
    own, copy, aged = (from_srgb(to_rgb(p), profile, mode) for p in (face.input, face.reconstruction, face.aged))
    return replace(face, input=own, reconstruction=copy, aged=aged)


def paste_results(
    photo: Image.Image,
    results: Sequence[FaceResult],
    mode: str = "change",
    *,
    template: AlignmentTemplate = UTKFACE_TEMPLATE,
) -> Iterator[tuple[str, Image.Image]]:
    """Put the faces from `AgeTransfer.transfer` back into their photo; yields caption and photo for each age.

    Args:
        photo: The photo that was given to `transfer`.
        results: as returned by `transfer`; all faces at the same ages.
        mode, template: See `paste_faces`; the template is `AgeTransfer.template`.
    """
    for index in range(len(results[0].aged) if results else 0):
        faces = [_pasted(result, result.aged[index]) for result in results if not result.too_small]
        yield results[0].aged[index].caption, paste_faces(photo, faces, mode, template=template)


def _pasted(result: FaceResult, aged: AgedFace) -> PastedFace | PastedChange:
    """What `paste_faces` takes for a face at some age."""
    if aged.change is not None and (window := result.window) is not None:
        return PastedChange(window.picture, aged.change, window.mask, window.matrix(result.matrix), aged.strength)
    pictures, years = (result.input, result.reconstruction, aged.image), aged.age - result.input_age
    return PastedFace(*pictures, result.matrix, aged.strength, years, result.template)


def _check(face: PastedFace | PastedChange, number: int, mode: str) -> None:
    if isinstance(face, PastedChange):
        if mode != "change":
            raise FacegenError(f"face {number}: an editor can only be pasted as change, not as {mode}")
        sizes, words = {face.input.size, face.change.shape[1::-1], face.mask.shape[1::-1]}, "change and mask"
    else:
        sizes, words = {face.input.size, face.reconstruction.size, face.aged.size}, "reconstruction and aged face"
    if len(sizes) > 1:
        raise FacegenError(f"face {number}: input, {words} have different sizes: {sorted(sizes)}")
    matrix = np.asarray(face.matrix)
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:, :2])) < 1e-12:
        raise FacegenError(f"face {number}: its matrix is not an invertible 2x3 matrix: {matrix.tolist()}")


def _box(face: Placed, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels of a photo that the crop reaches; empty when it lies outside."""
    height, width = face.pixels.shape[:2]
    corners = corners_of(width, height, invert_matrix(face.matrix))
    left, top = np.floor(corners.min(axis=0)).clip(0, size).astype(int).tolist()
    right, bottom = np.ceil(corners.max(axis=0)).clip(0, size).astype(int).tolist()
    return left, top, right, bottom


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return max(one[0], other[0]) < min(one[2], other[2]) and max(one[1], other[1]) < min(one[3], other[3])


def _pixels(photo: Image.Image, box: tuple[int, int, int, int]) -> np.ndarray:
    """The pixels of a box of a photo, uint8 [height, width, channels]."""
    pixels = np.array(photo.crop(box))
    return pixels.reshape(*pixels.shape[:2], -1)


def _bands(box: tuple[int, int, int, int]) -> Iterator[tuple[int, int, int, int]]:
    left, top, right, bottom = box
    if left < right:
        for start in range(top, bottom, BAND):
            yield left, start, right, min(start + BAND, bottom)


def _share(
    faces: Sequence[Placed],
    number: int,
    near: Sequence[bool],
    box: tuple[int, int, int, int],
    template: AlignmentTemplate,
) -> np.ndarray:
    """The weight of a face in a box, beside the others that are `near`: float [height, width].

    Of masks m and claims c it is m_i * c_i / sum(c): the mask itself where there is no other, and never more than 1 in
    sum.
    """
    own, claim = _mask_in(faces[number], box, template)
    total = claim.copy()
    for other, face in enumerate(faces):
        if other != number and near[other]:
            total += _mask_in(face, box, template)[1]
    return own * np.divide(claim, total, out=np.zeros_like(own), where=total > 0)


def _mask_in(
    face: Placed, box: tuple[int, int, int, int], template: AlignmentTemplate
) -> tuple[np.ndarray, np.ndarray]:
    """The mask of a face, and its claim beside others, at the pixels of a box of the photo: float32 [height, width].

    An ellipse around a face is its claim. A mask of its own may reach into other faces: there the closer face is right.
    """
    left, top, right, bottom = box
    x = np.arange(left, right, dtype=np.float32)[None, :] + 0.5
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5
    height, width = face.pixels.shape[:2]
    matrix = np.asarray(face.matrix, dtype=np.float32) / np.array([[width], [height]], np.float32)
    across = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    down = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    if face.mask is None:
        mask = face_mask(across, down, face.template or template)
        return mask, mask
    mask = _warp(face.mask, face.matrix, box)[..., 0].clip(0, 1)
    return mask, mask * np.exp(-CLOSER * ((across - 0.5) ** 2 + (down - 0.5) ** 2))


def _placed(face: PastedFace, mode: str, template: AlignmentTemplate) -> Placed:
    """What is put into the photo, in its colors, at the crop's size. See the module."""
    change = FaceChange(face.input, face.reconstruction, face.template or template)
    source = np.asarray(to_rgb(face.input), dtype=np.float32)
    if mode == "change":
        pixels = change.to(face.aged, face.strength, face.years)
        smoothed = change.smoothed(face.strength, face.years)
        return Placed(pixels, face.matrix, face.template, smoothed if smoothed.any() else None, source)
    return Placed(_replaced(face, source, change), face.matrix, face.template)


def _placed_change(face: PastedChange, profile: bytes, mode: str) -> Placed:
    """What is put into a photo of this color profile and mode."""
    added = face.strength * face.change.astype(np.float32)
    plain = to_rgb(face.input)
    before = from_srgb(plain, profile, mode)
    if before is not plain:  # the same change, in the numbers that the profile has for these colors
        levels = np.rint(np.asarray(plain) + added).clip(0, 255).astype(np.uint8)
        after = from_srgb(Image.fromarray(levels), profile, mode)
        added = np.asarray(to_rgb(after), np.float32) - np.asarray(to_rgb(before), np.float32)
    return Placed(added, face.matrix, mask=face.mask)


def _replaced(face: PastedFace, source: np.ndarray, change: FaceChange) -> np.ndarray:
    """The aged face in the photo's light and colors: float32 [H, W, 3]."""
    from scipy.ndimage import gaussian_filter

    copy, aged = (np.asarray(to_rgb(picture), dtype=np.float32) for picture in (face.reconstruction, face.aged))
    mask, (height, width) = change.mask, source.shape[:2]

    def low(picture: np.ndarray) -> np.ndarray:
        """Only of the face: the background has another light."""
        sigma = (LIGHT * height, LIGHT * width, 0)
        return gaussian_filter(picture * mask, sigma) / np.maximum(gaussian_filter(mask, sigma), 1e-3)

    return low(source) + (aged - low(copy)) @ change.colors


def _lost_detail(photo: np.ndarray, face: Placed, box: tuple[int, int, int, int]) -> np.ndarray | float:
    """The fine detail that a box of the photo, float32 [height, width, channels], loses: lines and pores, no edges."""
    if face.smoothed is None or face.source is None:
        return 0.0
    coarse = _warp(face.source, face.matrix, box)
    fine = photo - (coarse if photo.shape[2] == 3 else coarse @ LIGHTNESS)
    lines = fine * np.exp(-np.square(fine / EDGE))
    return lines * _warp(face.smoothed, face.matrix, box)


def _warp(pixels: np.ndarray, matrix: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """What float32 `[H, W, 3]` of a crop looks like in a box of the photo; 0 outside of the crop.

    The crop is first brought to the photo's scale, so that turning it neither aliases nor shows its grid.
    """
    height, width, channels = pixels.shape
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    factor = min(1 / scale, FINEST)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    to_crop = np.asarray(matrix, dtype=np.float64) * np.array([[size[0] / width], [size[1] / height]])
    to_crop[:, 2] += to_crop[:, :2] @ box[:2]
    result = np.empty((box[3] - box[1], box[2] - box[0], channels), dtype=np.float32)
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(size, Image.Resampling.BICUBIC)
        turned = plane.transform(
            result.shape[1::-1], Image.Transform.AFFINE, tuple(to_crop.ravel()), Image.Resampling.BICUBIC
        )
        result[..., channel] = np.asarray(turned)
    return result
