"""Frames of a GIF: 256 colors for each, and only what has changed since the frame before it.

What is outside of the faces keeps its colors to the bit: a frame of a GIF has at most 256 new ones. What is left of
the palette goes to the faces. What did not change is not written again, so it cannot flicker.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

COLORS = 255  # of a palette; one more means "as it was", or transparent
CLEAR = 255
KEEP, CLEAN = 1, 2  # GIF89a, section 23: what happens to a frame before the next one is shown


class GifFrames:
    """Turns the frames of a clip into those of a GIF, one after another.

    Attributes:
        disposals: what happens to each frame at its end, as Pillow takes it.
    """

    def __init__(self) -> None:
        self.disposals: list[int] = []
        self._shown: np.ndarray | None = None  # by the frame before, where it stays and covers all

    def indexed(self, source: Image.Image, picture: Image.Image) -> Image.Image:
        """Return a frame in mode P.

        Args:
            source: the clip's frame, RGB or RGBA.
            picture: what became of it, of the same size and mode.
        """
        pixels, before = (np.asarray(image.convert("RGB")) for image in (picture, source))
        if picture.mode == "RGBA":  # may show less than the frame before it: that one has to go
            drawn = np.asarray(picture)[..., 3] >= 128
            self.disposals[-1:] = [CLEAN] * len(self.disposals[-1:])
        elif self._shown is None:
            drawn = np.ones(pixels.shape[:2], dtype=bool)
        else:
            drawn = (pixels != self._shown).any(axis=2)
        self._shown = pixels if picture.mode == "RGB" else None
        self.disposals.append(KEEP)
        indices = np.full(pixels.shape[:2], CLEAR, dtype=np.uint8)
        palette = _palette(pixels[drawn], (pixels == before).all(axis=2)[drawn])
        indices[drawn] = _nearest(pixels[drawn], palette)
        frame = Image.fromarray(indices)
        frame.putpalette(np.concatenate([palette, np.zeros([256 - len(palette), 3])]).astype(np.uint8).tobytes())
        frame.info["transparency"] = CLEAR
        return frame


def _palette(pixels: np.ndarray, is_kept: np.ndarray) -> np.ndarray:
    """The colors `[1..COLORS, 3]` for pixels `[N, 3]`: all of those that are kept, if possible, and the best others."""
    if len(pixels) == 0:
        return np.zeros([1, 3], dtype=np.uint8)
    colors = np.unique(pixels[is_kept], axis=0)
    if len(colors) > COLORS:
        return _best(pixels, COLORS)
    if len(colors) == COLORS or is_kept.all():
        return colors
    return np.concatenate([colors, _best(pixels[~is_kept], COLORS - len(colors))])


def _best(pixels: np.ndarray, count: int) -> np.ndarray:
    """At most that many colors which come close to all pixels `[N, 3]`."""
    few = Image.fromarray(pixels[None]).quantize(count, method=Image.Quantize.MEDIANCUT)
    palette = few.getpalette()
    assert palette is not None  # a quantized picture has a palette
    return np.reshape(palette, (-1, 3))[: int(np.asarray(few).max()) + 1].astype(np.uint8)


def _nearest(pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The index of the nearest color for each of pixels `[N, 3]`; without dithering, whose dots would dance."""
    from scipy.spatial import cKDTree

    codes, back = np.unique(pixels.astype(np.int32) @ (65536, 256, 1), return_inverse=True)
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    return cKDTree(palette).query(colors)[1].astype(np.uint8)[back.ravel()] if len(codes) else codes.astype(np.uint8)
