"""One frame of a clip, of whatever kind the clip is."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

# Of a frame. Decoders keep up to 16 frames to predict others from: of this many pixels they take half a gigabyte.
MAX_PIXELS = 4096 * 2304


@dataclass(frozen=True)
class Frame:
    """One picture of a clip.

    picture: upright, RGB; RGBA where an animation is transparent.
    ticks: when it is shown, in the clip's own units, growing.
    time: the same in seconds.
    duration: for how many ticks it is shown.
    """

    picture: Image.Image
    ticks: int
    time: float
    duration: int
