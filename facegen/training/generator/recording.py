"""Phases of a training step by recordings of their kernels (CUDA graphs).

A phase of a small network is a thousand kernels, which the CPU launches more slowly than the GPU runs them. A replay
launches all of them at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from facegen.errors import one_line
from facegen.training.draws import DrawnNumbers
from facegen.training.generator.losses import GanLoss, Observed

MEMORY_FACTOR = 2  # a recording keeps what its phase needs for good: this multiple of a step's memory must be free

Tensors = tuple[torch.Tensor, ...]


@dataclass
class Phases:
    """Runs the phases of a `GanLoss`, on a GPU by replaying recordings.

    The first run of a phase is as usual, the second is recorded, every later one is a replay. Weights and moving
    averages change in place. Where recording fails, or the GPU's memory is too small, one warning says so and phases
    run as usual.

    Attributes:
        loss: the loss whose phases these are.
        works: False runs all phases as usual.
    """

    loss: GanLoss
    works: bool = True
    _seen: set[str] = field(default_factory=set)
    _recordings: dict[str, Recording] = field(default_factory=dict)

    def run(self, phase: Callable[..., Observed], network: nn.Module, draw_inputs: Callable[[], Tensors]) -> Observed:
        """Accumulate the gradients of a network that has none, and return what was observed.

        Args:
            phase: a bound method of the loss, named uniquely, or a partial of one.
            network: the network in training.
            draw_inputs: returns what the phase takes, always of the same shapes.
        """
        inputs = draw_inputs()
        name = getattr(phase, "func", phase).__name__
        if self.works and name in self._seen and name not in self._recordings:
            self._record(name, phase, network, inputs)
        if name in self._recordings:
            return self._recordings[name].replay(inputs)
        self._seen.add(name)
        observed = phase(*inputs)
        clean_gradients(network)
        return observed

    def _record(self, name: str, phase: Callable[..., Observed], network: nn.Module, inputs: Tensors) -> None:
        try:
            self._recordings[name] = Recording(phase, self.loss, network, inputs)
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

    def __init__(self, phase: Callable[..., Observed], loss: GanLoss, network: nn.Module, inputs: Tensors) -> None:
        self._require_memory()
        device = inputs[0].device
        self._inputs = [x.clone() for x in inputs]
        self._network = network
        self._drawn = DrawnNumbers(device)
        w_avg, pl_mean = loss.G.mapping.w_avg, loss.pl_mean
        before = w_avg.clone(), pl_mean.clone(), torch.get_rng_state(), _cuda_random(device)
        loss.random.recorded = self._drawn
        try:
            self._try_out(phase, network)
            network.zero_grad(set_to_none=True)
            self._drawn.begin()
            self._record(phase)
        finally:
            loss.random.recorded = None
            w_avg.copy_(before[0])
            pl_mean.copy_(before[1])
            torch.set_rng_state(before[2])
            if before[3] is not None:
                torch.cuda.set_rng_state(before[3], device)
        self._gradients = [parameter.grad for parameter in network.parameters()]

    def replay(self, inputs: Tensors) -> Observed:
        """Run the phase once more on other inputs; gradients are overwritten."""
        self._drawn.draw_again()
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._run_again()
        for parameter, gradient in zip(self._network.parameters(), self._gradients, strict=True):
            parameter.grad = gradient
        return {name: values.clone() for name, values in self._observed.items()}  # the next replay overwrites them

    def _require_memory(self) -> None:
        torch.cuda.empty_cache()  # what PyTorch keeps in reserve counts as free, except for earlier recordings
        free = torch.cuda.mem_get_info()[0]
        if free < MEMORY_FACTOR * (torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()):
            raise RuntimeError(f"{free / 2**30:.1f} GB of the GPU's memory are free, too little for CUDA graphs")

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
            clean_gradients(self._network)
        self._run_again = graph.replay


def clean_gradients(network: nn.Module) -> None:
    """Replace what is not a finite number, so that one bad value does not spoil a weight forever."""
    for parameter in network.parameters():
        if parameter.grad is not None:
            torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)


def _cuda_random(device: torch.device) -> torch.Tensor | None:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None
