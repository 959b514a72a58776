"""How several processes share the pictures of a metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Share:
    """One process's part of the work; `ALONE` is all of it.

    Attributes:
        rank, world: This process, of how many.
        gather: From this process's `[n, ...]` on the CPU to those of all, joined along the first dimension in order of
            rank; every process calls it equally often and gets the same. Parts may differ in length, and be empty.
    """

    rank: int = 0
    world: int = 1
    gather: Callable[[torch.Tensor], torch.Tensor] = lambda part: part

    def of(self, count: int) -> range:
        """Return which of `count` items in a row are this process's: joined in order of rank they are all of them."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)


ALONE = Share()
