"""A state file from a stranger: what does not fit the run is refused in one line, and nothing in its folder changes."""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import shutil
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trainings import Training, assert_one_line

from facegen.errors import FacegenError
from facegen.training.augment.ada import AdaController
from facegen.training.generator.options import TrainOptions
from facegen.training.rehearsal import rehearse
from facegen.training.run import check_state
from facegen.training.run.folder import read_options
from facegen.weights.locate import list_snapshots
from facegen.weights.native import load_networks, save_networks

State = dict[str, Any]


def refused(training: Training, run: Path) -> str:
    """Try to go on with a run; return the line that says why not. Nothing in its folder may have changed by that."""

    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != ".lock"}

    before = content()
    with pytest.raises((FacegenError, FileNotFoundError)) as caught:
        training.go_on(run, **training.halves(3))
    assert content() == before
    assert_one_line(str(caught.value))
    assert len(str(caught.value)) < 600
    return str(caught.value)


def optimizers(saved: State) -> list[State]:
    return list(saved["optimizers"].values()) if "optimizers" in saved else [saved["optimizer"]]


def moments(saved: State, change: Callable[[State], object]) -> None:
    """Change what each optimizer keeps of its largest parameter."""
    for state in (optimizer["state"] for optimizer in optimizers(saved)):
        change(max(state.values(), key=lambda kept: kept["exp_avg"].numel()))


def moment(name: str, new: Callable[[torch.Tensor], Any]) -> Callable[[State], None]:
    return lambda saved: moments(saved, lambda kept: kept.update({name: new(kept[name])}))


def one_nan(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x == x.flatten()[-1], math.nan, x)


# The worst ones: torch's fused Adam writes beyond the end of moments that are smaller than their parameter.
MOMENTS = {
    "moments of one number": moment("exp_avg", lambda x: torch.full((1,), 1.5)),
    "second moments of one number": moment("exp_avg_sq", lambda x: torch.full((1,), 1.5)),
    "moments of no dimensions": moment("exp_avg", lambda x: torch.tensor(1.5)),
    "no numbers": moment("exp_avg", lambda x: x[:0]),
    "one row less": moment("exp_avg", lambda x: x[1:]),
    "as many numbers in another shape": moment("exp_avg", lambda x: x.reshape(-1)),
    "half as wide": moment("exp_avg", lambda x: x.half()),
    "twice as wide": moment("exp_avg", lambda x: x.double()),
    "whole numbers": moment("exp_avg", lambda x: x.int()),
    "complex": moment("exp_avg", lambda x: x.to(torch.complex64)),
    "sparse": moment("exp_avg", lambda x: x.to_sparse()),
    "on no device": moment("exp_avg", lambda x: x.to("meta")),
    "no tensor": moment("exp_avg", lambda x: 1.5),
    "NaN": moment("exp_avg", one_nan),
    "infinite": moment("exp_avg_sq", lambda x: x + math.inf),
    "huge": moment("exp_avg", lambda x: x + 1e30),
    "negative squares": moment("exp_avg_sq", lambda x: -x - 1),
    "steps as a vector": moment("step", lambda x: x.repeat(3)),
    "steps in whole numbers": moment("step", lambda x: x.long()),
    "no steps": moment("step", lambda x: None),
    "steps as a plain number": moment("step", float),
    "half a step": moment("step", lambda x: x + 0.5),
    "steps before the start": moment("step", lambda x: x - 1000),
    "NaN steps": moment("step", lambda x: x * math.nan),
    "steps without end": moment("step", lambda x: x + 1e30),
    "moments that lack one": lambda saved: moments(saved, lambda kept: kept.pop("exp_avg_sq")),
    "moments of another optimizer": lambda saved: moments(saved, lambda kept: kept.update(max_exp_avg_sq=1)),
}

