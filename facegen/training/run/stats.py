"""Means and standard deviations of what a training loop observes, kept on the device until they are read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed


@dataclass(frozen=True)
class Summary:
    """Number, mean and standard deviation of the values of one name."""

    num: int
    mean: float
    std: float


class Collector:
    """Accumulates moments per name; reading them is the only time that the host waits for the device."""

    def __init__(self) -> None:
        self._moments: dict[str, torch.Tensor] = {}

    def report(self, name: str, values: torch.Tensor) -> None:
        """Add all elements of `values`, a tensor of any shape; an empty one adds nothing."""
        if values.numel() == 0:
            return
        values = values.detach().flatten().to(torch.float64 if values.device.type != "mps" else torch.float32)
        moments = torch.stack([torch.ones_like(values).sum(), values.sum(), values.square().sum()])
        old = self._moments.get(name)
        self._moments[name] = moments if old is None else old + moments

    def flush(self) -> dict[str, Summary]:
        """Return a summary per name and forget the values.

        With several processes, each must have reported the same names and call this; all get the combined values.
        """
        summaries: dict[str, Summary] = {}
        if not self._moments:
            return summaries
        gathered = torch.stack(list(self._moments.values()))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(gathered)
        for name, (num, total, squares) in zip(self._moments, gathered.tolist(), strict=True):
            mean = total / num
            variance = max(squares / num - mean * mean, 0.0)
            summaries[name] = Summary(int(num), mean, variance**0.5)
        self._moments.clear()
        return summaries
