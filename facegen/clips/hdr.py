"""HDR becomes SDR: PQ or HLG in the colors of BT.2020 to what a usual screen shows.

Light up to the white of paper stays as it is, so that faces look as on an HDR screen; what is brighter, lamps and the
sky, is bent toward white.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

PQ, HLG = 16, 18  # transfer characteristics, as ITU-T H.273 counts them
WHITE = 203.0  # cd/m2 of paper in HDR (ITU-R BT.2408)
BRIGHTEST = 1000.0  # cd/m2 of an HLG screen
KNEE = 0.8  # of white: from here on light is bent
GAMMA = 2.4  # of an SDR screen (ITU-R BT.1886)
POINTS = 33  # of the table, for each color
# ITU-R BT.2087, inverted: linear light of BT.2020 in that of BT.709.
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def to_sdr(picture: Image.Image, transfer: int) -> Image.Image:
    """Return an RGB picture whose numbers are PQ or HLG of BT.2020 as one for an SDR screen of BT.709."""
    return picture.filter(_table(transfer))


@lru_cache(maxsize=2)
def _table(transfer: int) -> ImageFilter.Color3DLUT:
    axis = np.linspace(0, 1, POINTS)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red changes fastest
    levels = np.stack([red, green, blue], axis=-1)
    light = (_light_of_pq if transfer == PQ else _light_of_hlg)(levels) / WHITE
    light = (light @ TO_BT709.T).clip(0, None)
    brightest = light.max(axis=-1, keepdims=True)
    over = (brightest - KNEE).clip(0, None) / (1 - KNEE)
    bent = np.where(brightest > KNEE, KNEE + (1 - KNEE) * (1 - np.exp(-over)), brightest)
    shown = (light * bent / brightest.clip(1e-9, None)) ** (1 / GAMMA)
    return ImageFilter.Color3DLUT(POINTS, shown.astype(np.float32).ravel())


def _light_of_pq(levels: np.ndarray) -> np.ndarray:
    """cd/m2 of PQ (SMPTE ST 2084, equation 4.1)."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = levels ** (1 / m2)
    return 10_000 * ((power - c1).clip(0, None) / (c2 - c3 * power)) ** (1 / m1)


def _light_of_hlg(levels: np.ndarray) -> np.ndarray:
    """cd/m2 of HLG on a screen of BRIGHTEST (ITU-R BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(levels <= 0.5, levels**2 / 3, (np.exp((levels - c) / a) + b) / 12)
    luminance = scene @ np.array([[0.2627], [0.6780], [0.0593]])
    return BRIGHTEST * scene * luminance.clip(1e-9, None) ** 0.2
