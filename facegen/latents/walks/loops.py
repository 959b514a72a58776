"""Closed loops through z: the step from the last frame to the first is as long as any other."""

from __future__ import annotations

import math

import numpy as np

from facegen.errors import FacegenError

NOISE_DIAMETER = 0.9
WAVES = 16  # of the noise of each number in z
SMOOTHNESS = 0.5  # two places this far apart have noise of correlation exp(-1/2)


def circle(latents: np.ndarray, diameter: float, frames: int, turns: int = 1) -> np.ndarray:
    """Return a circle in z, float32 `[frames, z_dim]`, around the first of three latents, in the plane of all.

    Args:
        latents: `[3, z_dim]`.
        turns: how many times it is gone around.

    Raises a FacegenError for latents on one line, which are in no plane.
    """
    return (latents[0] + diameter / 2 * around(frames, turns) @ plane(latents)).astype(np.float32)


def plane(latents: np.ndarray) -> np.ndarray:
    """Return the axes `[2, dim]` of the plane of three latents `[3, dim]`.

    They are at right angles (Gram-Schmidt) and of one length, so that a circle is no ellipse. Raises a FacegenError for
    latents on one line.
    """
    x, y = latents[1:] - latents[0]
    y = y - x * (x @ y) / max(x @ x, 1e-12)
    if not (np.linalg.norm(x) > 1e-6 and np.linalg.norm(y) > 1e-6):
        raise FacegenError("a circle needs three different latents: name three seeds, each of them once")
    return np.stack([x / np.linalg.norm(x), y / np.linalg.norm(y)])


def circle_diameter(z_dim: int) -> float:
    """A good diameter of a circle: its radius is as long as a random z, so that it leads past quite different faces."""
    return 2 * math.sqrt(z_dim)


def noise_circle(random_seed: int, z_dim: int, diameter: float, frames: int) -> np.ndarray:
    """Return a closed walk in z, float32 `[frames, z_dim]`: each number follows a noise of its own around a circle.

    The noise is a field on a plane, smooth and about standard normal: a sum of waves of random direction, length and
    phase (Rahimi and Recht 2007). The larger the circle, the more happens on the way around.
    """
    random = np.random.RandomState(random_seed)
    directions = random.randn(2, WAVES, z_dim) / SMOOTHNESS
    phases = random.uniform(0, 2 * math.pi, [WAVES, z_dim])
    z = np.empty([frames, z_dim], np.float32)
    for index, place in enumerate(diameter / 2 * around(frames)):
        z[index] = np.cos(np.tensordot(place, directions, 1) + phases).sum(axis=0) * math.sqrt(2 / WAVES)
    return z


def around(frames: int, turns: int = 1) -> np.ndarray:
    """Places on the circle of radius 1, `[frames, 2]`; the one after the last would be the first again."""
    angles = 2 * math.pi * turns * np.arange(frames) / frames
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)
