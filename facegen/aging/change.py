"""The change that aging makes in a face: the difference of two generated faces, in the photo's colors, ready to add.

The aged face minus the reconstruction is what aging has changed. Added to the photo directly, it would also bring the
mistakes of a small generator: dark sockets, patches of color, a mustache where there was none. Therefore

- the change is converted to the photo's colors (see `facegen.aging.paste`);
- eyes and mouth get less of it (`facegen.faces.mask.protection`);
- places where the reconstruction is far from the photo also get less: hats, hands, glasses, or a whole face that the
  encoder did not understand;
- where the photo gets lighter or darker, it keeps its color, so that shadows on skin do not become brown patches;
- a part of the change in lightness follows the photo's own lines (a guided filter) instead of the generator's few
  pixels, so that a cheek gets fewer smudges;
- no pixel changes by more than about LIGHTER levels of lightness and COLORED levels of color, at any strength.

A change cannot remove what the reconstruction never had: the photo's own wrinkles, beard and mustache, which would stay
on a child or show as ghosts. So toward a younger age, the photo's own detail fades from the skin, both detail that the
generator could draw and a part of finer detail (`FaceChange.smoothed`). Eyes, brows, nostrils and mouth stay.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from facegen.aging.guide import Guide, blurred
from facegen.faces.mask import crop_mask, protection, skin
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate
from facegen.images import to_rgb

LIGHTNESS = np.array([[0.299], [0.587], [0.114]], dtype=np.float32)  # as Pillow's mode L
MAX_GAIN = 1.2  # more is no photo's contrast, but a face that the generator did not get
LIGHTER, COLORED = 50.0, 10.0  # levels
FAR = 45.0  # levels that lie between photo and reconstruction where 1/e of the change is left
FINE, AROUND = 1 / 64, 1 / 32  # blurs before and after that distance is taken, as shares of the crop's side
DETAIL = 1 / 16  # blur that leaves no wrinkle, nostril or mustache, as a share of the crop's side
FADE = 20.0  # years to a younger age that leave 1/e of the photo's own detail
SMOOTHED = 0.7  # of that fades of what is finer than the crop, too: more is wax
SHADE = 1 / 32  # blur that leaves the colors of skin, lips and hair, as a share of the crop's side
GUIDED = 0.3  # share of the change in lightness that follows the photo's lines; more is cleaner and hardly ages
NEAR = 1 / 32  # within this share of the crop's side, a change that follows lines is a gain and a shift
UNDERSTOOD = 0.6  # below this share of a change that is let through, on average, the user is told


class FaceChange:
    """What aging changes in one face of a photo.

    Args:
        source: the face as it was cut from the photo.
        copy: its reconstruction, of the same size.
        template: where the landmarks lie in both.

    Attributes:
        mask: float32 `[H, W, 1]`, 0..1, where the face may change.
        colors: the map from the copy's colors to the photo's, see `color_map`.
        understood: 0..1, how much of the change is let through for the sake of the reconstruction, over the face.
    """

    def __init__(self, source: Image.Image, copy: Image.Image, template: AlignmentTemplate = UTKFACE_TEMPLATE) -> None:
        photo = _levels(source)
        self._copy = _levels(copy)
        self.mask = crop_mask(photo.shape[:2], template)
        self.colors = color_map(_covariance(self._copy, self.mask), _covariance(photo, self.mask))
        trust = _trust(photo - self._copy)
        self.understood = float((trust * self.mask).sum() / max(float(self.mask.sum()), 1e-3))
        self._through = trust * protection(photo.shape[:2], template)
        self._tint = _tint(photo)
        self._guide = Guide(photo @ LIGHTNESS, NEAR * len(photo))
        self._skin = trust * skin(photo.shape[:2], template)
        self._own = self._skin * _detail(photo - self._copy @ self.colors)

    def to(self, aged: Image.Image, strength: float = 1.0, years: float = 0.0) -> np.ndarray:
        """Return what is added to the photo's face for an aged face: float32 `[H, W, 3]`, in levels, not yet masked.

        Args:
            aged: the aged face, of the copy's size.
            strength: how much of the change is taken, 1 as drawn.
            years: by how much it is older than the photo's face; below 0, the photo's own detail fades.
        """
        change = (_levels(aged) - self._copy) @ self.colors
        lighter = change @ LIGHTNESS
        colored = change - lighter * self._tint
        lighter = lighter + GUIDED * (self._guide.redraw(lighter) - lighter)
        taken = strength * self._through
        faded = _faded(strength, years)
        return _bent(taken * lighter, LIGHTER) * self._tint + _bent(taken * colored, COLORED) - faded * self._own

    def smoothed(self, strength: float, years: float) -> np.ndarray:
        """Return how much of what is finer than this crop fades from the photo's skin, 0..1 `[H, W, 1]`."""
        return SMOOTHED * _faded(strength, years) * self._skin


def _faded(strength: float, years: float) -> float:
    """How much of the photo's own detail is gone, 0..1, in a face that gets older by some years, below 0 younger."""
    return 1 - float(np.exp(strength * min(years, 0.0) / FADE))


def _levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(to_rgb(picture), dtype=np.float32)


def _trust(residual: np.ndarray) -> np.ndarray:
    """How far to trust a change, 0..1 `[H, W, 1]`, by what the reconstruction lacks, `[H, W, 3]`."""
    distance = np.abs(_blurred(residual @ LIGHTNESS, FINE))
    return np.exp(-((_blurred(distance, AROUND) / FAR) ** 2))


def _bent(change: np.ndarray, limit: float) -> np.ndarray:
    """The change `[H, W, C]` with each pixel's length bent toward a limit."""
    length = np.sqrt(np.square(change).sum(axis=-1, keepdims=True)) + 1e-6
    return change * (limit * np.tanh(length / limit) / length)


def _tint(photo: np.ndarray) -> np.ndarray:
    """What a level of lightness is in the colors around a pixel: `[H, W, 3]`, 1 in gray, of lightness 1."""
    around = _blurred(photo, SHADE) + 8.0  # levels: the darkest places have no color that could be told
    tint = (around / (around @ LIGHTNESS)).clip(0.5, 2.0)
    return tint / (tint @ LIGHTNESS)


def _detail(picture: np.ndarray) -> np.ndarray:
    return picture - _blurred(picture, DETAIL)


def _blurred(picture: np.ndarray, share: float) -> np.ndarray:
    """The picture `[H, W, C]` with a Gaussian blur, a share of its side wide."""
    return blurred(picture, share * len(picture))


def _covariance(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The 3x3 covariance of the colors of [H, W, 3], weighted by [H, W, 1]."""
    weights = (mask / max(float(mask.sum()), 1e-3)).reshape(-1, 1)
    colors = pixels.reshape(-1, 3).astype(np.float64)
    centered = colors - (colors * weights).sum(axis=0)
    return (centered * weights).T @ centered


def color_map(have: np.ndarray, want: np.ndarray) -> np.ndarray:
    """The symmetric 3x3 matrix that turns colors of one covariance into those of another; see `facegen.aging.paste`.

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
