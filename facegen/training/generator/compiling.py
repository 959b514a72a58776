"""The networks of a training, compiled by torch.compile (`--compile`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from facegen.training.generator.losses import GanLoss


def compile_networks(loss: GanLoss, backend: str = "inductor") -> str | None:
    """Compile the two networks of a training in place, from their next call on.

    They stay the modules that they are: names, weights, and what copies them know nothing of it. Compiled code has no
    second derivatives, so path lengths and R1 are computed as without, and so is the mapping, which is small. Random
    numbers are the same as without.

    Args:
        loss: the loss whose G and D to compile.
        backend: the backend of torch.compile.

    Returns:
        None, or in one line why this machine cannot compile; then all stays as it is.
    """
    # Noise comes from PyTorch's own generator, as ever: else it would be other noise than without --compile.
    options = {"fallback_random": True} if backend == "inductor" else None
    problem = _problem(next(loss.D.parameters()).device, backend)
    if problem is None:
        for network in (loss.G.synthesis, loss.D):
            network.compile(backend=backend, dynamic=False, options=options)
        loss.second_order = uncompiled
    return problem


@contextmanager
def uncompiled() -> Iterator[None]:
    """Call networks as if they had not been compiled."""
    with torch.compiler.set_stance("force_eager"):
        yield


def _problem(device: torch.device, backend: str) -> str | None:
    """Compile next to nothing and return what is wrong, in one line."""
    try:
        torch.compile(_next_to_nothing, backend=backend, dynamic=False)(torch.ones(2, device=device))
    except Exception as error:  # no C++ compiler, no Triton, a Python that it does not know, ...
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return " ".join(lines[:2])[:300] or type(error).__name__
    return None


def _next_to_nothing(x: torch.Tensor) -> torch.Tensor:
    return x * 2 + 1
