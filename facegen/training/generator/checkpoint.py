"""Checkpoints of a generator's training: saving its state, and going on from it exactly where it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facegen.errors import FacegenError, one_line
from facegen.text import as_argument
from facegen.training.generator.state import TrainingState
from facegen.training.run.check_state import checked, cuda_states, fitting, generator_state, number, whole
from facegen.training.run.folder import check_room, read_state, written_state
from facegen.training.run.snapshots import drop_later
from facegen.weights.header import Header
from facegen.weights.locate import SNAPSHOTS, snapshot_name
from facegen.weights.native import load_networks, save_networks

STATE = "training-state.pt"
# The entries of that file.
SAVED = ("snapshot", "images_seen", "steps", "position", "pl_mean", "optimizers", "p", "ada", "rng_cpu", "rng_cuda")
COUNTERS = ("images_seen", "steps", "position")
# Earlier versions gave the snapshots of one kimg the same name, which this ended while another took its place.
BEFORE = ".before"


def save(state: TrainingState, folder: Path, metadata: dict[str, Any]) -> Path:
    """Write a snapshot of the networks, and beside it what else a resumed run needs; return the snapshot's path.

    At every instant the state file names a whole snapshot that fits it: both files are written in full before either
    is put in its place, and the snapshot goes first.

    Raises:
        OSError: nothing can be written, because the disk is full for example. The pair before is as it was.
    """
    snapshot = folder / snapshot_name(state.images_seen)
    kimg = state.images_seen / 1000
    content = {
        "snapshot": snapshot.name,
        "images_seen": state.images_seen,
        "steps": state.steps,
        "position": state.batches.position,
        "pl_mean": state.loss.pl_mean.cpu(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
        "p": state.augment.p.cpu() if state.augment is not None else None,
        "ada": state.ada.state_dict() if state.ada is not None else None,
        **state.random.state_dict(),
    }
    reached = {"kimg": kimg} | ({} if state.augment is None else {"augment_p": float(state.augment.p)})
    with written_state(folder / STATE, content):
        save_networks(snapshot, {"G": state.G, "D": state.D, "G_ema": state.G_ema}, {**metadata, **reached})
    return snapshot


def restore(state: TrainingState, folder: str | os.PathLike[str]) -> None:
    """Load into a freshly built state what `save` wrote, random states included.

    Raises:
        FileNotFoundError, FacegenError: as `find` and `load_weights`, and where the state is not of this training.
    """
    content, snapshot = find(folder)
    content = _fitting(state, content, str(Path(folder) / STATE))
    load_weights(snapshot, {"G": state.G, "D": state.D, "G_ema": state.G_ema})
    state.images_seen, state.steps = content["images_seen"], content["steps"]
    state.batches.position = content["position"]
    state.loss.pl_mean.copy_(content["pl_mean"])
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(content["optimizers"][name])
    if state.augment is not None:
        state.augment.p.copy_(content["p"])
    if state.ada is not None:
        state.ada.load_state_dict(content["ada"])
    state.random.load_state_dict(content)


def _fitting(state: TrainingState, content: dict[str, Any], where: str) -> dict[str, Any]:
    """What a state file holds, if it fits a training. Raises FacegenError."""
    fit: dict[str, Any] = {name: whole(content[name], f"{where}: {name}") for name in COUNTERS}
    fit["pl_mean"] = checked(content["pl_mean"], (), torch.float32, f"{where}: pl_mean")
    fit["optimizers"] = fitting(state.optimizers, content["optimizers"], f"{where}: optimizers")
    fit["rng_cpu"] = generator_state(content["rng_cpu"], f"{where}: rng_cpu")
    fit["rng_cuda"] = cuda_states(content["rng_cuda"], f"{where}: rng_cuda")
    if state.augment is not None:
        fit["p"] = checked(content["p"], (), torch.float32, f"{where}: p")
        number(float(fit["p"]), f"{where}: p", least=0)
    if state.ada is not None:
        fit["ada"] = state.ada.fitting(content["ada"], f"{where}: ada")
    return fit


def find(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], Path]:
    """Return what the state file in a folder holds, and the snapshot that belongs to it.

    Raises:
        FileNotFoundError, FacegenError: the folder holds no whole state, or the snapshot is another or damaged.
    """
    path = Path(folder) / STATE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; this run never reached its first snapshot, so start a new one")
    content = read_state(path, SAVED)
    name = content["snapshot"]
    if not isinstance(name, str) or Path(name).name != name or not fnmatchcase(name, SNAPSHOTS):
        raise FacegenError(f"{path}: snapshot: does not name a snapshot in its folder")
    whole(content["images_seen"], f"{path}: images_seen")
    snapshot = Path(folder) / name
    if _before(snapshot).exists() and not _is_of(snapshot, content["images_seen"]):
        snapshot = _before(snapshot)  # the process was killed between the two: continue from the previous pair
    if snapshot.exists() and not _is_of(snapshot, content["images_seen"]):
        raise FacegenError(
            f"{snapshot}: is not the snapshot that {path.name} belongs to, so this run cannot continue; a new one "
            f"can start from these weights: facegen train --resume {as_argument(snapshot)}"
        )
    return content, snapshot


def check_room_for(folder: str | os.PathLike[str], networks: Callable[[], Iterable[nn.Module]]) -> None:
    """Raise as `find`, and a FacegenError where the snapshot is far too small for these networks; see `check_room`."""
    check_room(networks, find(folder)[1])


def clear_leftovers(folder: Path, images_seen: int) -> None:
    """Remove what a killed process left in a run's folder: everything after the saved state, and duplicates.

    Call it after `restore`, when no other process trains there.
    """
    for before in folder.glob(f"*{BEFORE}"):
        snapshot = before.with_name(before.name.removesuffix(BEFORE))
        if not snapshot.exists() or (_is_of(before, images_seen) and not _is_of(snapshot, images_seen)):
            before.replace(snapshot)
        before.unlink(missing_ok=True)
    drop_later(folder, images_seen)


def _before(snapshot: Path) -> Path:
    """Where an earlier version kept a snapshot while one of the same name took its place."""
    return snapshot.with_name(snapshot.name + BEFORE)


def _is_of(snapshot: Path, images_seen: int) -> bool:
    """Whether a snapshot was taken after this many images. FacegenError where it is damaged."""
    return round(Header.read(snapshot)["kimg"] * 1000) == images_seen


def load_weights(path: Path, networks: dict[str, nn.Module]) -> None:
    """Copy the weights of a snapshot into networks of the same shape.

    Raises:
        FileNotFoundError, FacegenError: it is gone or damaged, of other shapes, or no numbers.
    """
    loaded, _ = load_networks(path, list(networks))
    for name, network in networks.items():
        try:
            network.load_state_dict(loaded[name].state_dict())
        except RuntimeError as error:
            raise FacegenError(
                f"{path}: the weights of {name} do not fit this run's data and --cfg, which must be those that they "
                f"were trained with: {one_line(error)}"
            ) from error
