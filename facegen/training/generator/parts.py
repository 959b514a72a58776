"""The phases of a step on a batch in parts: on several processes, or several passes of one (`--batch-gpu`).

The training is the one on the whole batch, except for the last bits of a float: see `draws` for the random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from facegen.errors import FacegenError
from facegen.training.draws import Part
from facegen.training.generator.losses import GanLoss, Observed
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.recording import Tensors, clean_gradients
from facegen.training.run import distributed


def batch_parts(options: TrainOptions, rank: int = 0, processes: int = 1) -> list[Part]:
    """Return the parts of a batch that a process works on: its share, in passes of at most `batch_gpu` pictures.

    Part j of the process's share is part `rank + j * processes` of the batch.

    Raises:
        FacegenError: the batch cannot be shared out evenly.
    """
    if options.batch % processes:
        raise FacegenError(
            f"a batch of {options.batch} cannot be shared by {processes} processes: choose another --batch"
        )
    share = options.batch // processes
    most = min(options.batch_gpu or share, share)
    if share % most:
        raise FacegenError(f"--batch-gpu {most} does not divide the {share} pictures of a batch that each process gets")
    group = min(options.mbstd_group, most)
    if most % group:
        raise FacegenError(
            f"{most} pictures at a time are not a multiple of {group} (minibatch-stddev group): choose another "
            "--batch, --batch-gpu or number of processes"
        )
    passes = share // most
    return [Part(rank + j * processes, processes * passes) for j in range(passes)]


class PhasesInParts:
    """Runs the phases of a `GanLoss` on one part of the batch after the other.

    Each part sees the random numbers and the moving averages that the whole batch would. Then the gradients and the
    averages (of w and of path lengths) become the mean over all parts of all processes.

    Args:
        loss: the loss; its random numbers are split.
        parts: the parts that this process works on.
    """

    def __init__(self, loss: GanLoss, parts: list[Part]) -> None:
        self.loss, self.parts = loss, parts

    def run(self, phase: Callable[..., Observed], network: nn.Module, draw_inputs: Callable[[], Tensors]) -> Observed:
        """Accumulate the gradients of a network that has none, as `Phases.run` does."""
        if getattr(phase, "func", phase) == self.loss.generator_reg:
            self.loss.mean_length = self._mean_length(network, draw_inputs)
        averages = self._averages()
        sums, observed = [torch.zeros_like(average) for average in averages], []
        for _ in self._passes():
            observed.append(phase(*draw_inputs()))
            for total, average in zip(sums, averages, strict=True):
                total += average
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        distributed.average([*gradients, *sums], len(self.parts))
        clean_gradients(network)
        for average, total in zip(averages, sums, strict=True):
            average.copy_(total)
        return {key: torch.cat([part[key] for part in observed]) for key in observed[0]}

    def _mean_length(
        self, network: nn.Module, draw_inputs: Callable[[], Tensors]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what turns the path lengths of a part into the mean of the whole batch.

        Where a process has several parts, it has to go over all of them before the first can learn.
        """
        if len(self.parts) == 1:
            return _mean_of_all
        network.requires_grad_(False)
        lengths = [self.loss.path_lengths(*draw_inputs())[0] for _ in self._passes(rewind=True)]
        network.requires_grad_(True)
        mean = _mean_of_all(torch.cat(lengths))
        return lambda lengths_of_a_part: mean

    def _passes(self, rewind: bool = False) -> Iterator[None]:
        """Let each part begin with the same random numbers and averages; `rewind` leaves them as they were."""
        random, averages = self.loss.random, self._averages()
        begin, before = random.position(), [average.clone() for average in averages]
        for number, part in enumerate(self.parts):
            random.part, random.share = part, Part(number, len(self.parts))
            self._go_back(begin, before)
            yield
        if rewind:
            self._go_back(begin, before)

    def _go_back(self, position: dict[str, torch.Tensor], before: list[torch.Tensor]) -> None:
        self.loss.random.go_to(position)
        for average, value in zip(self._averages(), before, strict=True):
            average.copy_(value)

    def _averages(self) -> list[torch.Tensor]:
        return [self.loss.G.mapping.w_avg, self.loss.pl_mean]


def _mean_of_all(lengths: torch.Tensor) -> torch.Tensor:
    mean = lengths.mean()
    distributed.average([mean])
    return mean
