"""Generating many pictures on a GPU: a whole forward pass as one piece of work (CUDA graphs)."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from facegen.errors import one_line
from facegen.networks.generator import Generator


class GraphedGenerator:
    """Calls a generator without gradients, on a GPU by replaying a recording of its kernels.

    A generator is a few hundred small kernels; at low resolutions the CPU needs longer to launch them one by one than
    the GPU needs to run them. The first batch of a size runs as usual, which also lets libraries choose their
    algorithms; the second is recorded, and every later one is a replay. Noise is drawn again each time, the same
    as without a recording. Weights that change in place, as an optimizer's do, count; replaced ones do not.

    On the CPU, for a network in training mode, and where recording fails (one warning), it just calls the generator.

    Args:
        generator: The generator; it has to stay on its device.
        options: Arguments of its `forward`: `truncation_psi`, `noise_mode`, ...

    Example:
        >>> generate = GraphedGenerator(G, truncation_psi=0.7)
        >>> pictures = [generate(z, c).cpu() for z, c in batches]
    """

    def __init__(self, generator: Generator, **options: Any) -> None:
        self.generator, self.options = generator, options
        self._seen: set[tuple[torch.Size, torch.Size]] = set()
        self._recordings: dict[tuple[torch.Size, torch.Size], _Recording] = {}
        self._works = True

    @torch.no_grad()
    def __call__(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Generate `[N, channels, H, W]` from z `[N, z_dim]` and c `[N, c_dim]`; the result is the caller's to keep."""
        size = z.shape, c.shape
        if not self._works or not can_record(z, self.generator) or size not in self._seen:
            self._seen.add(size)
            return self.generator(z, c, **self.options)
        if size not in self._recordings:
            try:
                self._recordings[size] = _Recording(self.generator, z, c, self.options)
            except RuntimeError as error:
                self._works = False
                warnings.warn(f"no CUDA graph of the generator, so it runs without ({one_line(error)})", stacklevel=2)
                return self.generator(z, c, **self.options)
        return self._recordings[size].replay(z, c)


def can_record(z: torch.Tensor, generator: Generator) -> bool:
    """Tell whether there is a GPU to record for, and nothing but pictures that a call changes."""
    return z.is_cuda and not generator.training


class _Recording:
    """The kernels of one call, with the memory that they read and write."""

    def __init__(self, generator: Generator, z: torch.Tensor, c: torch.Tensor, options: dict[str, Any]) -> None:
        self._z, self._c = z.clone(), c.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._images = generator(self._z, self._c, **options)

    def replay(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        self._z.copy_(z)
        self._c.copy_(c)
        self._graph.replay()
        return self._images.clone()  # the next replay overwrites it