OPTIMIZERS = {
    "is a list": lambda state: [state],
    "is a number": lambda state: 7,
    "without states": lambda state: {"param_groups": state["param_groups"]},
    "states in a list": lambda state: {**state, "state": list(state["state"].values())},
    "one parameter more": lambda state: {**state, "state": {**state["state"], 10**6: state["state"][0]}},
    "a parameter by name": lambda state: {**state, "state": {"0": state["state"][0]}},
    "a parameter before the first": lambda state: {**state, "state": {-1: state["state"][0]}},
    "moments in a list": lambda state: {**state, "state": {**state["state"], 0: [1, 2]}},
}


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def tamper(training: Training, run: Path, change: Callable[[State], object]) -> None:
    path = run / training.state
    saved = torch.load(path, weights_only=True)
    change(saved)
    torch.save(saved, path)


def test_each_training_looks_at_its_moments(training: Training, run: Path):
    whole = (run / training.state).read_bytes()
    for what in ("moments of one number", "NaN", "on no device"):
        tamper(training, run, MOMENTS[what])
        assert training.state in refused(training, run), what
        (run / training.state).write_bytes(whole)


@dataclass
class Numbers:
    count: int = 0
    mean: float = 0.0
    best: float = math.inf
    name: str = ""


@pytest.fixture
def parts() -> State:
    """As a training has them, with an optimizer that has taken a step."""
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {"network": network, "average": {"network": network}, "optimizer": optimizer, "training": Numbers()}


def state_of(parts: State) -> State:
    network = dict(parts["network"].state_dict())
    optimizer = copy.deepcopy(parts["optimizer"].state_dict())
    training = dict(vars(parts["training"]))
    return {"network": network, "average": {"network": dict(network)}, "optimizer": optimizer, "training": training}


def refuses(parts: State, saved: State, place: str) -> None:
    with pytest.raises(FacegenError, match=f"^state.pt: {place}") as caught:
        check_state.fitting(parts, saved, "state.pt")
    assert_one_line(str(caught.value))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("what", MOMENTS)
def test_moments(parts: State, what: str):
    saved = state_of(parts)
    check_state.fitting(parts, saved, "state.pt")
    MOMENTS[what](saved)
    refuses(parts, saved, "optimizer: parameter 0")


@pytest.mark.parametrize("what", OPTIMIZERS)
def test_optimizers(parts: State, what: str):
    saved = state_of(parts)
    refuses(parts, {**saved, "optimizer": OPTIMIZERS[what](saved["optimizer"])}, "optimizer")


@pytest.mark.parametrize("name", ["count", "mean", "best", "name", "flux"])
@pytest.mark.parametrize("value", [None, [1], True, 2**5000, -math.inf, math.nan, torch.tensor(1), 1j, b"1"])
def test_numbers(parts: State, name: str, value: Any):
    refuses(parts, {**state_of(parts), "training": {name: value}}, f"training: {name}")


def test_numbers_that_are_right(parts: State):
    for right in ({"count": 7, "mean": -1.5, "best": 0.25, "name": "x"}, {}, {"best": math.inf, "mean": 3}):
        assert check_state.fitting(parts, {**state_of(parts), "training": right}, "state.pt")["training"] == right


def test_parts_that_are_missing(parts: State):
    for name in parts:
        refuses(parts, {key: value for key, value in state_of(parts).items() if key != name}, f"it has no {name}")
        refuses(parts, {**state_of(parts), name: [1]}, name)


def one(name: str, change: Callable[[torch.Tensor], Any]) -> Callable[[State], Any]:
    return lambda state: state.update({name: change(state[name])})


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("bias"),
        lambda state: state.update(more=torch.zeros(1)),
        lambda state: state.update({7: torch.zeros(1)}),
        one("weight", lambda x: x[:1]),
        one("bias", lambda x: x[0]),
        one("weight", lambda x: torch.zeros(1).expand(10**9, *x.shape)),
        one("weight", lambda x: x.half()),
        one("weight", one_nan),
        one("weight", lambda x: x - math.inf),
        one("weight", lambda x: x.to_sparse()),
        one("weight", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)),
        one("weight", lambda x: torch.nested.nested_tensor([x, x])),
        one("weight", lambda x: [1.0]),
    ],
)
def test_weights(parts: State, change: Callable[[State], Any]):
    for place in ("network", "average: network"):
        saved = state_of(parts)
        change(saved["network"] if place == "network" else saved["average"]["network"])
        refuses(parts, saved, place)


