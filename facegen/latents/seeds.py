"""Seeds: numbers that people write down to meet a face again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facegen.errors import FacegenError
from facegen.text import number_range, shorten

MAX_SEED = 2**32 - 1  # what NumPy's RandomState takes
MAX_SEEDS = 100_000


def parse_seeds(text: str) -> list[int]:
    """Read seeds: numbers and ranges with both ends, as in `0-3,7,20-22`; each seed once, in the order written.

    Raises as `parse_way` does.
    """
    return list(dict.fromkeys(parse_way(text)))


def parse_way(text: str) -> list[int]:
    """Read seeds as `parse_seeds` does, but keep doubles: a walk may come by the same face again.

    Raises a FacegenError for what is no seed, a range that falls, and seeds that are too large or too many.
    """
    seeds: list[int] = []
    for part in text.split(","):
        numbers = number_range(part)
        if numbers is None:
            raise FacegenError(
                f"{shorten(part.strip(), 40)!r} is not a seed: write whole numbers from 0, as in 1,5 or 0-3,7"
            )
        first, last = numbers.start, numbers.stop - 1
        if max(first, last) > MAX_SEED:
            raise FacegenError(f"seed {shorten(str(max(first, last)), 20)} is too large: seeds end at {MAX_SEED}")
        if last < first:
            raise FacegenError(f"seeds {first}-{last} fall: write the smaller one first, as in {last}-{first}")
        if last - first >= MAX_SEEDS:
            raise FacegenError(f"seeds {first}-{last} are more than {MAX_SEEDS:,}: use fewer at a time")
        seeds += numbers
    return seeds


def latents_of_seeds(seeds: Sequence[int], z_dim: int) -> np.ndarray:
    """Return the latents z of seeds, float32 `[N, z_dim]`.

    The programs of the StyleGAN2-ADA family draw each seed from a stream of its own, NumPy's RandomState, so a seed is
    the same face in all of them.
    """
    rows = [np.random.RandomState(seed).randn(z_dim) for seed in seeds]
    return np.array(rows, dtype=np.float32).reshape(len(rows), z_dim)
