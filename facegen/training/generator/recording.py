"""Phases of a training step by recordings of their kernels (CUDA graphs).

A phase of a small network is a thousand kernels, which the CPU launches more slowly than the GPU runs them. A replay
launches all of them at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from facegen.device import to_device
from facegen.errors import one_line

if TYPE_CHECKING:
    from facegen.training.generator.losses import GanLoss

MEMORY_FACTOR = 2  # a recording keeps what its phase needs for good: so many times what a step needs must be free

Observed = dict[str, torch.Tensor]
Draw = Callable[[], Sequence[torch.Tensor]]


class DrawnNumbers:
    """Random numbers that the CPU draws, on the device where a recording reads them.

    A phase takes what it needs in a fixed order, while it is recorded. Before every replay, `draw_again` draws all of
    it in that order, so that random numbers are those of a phase without recordings.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._draws: list[tuple[Draw, list[torch.Tensor]]] = []
        self._next: int | None = None  # None: take new places

    def take(self, draw: Draw) -> list[torch.Tensor]:
        """Return places on the device for what `draw` returns on the CPU, filled the first time."""
        if self._next is None:
            self._draws.append((draw, [to_device(values, self._device) for values in draw()]))
            return self._draws[-1][1]
        self._next += 1
        return self._draws[self._next - 1][1]

    def begin(self) -> None:
        """Give out the same places again, from the first on."""
        self._next = 0

    def draw_again(self) -> None:
        """Draw new numbers into all places."""
        for draw, places in self._draws:
            for place, values in zip(places, draw(), strict=True):
                place.copy_(values.pin_memory() if place.is_cuda else values, non_blocking=True)


@dataclass
class Phases:
    """Runs the phases of a `GanLoss`, on a GPU by replaying recordings.

    The first run of a phase is as usual, the second is recorded, every later one is a replay. Weights and moving
    averages change in place. Where recording fails, or the GPU's memory is too small, one warning says so and phases
    run as usual.

    Attributes:
        works: False runs all phases as usual.
    """

    works: bool = True
    _seen: set[str] = field(default_factory=set)
    _recordings: dict[str, Recording] = field(default_factory=dict)

    def run(
        self, phase: Callable[..., Observed], loss: GanLoss, network: nn.Module, inputs: tuple[torch.Tensor, ...]
    ) -> Observed:
        """Accumulate gradients of a network that has none, and return what was observed.

        Args:
            phase: A bound method of a loss, named uniquely, or a partial of one.
            loss: Whose phase it is; its moving averages change.
            network: The one in training.
            inputs: Of the phase; always of the same shapes.
        """
        name = getattr(phase, "func", phase).__name__
        if self.works and name in self._seen and name not in self._recordings:
            self._record(name, phase, loss, network, inputs)
        if name in self._recordings:
            return self._recordings[name].replay(inputs)
        self._seen.add(name)
        observed = phase(*inputs)
        clean_gradients(list(network.parameters()))
        return observed

    def _record(
        self,
        name: str,
        phase: Callable[..., Observed],
        loss: GanLoss,
        network: nn.Module,
        inputs: tuple[torch.Tensor, ...],
    ) -> None:
        try:
            self._recordings[name] = Recording(phase, loss, network, inputs)
        except RuntimeError as error:
            self.works = False
            self._recordings.clear()
            warnings.warn(f"no CUDA graph of a training step, so it runs without ({one_line(error)})", stacklevel=2)
            network.zero_grad(set_to_none=True)


class Recording:
    """The kernels of one phase, with the memory that they read and write.

    Raises:
        RuntimeError: too little memory, or an operation that cannot be recorded.
    """

    def __init__(
        self, phase: Callable[..., Observed], loss: GanLoss, network: nn.Module, inputs: tuple[torch.Tensor, ...]
    ) -> None:
        self._require_memory()
        device = inputs[0].device
        self._inputs = [x.clone() for x in inputs]
        self._parameters = list(network.parameters())
        loss.pl_mean = loss.pl_mean.to(device)
        self._drawn = DrawnNumbers(device)
        w_avg, pl_mean = loss.G.mapping.w_avg, loss.pl_mean
        before = w_avg.clone(), pl_mean.clone(), torch.get_rng_state(), _cuda_random(device)
        loss.drawn = self._drawn
        try:
            self._try_out(phase, network)
            network.zero_grad(set_to_none=True)
            self._drawn.begin()
            self._record(phase)
        finally:
            loss.drawn = None
            w_avg.copy_(before[0])
            pl_mean.copy_(before[1])
            torch.set_rng_state(before[2])
            if before[3] is not None:
                torch.cuda.set_rng_state(before[3], device)
        self._gradients = [parameter.grad for parameter in self._parameters]

    def replay(self, inputs: tuple[torch.Tensor, ...]) -> Observed:
        """Run the phase once more on other inputs; gradients are overwritten."""
        self._drawn.draw_again()
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._run_again()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return {name: values.clone() for name, values in self._observed.items()}  # the next replay overwrites them

    def _require_memory(self) -> None:
        torch.cuda.empty_cache()  # what PyTorch keeps in reserve, but for earlier recordings, counts as free
        free = torch.cuda.mem_get_info()[0]
        if free < MEMORY_FACTOR * (torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()):
            raise RuntimeError(f"{free / 2**30:.1f} GB of the GPU's memory are free, too little for recordings")

    def _try_out(self, phase: Callable[..., Observed], network: nn.Module) -> None:
        """Run the phase once on another stream, as a recording needs it; libraries choose their algorithms."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            phase(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)

    def _record(self, phase: Callable[..., Observed]) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._observed = phase(*self._inputs)
            clean_gradients(self._parameters)
        self._run_again = graph.replay


def clean_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace what is no number, so that one bad value does not spoil a weight for ever."""
    for parameter in parameters:
        if parameter.grad is not None:
            torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)


def _cuda_random(device: torch.device) -> torch.Tensor | None:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None
