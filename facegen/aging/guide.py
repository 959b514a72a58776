"""Pictures that follow the lines of another one: He, Sun and Tang 2010, "Guided Image Filtering"."""

from __future__ import annotations

import numpy as np

LINE = 8.0  # levels of contrast that make a line


class Guide:
    """Finds what pictures have in common with one, the guide.

    Around each pixel a picture is a gain times the guide and a shift, as close as these come to it.

    Args:
        picture: the guide, `[H, W, C]`, in levels.
        near: how far around a pixel gain and shift are the same, in pixels: the sigma of a Gaussian blur.
    """

    def __init__(self, picture: np.ndarray, near: float) -> None:
        self.picture, self._near = picture, near
        self._mean = blurred(picture, near)
        self._variance = blurred(picture * picture, near) - self._mean**2 + LINE**2

    def fit(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return gain and shift around each pixel of a picture `[H, W, C]` (equations 5, 6 and 8)."""
        mean = blurred(picture, self._near)
        gain = (blurred(self.picture * picture, self._near) - self._mean * mean) / self._variance
        shift = mean - gain * self._mean
        return blurred(gain, self._near), blurred(shift, self._near)

    def redraw(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture as far as it follows the guide."""
        gain, shift = self.fit(picture)
        return gain * self.picture + shift


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Return a picture `[H, W, C]` with a Gaussian blur of so many pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(picture, (sigma, sigma, 0))