def test_a_file_of_something_else(training: Training, run: Path):
    path = run / training.state
    whole = path.read_bytes()
    others = ([1, 2], 7, None, "text", argparse.Namespace(a=1), torch.zeros(3), {}, OrderedDict())
    for content in others[:1] if training.command == "train-encoder" else others:
        torch.save(content, path)
        assert training.state in refused(training, run)
    for damaged in (b"", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert training.state in refused(training, run)
    path.unlink()
    path.mkdir()
    assert training.state in refused(training, run)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_instead_of_a_state(training: Training, run: Path):
    (run / training.state).unlink()
    os.mkfifo(run / training.state)
    assert training.state in refused(training, run)


def test_settings_come_from_the_options(parts: State):
    """Whatever a file says of learning rates and the like, and of which parameters are whose."""
    saved = state_of(parts)
    evil = {"lr": 1e3, "betas": (2.0, -1.0), "eps": math.nan, "weight_decay": 1e9, "amsgrad": True, "maximize": True}
    evil |= {"foreach": True, "fused": None, "capturable": True, "differentiable": True, "flux": [[]] * 9}
    before = parts["optimizer"].state_dict()["param_groups"]
    for groups in ([{**evil, "params": [1, 0]}], [], None, [evil] * 9):
        saved["optimizer"]["param_groups"] = groups
        parts["optimizer"].load_state_dict(check_state.fitting(parts, saved, "state.pt")["optimizer"])
        assert parts["optimizer"].state_dict()["param_groups"] == before
        for index, kept in parts["optimizer"].state_dict()["state"].items():
            assert all(torch.equal(kept[name], saved["optimizer"]["state"][index][name]) for name in kept)


def test_weights_of_a_training(training: Training, run: Path):
    if training.command == "train":  # the snapshot has them
        snapshot = list_snapshots(run)[-1]
        networks, header = load_networks(snapshot)
        with torch.no_grad():
            next(networks["D"].parameters()).view(-1)[0] = math.nan
        save_networks(snapshot, networks, header.metadata)
        assert snapshot.name in refused(training, run)
        return

    def change(saved: State) -> None:
        average = saved["average"]["encoder"] if training.command == "train-encoder" else saved["average"]
        name = next(name for name, x in average.items() if x.is_floating_point())
        one(name, one_nan)(average)

    tamper(training, run, change)
    assert "average" in refused(training, run)


@pytest.mark.parametrize(
    ("training", "larger"),
    [
        ("generator", {"channel_base": 2**14, "channel_max": 1024}),
        ("generator", {"map_layers": 50, "latent": 512}),
        ("age", {"arch": "resnet", "widths": [512, 512], "depths": [2, 2]}),
        ("editor", {"widths": [512, 512]}),
    ],
    indirect=["training"],
)
def test_options_that_ask_for_larger_networks(training: Training, run: Path, larger: dict[str, Any]):
    path = run / "training_options.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **larger}), encoding="utf-8")
    assert "too small for the networks" in refused(training, run)
    if training.command == "train":
        with pytest.raises(FacegenError, match="too small for the networks"):
            rehearse(replace(read_options(run, TrainOptions), **training.halves(3)), resume=run, device="cpu")


@pytest.mark.parametrize("training", ["generator"], indirect=True)
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pl_mean", [torch.tensor(math.nan), None]),
        ("p", [torch.zeros(2), torch.tensor(-1.0), torch.tensor(math.inf), None]),
        ("ada", [None]),
        ("optimizers", [{}]),
        ("rng_cpu", [torch.zeros(5056, dtype=torch.uint8)]),
        ("rng_cuda", [7]),
        ("snapshot", [7, "/dev/zero", "../network-snapshot-1.safetensors", "log.txt", "", "network-snapshot-a\0b"]),
        ("snapshot", ["network-snapshot-/../../../dev/zero.safetensors", "." * 10**5]),
    ],
)
def test_the_generator_s_own(training: Training, run: Path, name: str, values: list[Any]):
    whole = (run / training.state).read_bytes()
    for value in values:
        tamper(training, run, lambda saved: saved.update({name: value}))  # noqa: B023
        assert f"{training.state}: {name}" in refused(training, run)
        (run / training.state).write_bytes(whole)


