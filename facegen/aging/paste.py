"""Aged faces back into their photo: turned and scaled into place, in the photo's colors, without a seam.

Two modes, named by what is put into the photo:

- `change` adds the difference between the aged face and the reconstruction, what aging alone has changed. The photo
  keeps what the generator cannot draw: identity, pores, glasses, its own sharpness. A face that did not change leaves
  every pixel as it was.
- `face` replaces the face by the generated one. It shows the generator's work in full, also where it is another person,
  and is as blurred as a picture of the generator's size is at the photo's.

Colors. The reconstruction is what the generator makes of the input, so whatever sets the two apart that is not a
detail is the photo's light, exposure, contrast and color cast, which the generator did not take over. That is
measured, and the same is done to the aged face: `matched = low(input) + T (aged - low(reconstruction))`. `low` is a
wide blur, which carries the light. The matrix T is the linear map that turns the colors of the reconstruction into
those of the input with the least movement (Pitie and Kokaram 2007, "The linear Monge-Kantorovitch linear color
mapping"): it takes over contrast, and what a sepia photo has no colors for, it removes. As the aged face's own
colors are not looked at, what aging did to them, such as gray hair, stays. In the difference of two matched faces
all but T drops out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facegen.aging.edit import PASTE_MODES
from facegen.errors import FacegenError
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate, invert_matrix
from facegen.images import from_srgb, to_rgb, turn_upright

if TYPE_CHECKING:
    from facegen.aging.transfer import FaceResult

PHOTO_MODES = ("L", "LA", "RGB", "RGBA")
FEATHER = 0.3  # width of the mask's fade, as a share of the face's radius
BORDER = 0.12  # width of the fade at the crop's border, as a share of the crop's side
LIGHT = 1 / 8  # blur that leaves only light and color, as a share of the crop's side
MAX_GAIN = 1.2  # more is no photo's contrast, but a face that the generator did not get
LIGHTNESS = np.array([[0.299], [0.587], [0.114]], dtype=np.float32)  # as Pillow's mode L
BAND = 256  # rows of the photo that are worked on at a time: bounds the memory for large faces
FINEST = 8  # the crop is enlarged at most by this before it is turned; the rest is smooth anyway


@dataclass(frozen=True)
class PastedFace:
    """One face to put into a photo: three pictures of one size, and where they lie.

    input: the face as it was cut from the photo.
    reconstruction: what the generator makes of it at its own age.
    aged: the face at another age.
    matrix: [2, 3], pixels of the photo to pixels of the pictures, see `facegen.faces.template.alignment_matrix`.
    """

    input: Image.Image
    reconstruction: Image.Image
    aged: Image.Image
    matrix: np.ndarray


def paste_faces(
    photo: Image.Image,
    faces: Sequence[PastedFace],
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
        raise FacegenError(f"a photo of mode {photo.mode} takes no faces: open it with open_original")
    for number, face in enumerate(faces, start=1):
        _check(face, number)

    photo = turn_upright(photo)  # as the faces were found
    result = photo.copy()  # bands of it become arrays: a photo of 100 megapixels takes 400 MB
    result.info = {}
    colors = 3 if photo.mode.startswith("RGB") else 1
    whole = (0, 0, *photo.size)
    is_gray = colors == 1 or all(
        bool((pixels[:, :, :3] == pixels[:, :, :1]).all())
        for pixels in (_pixels(photo, band) for band in _bands(whole))
    )
    profile = photo.info.get("icc_profile") or b""
    faces = [_in_profile(face, profile, photo.mode) for face in faces]
    boxes = [_box(face, photo.size) for face in faces]
    for number, face in enumerate(faces):
        pasted = _matched(face, mode, template)
        for band in _bands(boxes[number]):
            near = [_overlap(box, band) for box in boxes]
            weight = _share(faces, number, near, band, template)[..., None]
            new = _warp(pasted, face.matrix, band)
            if is_gray:
                new = new @ LIGHTNESS
            # From the photo as it was, so that nothing is done twice where faces overlap.
            change = new if mode == "change" else new - _pixels(photo, band)[:, :, :colors].astype(np.float32)
            after = _pixels(result, band)
            after[:, :, :colors] = np.rint(after[:, :, :colors] + weight * change).clip(0, 255)
            result.paste(Image.fromarray(after if after.shape[2] > 1 else after[:, :, 0], photo.mode), band[:2])
    if profile[16:20] == (b"RGB " if colors == 3 else b"GRAY"):  # ICC.1, 7.2.6; not that of a CMYK file made RGB
        result.info["icc_profile"] = profile
    return result


def _in_profile(face: PastedFace, profile: bytes, mode: str) -> PastedFace:
    """Return the face with its pictures in the numbers that the photo's color profile has for their colors."""
    own, copy, aged = (from_srgb(to_rgb(p), profile, mode) for p in (face.input, face.reconstruction, face.aged))
    return PastedFace(own, copy, aged, face.matrix)


