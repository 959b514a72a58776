"""The main phases of a training step by recordings of their kernels (CUDA graphs)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

MEMORY_FACTOR = 3  # recordings keep what passes need for good: so many times what a step has needed must be free


class RecordedPasses:
    """Calls the synthesis network and the discriminator, on a GPU by replaying recordings of their kernels.

    A pass through a small network is hundreds of kernels, which the CPU launches more slowly than the GPU runs them. A
    replay launches all of them at once, forward and backward each. The first pass of a kind runs as usual, the second
    is recorded, every later one is a replay. Noise is drawn anew each time and is what it would be without. Weights
    may change in place, as an optimizer's do.

    Passes with second derivatives (path lengths, R1) are not for recordings. Where recording fails, or the GPU's memory
    is too small, one warning says so and networks are called.

    Args:
        synthesis: `G.synthesis`; stays on its device and in training mode.
        discriminator: D, likewise.
        noise_mode: Of the synthesis.
    """

    _works = True

    def __init__(self, synthesis: nn.Module, discriminator: nn.Module, noise_mode: str = "random") -> None:
        self._synthesis = _Call(lambda ws: synthesis(ws, noise_mode=noise_mode), synthesis)
        self._discriminator = _Call(discriminator, discriminator)
        self._seen: set[tuple] = set()
        self._recordings: dict[tuple, Callable[..., torch.Tensor]] = {}

    def synthesis(self, ws: torch.Tensor) -> torch.Tensor:
        """Pictures `[N, C, H, W]` of `[N, num_ws, w_dim]`."""
        return self._run("synthesis", self._synthesis, ws)

    def discriminate(self, purpose: str, images: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Logits `[N, 1]` of pictures `[N, C, H, W]` and labels `[N, c_dim]`.

        `purpose` tells passes apart whose gradients add up: each kind leaves its own in memory of its own.
        """
        return self._run(purpose, self._discriminator, images, c)

    def _run(self, purpose: str, call: _Call, *inputs: torch.Tensor) -> torch.Tensor:
        differentiable = torch.is_grad_enabled() and any(
            x.requires_grad for x in (*inputs, *call.parameters(recurse=True))
        )
        kind = (purpose, differentiable, *((x.shape, x.requires_grad) for x in inputs))
        if kind in self._recordings:
            return self._recordings[kind](*inputs)
        if not self._works or kind not in self._seen:
            self._seen.add(kind)
            return call(*inputs)
        try:
            self._recordings[kind] = _record(call, inputs, differentiable)
        except RuntimeError as error:
            self._works = False
            reason = " ".join(str(error).split())[:200]
            warnings.warn(f"no CUDA graph of a training step, so it runs without ({reason})", stacklevel=2)
            return call(*inputs)
        return self._recordings[kind](*inputs)


class _Call(nn.Module):
    """A module of its own for each kind of call, since recording a module takes its place."""

    def __init__(self, function: Callable[..., torch.Tensor], network: nn.Module) -> None:
        super().__init__()
        self.function = [function]  # in a list, so that it is no submodule twice
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function[0](*inputs)


def _record(call: _Call, inputs: tuple[torch.Tensor, ...], differentiable: bool) -> Callable[..., torch.Tensor]:
    """Return what replays a call. Random numbers go on as if nothing had been recorded.

    Raises:
        RuntimeError: too little memory, or an operation that cannot be recorded.
    """
    free, _ = torch.cuda.mem_get_info()
    free += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    if free < MEMORY_FACTOR * torch.cuda.max_memory_allocated():
        raise RuntimeError(f"{free / 2**30:.1f} GB of the GPU's memory are free, too little for recordings")
    samples = tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in inputs)
    before = torch.cuda.get_rng_state()
    try:
        if differentiable:
            own = _Call(call.function[0], call.network)
            return torch.cuda.make_graphed_callables(own, samples, allow_unused_input=True)
        return _Replay(call, samples)
    finally:
        torch.cuda.set_rng_state(before)


class _Replay:
    """The kernels of a call without gradients, with the memory that they read and write."""

    def __init__(self, call: Callable[..., torch.Tensor], samples: tuple[torch.Tensor, ...]) -> None:
        self._inputs = samples
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = call(*samples)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._output.clone()  # the next replay overwrites it