@pytest.mark.parametrize(
    ("offset", "kind", "value"),
    [(8, "i", 600), (8, "i", -1), (12, "i", 0), (16, "Q", 600), (16, "Q", 2**63), (24 + 624 * 8, "d", math.nan)],
)
def test_random_generators(offset: int, kind: str, value: float):
    """torch reads beyond the end of its random numbers, where `left` and `next` say so."""
    raw = bytearray(torch.Generator().manual_seed(3).get_state().numpy().tobytes())
    struct.pack_into(f"={kind}", raw, offset, value)
    for state in (torch.frombuffer(raw, dtype=torch.uint8), torch.zeros(16, dtype=torch.uint8), None):
        with pytest.raises(FacegenError, match="state"):
            check_state.generator_state(state, "state.pt")


def test_random_generators_of_gpus():
    right = [torch.tensor([7, 0, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0], dtype=torch.uint8)]
    assert torch.equal(check_state.cuda_states(right, "state.pt")[0], right[0])
    for states in (None, 7, [7], [torch.zeros(16)], [torch.ones(16, dtype=torch.uint8)], [right[0][1:]], [[]] * 10**6):
        with pytest.raises(FacegenError, match="state"):
            check_state.cuda_states(states, "state.pt")


def test_ada():
    right = {"minibatches": 4, "sign_mean": 0.5, "sum": -1.0, "count": 4}
    for change in ({}, {"sign_mean": None}, {"sum": 0, "count": 0}):
        assert AdaController().fitting(right | change, "state.pt") == right | change
    evil = [("sign_mean", 2.0), ("sign_mean", "x"), ("sum", 5.0), ("sum", math.nan), ("sum", None), ("count", -1)]
    for name, value in [*evil, ("minibatches", 0.5), ("count", 0)]:
        with pytest.raises(FacegenError, match="state"):
            AdaController().fitting(right | {name: value}, "state.pt")


COUNTERS = {
    "train": ("images_seen", "steps", "position"),
    "train-encoder": ("epoch", "step"),
    "train-age": ("step", "loss_count"),
    "train-editor": ("step",),
}


def test_counters(training: Training, run: Path):
    whole = (run / training.state).read_bytes()
    for name in COUNTERS[training.command]:
        for value in (2**70,) if training.command == "train-encoder" else (None, -1, 2**70, 0.5, torch.tensor(1)):
            tamper(training, run, lambda saved: saved.get("training", saved).update({name: value}))  # noqa: B023
            assert name in refused(training, run)
            (run / training.state).write_bytes(whole)


def test_layouts_of_the_parameter_survive(parts: State):
    """What strides a file's moments have does not matter: Adam gets those of the parameter."""
    optimizer = parts["optimizer"]
    saved = optimizer.state_dict()
    expected = saved["state"][0]["exp_avg"].clone()
    twice = torch.stack([expected.contiguous()] * 2)
    saved["state"][0]["exp_avg"] = twice.permute(1, 2, 3, 4, 0)[..., 0]
    saved["state"][1]["exp_avg"] = torch.zeros(1).expand(4)
    fitted = check_state.fitting(optimizer, saved, "state.pt")["state"]
    for index, parameter in enumerate(parts["network"].parameters()):
        assert fitted[index]["exp_avg"].stride() == parameter.stride()
        assert fitted[index]["exp_avg"].untyped_storage().nbytes() == 4 * parameter.numel()
    assert torch.equal(fitted[0]["exp_avg"], expected)


def test_names_of_methods_in_a_file_are_only_names():
    network = nn.Linear(2, 1)
    saved = network.state_dict()
    saved.items = saved.keys = 7  # type: ignore[method-assign,assignment]
    saved._metadata = 7  # type: ignore[attr-defined]
    network.load_state_dict(check_state.fitting(network, saved, "state.pt"))


def test_every_honest_state_of_a_random_generator():
    for seed in (0, 3):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(1300):
            check_state.generator_state(generator.get_state(), "state.pt")
            torch.rand((), generator=generator)
        torch.randn(1, generator=generator, dtype=torch.float64)
        check_state.generator_state(generator.get_state(), "state.pt")