def paste_results(
    photo: Image.Image,
    results: Sequence[FaceResult],
    mode: str = "change",
    *,
    template: AlignmentTemplate = UTKFACE_TEMPLATE,
) -> Iterator[tuple[str, Image.Image]]:
    """What `AgeTransfer.transfer` made of a photo's faces, back in the photo: caption and photo of every age in turn.

    Args:
        photo: The one that was given to `transfer`.
        results: as returned by `transfer`; all faces at the same ages.
        mode, template: See `paste_faces`; the template is `AgeTransfer.template`.
    """
    for index in range(len(results[0].aged) if results else 0):
        faces = [PastedFace(face.input, face.reconstruction, face.aged[index].image, face.matrix) for face in results]
        yield results[0].aged[index].caption, paste_faces(photo, faces, mode, template=template)


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
    sides = _smooth_step(np.minimum(x, 1 - x) / BORDER)
    ends = _smooth_step(np.minimum(y, 1 - y) / BORDER)
    return ellipse * sides * ends


def _check(face: PastedFace, number: int) -> None:
    sizes = {face.input.size, face.reconstruction.size, face.aged.size}
    if len(sizes) > 1:
        raise FacegenError(f"face {number}: input, reconstruction and aged face have different sizes: {sorted(sizes)}")
    matrix = np.asarray(face.matrix)
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:, :2])) < 1e-12:
        raise FacegenError(f"face {number}: its matrix is no invertible 2x3 matrix: {matrix.tolist()}")


def _box(face: PastedFace, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels of a photo that the crop reaches; empty when it lies outside."""
    width, height = face.input.size
    inverse = invert_matrix(face.matrix)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ inverse[:, :2].T + inverse[:, 2]
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
    faces: Sequence[PastedFace],
    number: int,
    near: Sequence[bool],
    box: tuple[int, int, int, int],
    template: AlignmentTemplate,
) -> np.ndarray:
    """The weight of a face in a box, beside the others that are `near`: float [height, width].

    Of masks m it is m_i * m_i / sum(m): the mask itself where there is no other, and never more than 1 in sum.
    """
    own = _mask_in(faces[number], box, template)
    total = own.copy()
    for other, face in enumerate(faces):
        if other != number and near[other]:
            total += _mask_in(face, box, template)
    return own * np.divide(own, total, out=np.zeros_like(own), where=total > 0)


def _mask_in(face: PastedFace, box: tuple[int, int, int, int], template: AlignmentTemplate) -> np.ndarray:
    """The mask of a face at the pixels of a box of the photo: float32 [height, width]."""
    left, top, right, bottom = box
    x = np.arange(left, right, dtype=np.float32)[None, :] + 0.5
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5
    matrix = np.asarray(face.matrix, dtype=np.float32) / np.array([[face.input.width], [face.input.height]], np.float32)
    return face_mask(
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2],
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2],
        template,
    )


def _matched(face: PastedFace, mode: str, template: AlignmentTemplate) -> np.ndarray:
    """What is put into the photo, in its colors, at the crop's size: float32 [H, W, 3]. See the module."""
    from scipy.ndimage import gaussian_filter

    pictures = (face.input, face.reconstruction, face.aged)
    source, copy, aged = (np.asarray(to_rgb(picture), dtype=np.float32) for picture in pictures)
    height, width = source.shape[:2]
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width]).reshape(2, 1, 1)
    mask = face_mask(x, y, template)[..., None].astype(np.float32)

    adapt = _color_map(_covariance(copy, mask), _covariance(source, mask))
    if mode == "change":
        return (aged - copy) @ adapt

    def low(picture: np.ndarray) -> np.ndarray:
        """Only of the face: the background has another light."""
        sigma = (LIGHT * height, LIGHT * width, 0)
        return gaussian_filter(picture * mask, sigma) / np.maximum(gaussian_filter(mask, sigma), 1e-3)

    return low(source) + (aged - low(copy)) @ adapt


def _covariance(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The 3x3 covariance of the colors of [H, W, 3], weighted by [H, W, 1]."""
    weights = (mask / max(float(mask.sum()), 1e-3)).reshape(-1, 1)
    colors = pixels.reshape(-1, 3).astype(np.float64)
    centered = colors - (colors * weights).sum(axis=0)
    return (centered * weights).T @ centered


def _color_map(have: np.ndarray, want: np.ndarray) -> np.ndarray:
    """The symmetric 3x3 matrix that turns colors of one covariance into those of another; see the module.

    Colors that hardly occur tell nothing of how much there should be of them: both get the noise of rounding to
    whole levels, which for two flat pictures makes the identity, and no factor is above MAX_GAIN.
    """
    have, want = have + np.eye(3) / 12, want + np.eye(3) / 12
    root, inverse_root = _power(have, 0.5), _power(have, -0.5)
    values, vectors = np.linalg.eigh(inverse_root @ _power(root @ want @ root, 0.5) @ inverse_root)
    return ((vectors * values.clip(0, MAX_GAIN)) @ vectors.T).astype(np.float32)


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A power of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values.clip(0, None) ** exponent) @ vectors.T


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


def _smooth_step(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and a ramp without a kink between."""
    values = values.clip(0, 1)
    return values * values * (3 - 2 * values)
