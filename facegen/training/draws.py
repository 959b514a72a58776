"""Random numbers of a training step, for a batch that may come in parts.

Everything random that shapes the training (latents, labels, style mixing, augmentation, the noise of path lengths) is
drawn for the whole batch, in the same way by every process and for every part, and each uses its own rows. So the same
seed gives the same run on 1 GPU and on 8, with and without `--batch-gpu`, except for the last bits of a float. Such
draws are small. The noise of the synthesis network is large, so each process draws its own, with its own seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from facegen.device import to_device

Draw = Callable[[], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class Part:
    """Rows `index`, `index + count`, `index + 2 * count`, ... of a batch.

    Taken in such strides, the groups of the minibatch standard deviation (which are strides, too) are those of the
    whole batch, as long as a part has at least one group.
    """

    index: int = 0
    count: int = 1

    def of(self, whole: torch.Tensor) -> torch.Tensor:
        """This part's rows of a whole batch, keeping its memory layout; the batch itself if there is one part."""
        if self.count == 1:
            return whole
        return whole[self.index :: self.count].clone()


WHOLE = Part()


class BatchRandom:
    """Draws for the current part of a batch.

    At first it draws from PyTorch's own generators, for a whole batch. After `split` it has generators of its own that
    go on where PyTorch's were.

    Attributes:
        part: the current part of the batch; tensors drawn have its rows.
        share: the same rows, counted among the pictures that this process has.
        recorded: where the CPU's numbers go while a phase is recorded (see `generator.recording`); None otherwise.
    """

    def __init__(self) -> None:
        self.part = self.share = WHOLE
        self.recorded: DrawnNumbers | None = None
        self._own: dict[str, torch.Generator] = {}

    @property
    def is_split(self) -> bool:
        """Whether batches come in parts."""
        return bool(self._own)

    def split(self, device: torch.device) -> None:
        """Draw from generators of its own from now on."""
        cpu = torch.Generator()
        cpu.set_state(torch.get_rng_state())
        self._own = {"cpu": cpu}
        if device.type == "cuda":
            own = torch.Generator(device)
            own.set_state(torch.cuda.get_rng_state(device))
            self._own["cuda"] = own

    def begin_step(self, seed: int, step: int, rank: int) -> None:
        """Seed PyTorch's own generators, which synthesis noise comes from, if batches are split.

        The seed is made of the run's seed, the step and the process alone, so there is nothing about it to save.
        """
        if self.is_split:
            torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1))

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator | None:
        """The generator to draw from on a device; None is PyTorch's own."""
        return self._own.get(torch.device(device).type)

    def normal(self, batch: int, features: int, device: torch.device) -> torch.Tensor:
        """The part's rows of a standard normal `[batch, features]`."""
        return self.part.of(torch.randn([batch, features], generator=self.generator(device), device=device))

    def normal_like(self, images: torch.Tensor) -> torch.Tensor:
        """Standard normal of the shape and the memory layout of the part's pictures."""
        if not self.is_split:
            return torch.randn_like(images)
        channels_last = not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)
        whole = torch.empty(
            [len(images) * self.part.count, *images.shape[1:]],
            dtype=images.dtype,
            device=images.device,
            memory_format=torch.channels_last if channels_last else torch.contiguous_format,
        )
        return self.part.of(whole.normal_(generator=self.generator(images.device)))

    def classes(self, weights: torch.Tensor, batch: int) -> torch.Tensor:
        """The part's rows of class numbers `[batch]`, drawn as often as `weights` say."""
        return self.part.of(torch.multinomial(weights, batch, replacement=True, generator=self.generator()))

    def layer(self, low: int, high: int) -> int:
        """One number for the whole batch, `low <= number < high`."""
        return int(torch.randint(low, high, [], generator=self.generator()))

    def happens(self, probability: float) -> bool:
        """One decision for the whole batch."""
        return bool(torch.rand([], generator=self.generator()) < probability)

    def on_device(self, draw: Draw, device: torch.device) -> list[torch.Tensor]:
        """Return what `draw` returns on the CPU on a device, without waiting for it."""
        if self.recorded is not None:
            return self.recorded.take(draw)
        return [to_device(values, device) for values in draw()]

    def position(self) -> dict[str, torch.Tensor]:
        """Where the generators are, for `go_to`."""
        return {name: generator.get_state() for name, generator in self._own.items()}

    def go_to(self, position: dict[str, torch.Tensor]) -> None:
        """Draw again what was drawn from there on."""
        for name, state in position.items():
            self._own[name].set_state(state)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, whether it is split in the same way or not."""
        if self.is_split:
            states = self.position()
            return {"rng_cpu": states["cpu"], "rng_cuda": [states["cuda"]] if "cuda" in states else []}
        cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
        return {"rng_cpu": torch.get_rng_state(), "rng_cuda": cuda}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, on the current CUDA device if there is one."""
        torch.set_rng_state(state["rng_cpu"])
        if torch.cuda.is_available() and state["rng_cuda"]:
            torch.cuda.set_rng_state(state["rng_cuda"][0])
        elif torch.cuda.is_available():  # the run comes from a CPU: other numbers each time that it does
            torch.cuda.manual_seed(_seed_of(state["rng_cpu"]))
        if self.is_split:
            self.split(torch.device("cuda" if "cuda" in self._own else "cpu"))


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


def _seed_of(random_state: torch.Tensor) -> int:
    """A seed, 0 to 2^63 - 1, made of all of a generator's state."""
    return int.from_bytes(hashlib.sha256(random_state.numpy().tobytes()).digest()[:8], "little") >> 1
