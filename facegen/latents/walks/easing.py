"""Easings: how a walk speeds up and slows down between two keys.

Each takes how far the time has gone, an array of numbers from 0 to 1, and returns how far the walk has: 0 at 0, 1 at 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# A ball that falls from 1 meets the floor at these times; before each it was this far above.
_FLOOR = (-4 / 11, 4 / 11, 8 / 11, 9 / 10, 1.0)
_HEIGHTS = (1.0, 0.3, 0.09, 0.027)


def linear(time: np.ndarray) -> np.ndarray:
    """At one speed."""
    return time


def ease_in_out_quad(time: np.ndarray) -> np.ndarray:
    """Two parabolas: slow at both ends."""
    return np.where(time < 0.5, 2 * time**2, 1 - 2 * (1 - time) ** 2)


def bounce_ease_out(time: np.ndarray) -> np.ndarray:
    """A ball that falls to the end and jumps back three times, each time 0.3 as high."""
    jump = np.searchsorted(_FLOOR, time, side="right").clip(1, len(_HEIGHTS)) - 1
    before, after = np.take(_FLOOR, jump), np.take(_FLOOR, jump + 1)
    from_top = (2 * time - before - after) / (after - before)  # -1 and 1 on the floor, 0 at the top
    return 1 - np.take(_HEIGHTS, jump) * (1 - from_top**2)


def circular_ease_out(time: np.ndarray) -> np.ndarray:
    """A quarter of a circle: fast at first."""
    return np.sqrt((2 - time) * time)


def circular_ease_out_2(time: np.ndarray) -> np.ndarray:
    """The root of that: faster still at first."""
    return np.sqrt(circular_ease_out(time))


def back_ease_out(time: np.ndarray) -> np.ndarray:
    """Goes too far, above 1, and comes back."""
    left = 1 - time
    return 1 - left**3 + left * np.sin(left * np.pi)


EASINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": linear,
    "easeInOutQuad": ease_in_out_quad,
    "bounceEaseOut": bounce_ease_out,
    "circularEaseOut": circular_ease_out,
    "circularEaseOut2": circular_ease_out_2,
    "backEaseOut": back_ease_out,
}
