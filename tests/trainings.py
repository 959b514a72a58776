"""Short trainings of narrow networks, and what is asked of their runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from facegen.training.generator import loop
from facegen.training.generator.options import TrainOptions
from facegen.training.run.folder import read_options
from facegen.weights.locate import list_snapshots
from facegen.weights.native import load_networks

CPU = torch.device("cpu")
SHALLOW = {"epochs": 2, "init": "none", "blocks": (0, 0, 0), "input_size": 75}  # the smallest encoder there is
NARROW = {"channel_base": 128, "channel_max": 16, "latent": 16}  # a step takes milliseconds


@dataclass(frozen=True)
class Training:
    """One of the three.

    Attributes:
        command: the command that starts it.
        options: of a run of two epochs, or of two halves that end with statistics and saved weights.
        length: name of the option that says how long to train, and its value for half a run.
        state: name of the state file.
        losses: numbers in the statistics that do not depend on time.
        start: takes options and a folder for runs, or a run to go on with.
    """

    command: str
    options: Any
    length: tuple[str, float]
    state: str
    losses: tuple[str, ...]
    start: Callable[..., Path]

    def train(self, outdir: Path, **changes: Any) -> Path:
        return self.start(replace(self.options, **changes), outdir, device="cpu", progress=False)

    def go_on(self, run: Path, **changes: Any) -> Path:
        options = replace(read_options(run, type(self.options)), **changes)
        return self.start(options, resume=run, device="cpu", progress=False)

    def halves(self, count: int) -> dict[str, Any]:
        """The option for so many halves."""
        name, half = self.length
        return {name: count * half}


def narrow_options(archive: object, resolution: int = 16, **chosen: Any) -> TrainOptions:
    """Four ticks of two steps, a snapshot after the second and the fourth."""
    chosen = {"batch": 4, "kimg": 0.032, "tick": 0.008, "snap": 2, "cfg": "tiny", **NARROW, **chosen}
    return TrainOptions(str(archive), **chosen).decide(resolution)


def train(archive: object, outdir: Path, **chosen: object) -> Path:
    """Train a generator with `narrow_options` and return the run folder."""
    return loop.train_generator(narrow_options(archive, **chosen), outdir, progress=False)


def go_on(run: Path, **changes: Any) -> Path:
    """Go on with the run of a generator, with its options but for the changes."""
    return loop.train_generator(replace(read_options(run, TrainOptions), **changes), resume=run, progress=False)


def train_whole_and_resumed(archive: object, outdir: Path, **chosen: Any) -> tuple[Path, Path]:
    """Train undisturbed, and again with a stop half-way; require the same weights and return both runs."""
    kimg = chosen.setdefault("kimg", 0.032)
    whole = train(archive, outdir / "whole", **chosen)
    resumed = train(archive, outdir / "resumed", **{**chosen, "kimg": kimg / 2})
    torch.manual_seed(1234)  # a new process would not have the old random state either
    go_on(resumed, kimg=kimg)
    assert_same_weights(whole, resumed)
    return whole, resumed


def weights(run: Path) -> dict[str, torch.Tensor]:
    """All tensors of a run's last snapshot."""
    networks, _ = load_networks(list_snapshots(run)[-1])
    return {f"{name}.{key}": x for name, network in networks.items() for key, x in network.state_dict().items()}


def assert_same_weights(one: Path, other: Path) -> None:
    assert_same(weights(one), weights(other))


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Compare dicts and lists of tensors and plain values, to the bit."""
    if isinstance(one, Mapping):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def only_run(outdir: Path) -> Path:
    (run,) = outdir.glob("0*")
    return run


def assert_one_line(text: str) -> None:
    assert "\n" not in text.strip()
    assert "Traceback" not in text


def at(images: int, do: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something before the step of a generator's training that would begin after so many images."""
    real = loop.train_step

    def step(state, *rest):
        if state.images_seen == images:
            do(state)
        return real(state, *rest)

    monkeypatch.setattr(loop, "train_step", step)


@contextmanager
def interrupted_at(number: int, kind: int = signal.SIGINT) -> Iterator[list[int]]:
    """Press Ctrl-C in the n-th step of an optimizer; yields a list that grows by one at every step."""
    steps: list[int] = []

    def count(optimizer: torch.optim.Optimizer, *_: object) -> None:
        if isinstance(optimizer, torch.optim.LBFGS):  # fits a plane before the run begins
            return
        steps.append(len(steps) + 1)
        if len(steps) == number:
            os.kill(os.getpid(), kind)

    hook = register_optimizer_step_pre_hook(count)
    try:
        yield steps
    finally:
        hook.remove()
