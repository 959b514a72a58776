"""Random calls of upfirdn2d: the same for the kernels on the host and on a GPU."""

from __future__ import annotations

import random

import torch


def random_call(seed: int, dtype: torch.dtype, layout: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """Return a picture, a 2-D filter and the options of `upfirdn2d` but for `flip_filter`; factors in x, y order."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    up = [rng.choice([1, 1, 2, 2, 3, 4]) for _ in range(2)]
    down = [rng.choice([1, 1, 2, 2, 3, 5]) for _ in range(2)]
    taps = [rng.choice([1, 2, 3, 4, 4, 5, 12]) for _ in range(2)]
    size = [rng.randint(1, 40) for _ in range(2)]
    padding = []
    for axis in (1, 0):
        # No more is cropped than there is: beyond that the plain operation cannot be asked.
        before = rng.randint(-min(3, size[axis] * up[axis] - 1), 7)
        after = rng.randint(-min(3, size[axis] - 1), 7)
        padding += [before, max(after, taps[axis] - size[axis] * up[axis] - before)]
    x = torch.randn(rng.randint(1, 3), rng.choice([1, 3, 12, 33, 66]), *size, dtype=dtype).to(memory_format=layout)
    f = torch.randn(taps) / (taps[0] * taps[1]) ** 0.5
    return x, f, {"up": up[::-1], "down": down[::-1], "padding": padding, "gain": rng.uniform(-2, 2)}
