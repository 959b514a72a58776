"""State files of trainings as JSON, which mutants of bytes and trees reach better than the tensors in a zip.

A tensor is `{"~": [shape, type, value]}`, full of that value; the state of a random generator is `"~"`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facegen.training.age.loop import TrainingState as AgeTraining
from facegen.training.generator.state import TrainingState

LARGEST = 4096  # numbers of a tensor that are stored one by one


def to_json(content: Any) -> bytes:
    """Return a state as JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(inner) for key, inner in value.items()}
        if not isinstance(value, torch.Tensor):
            return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
        if value.shape == torch.get_rng_state().shape:
            return "~"
        fill = value.double().mean().item() if value.numel() else 0
        return {"~": [list(value.shape), str(value.dtype).removeprefix("torch."), round(fill, 3)]}

    return json.dumps(plain(content), separators=(",", ":")).encode()


def from_json(data: bytes) -> Any:
    """The inverse of `to_json`; ValueError or RecursionError where it is no JSON, or too deep."""

    def made(value: Any) -> Any:
        if isinstance(value, list):
            return [made(inner) for inner in value]
        if value == "~":
            return torch.get_rng_state()
        if not isinstance(value, dict):
            return value
        if "~" in value:
            return _tensor(value["~"])
        return {int(key) if key.isdecimal() and len(key) < 9 else key: made(inner) for key, inner in value.items()}

    return made(json.loads(data))


def _tensor(told: Any) -> Any:
    try:
        shape, kind, fill = told
        tensor = torch.full((), fill, dtype=getattr(torch, kind)).expand(shape)
        return tensor.clone() if tensor.numel() <= LARGEST else tensor
    except Exception:  # torch raises anything
        return told


def of_age_estimator(folder: Path) -> Callable[[], None]:
    """Return a function that goes on from the `age-state.pt` in a folder, and trains a step."""
    from facegen.training.age.loop import STATE
    from facegen.training.run.folder import read_state
    from facegen.training.run.session import load_state

    state = age_training()

    def restore() -> None:
        load_state(state.parts, read_state(folder / STATE, list(state.parts)), folder / STATE)
        take_step(state.network, state.optimizer)

    return restore


@cache
def age_training() -> AgeTraining:
    """Build the smallest training of an age estimator."""
    from facegen.training.age.loop import build
    from facegen.training.age.options import AgeOptions

    state = build(AgeOptions("", widths=(8, 8), depths=(1, 1), size=16), torch.device("cpu"))
    take_step(state.network, state.optimizer)
    return state


def of_generator(folder: Path) -> Callable[[], None]:
    """Return a function that goes on from the `training-state.pt` in a folder, and trains a step."""
    from facegen.training.generator import checkpoint

    state = generator_training(folder)

    def restore() -> None:
        checkpoint.restore(state, folder)
        take_step(state.G, state.optimizers["G"])
        take_step(state.D, state.optimizers["D"])

    return restore


@cache
def generator_training(folder: Path) -> TrainingState:
    """Build the smallest training of a generator, and save its snapshot in the folder."""
    from helpers import write_faces

    from facegen.data.archive import FaceArchive
    from facegen.training.generator import checkpoint
    from facegen.training.generator.options import TrainOptions
    from facegen.training.generator.state import build_state

    archive = FaceArchive(write_faces(folder / "training.zip", [5, 15, 25], size=8))
    options = TrainOptions("", cfg="tiny", batch=4, latent=2, channel_base=8, channel_max=1, map_layers=1)
    state = build_state(options.decide(8), archive, torch.device("cpu"))
    kept = folder / checkpoint.STATE
    before = kept.read_bytes() if kept.exists() else None
    for network, name in ((state.G, "G"), (state.D, "D")):
        take_step(network, state.optimizers[name])
    checkpoint.save(state, folder, {})
    if before is not None:
        kept.write_bytes(before)
    return state


def take_step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer step by gradients of zero, so that it has moments."""
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
