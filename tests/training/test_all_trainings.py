"""What all trainings have in common: stopping and going on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from trainings import (
    Training,
    assert_one_line,
    assert_same,
    assert_same_weights,
    interrupted_at,
    only_run,
)

from facegen.cli import main
from facegen.errors import FacegenError
from facegen.status import RESUME_ME
from facegen.training.age.options import AgeOptions
from facegen.training.editor.options import EditorOptions
from facegen.training.encoder.options import EncoderOptions
from facegen.training.generator.options import TrainOptions
from facegen.training.run.folder import RunFolder, read_stats
from facegen.training.run.lock import read_status


def assert_same_state(training: Training, one: Path, other: Path) -> None:
    """Weights, optimizers, counters and random states."""
    assert_same(*(torch.load(run / training.state, weights_only=True) for run in (one, other)))
    if training.command == "train":  # its state file names the snapshot that holds the weights
        assert_same_weights(one, other)


FILES = ("training_options.json", "data.json", "log.txt", "stats.jsonl", "status.json", ".lock")
EPOCHS = ("encoder-epoch001.safetensors", "encoder-epoch002.safetensors")
OWN_FILES = {
    "train": (
        "training-state.pt",
        "reals.png",
        "fakes_init.png",
        *(f"fakes000000_{images}.png" for images in ("016", "032")),
        *(f"network-snapshot-000000_{images}.safetensors" for images in ("016", "032")),
    ),
    "train-encoder": ("encoder-state.pt", "curve.png", "reconstructions.png", "encoder-best.safetensors", *EPOCHS),
    "train-age": ("age-state.pt", "curve.png", "ages.png", "age-best.safetensors"),
    "train-editor": ("editor-state.pt", "curve.png", "edits.png", "editor.safetensors"),
}


def precision(run: Path) -> list[str]:
    return re.findall(r"^precision:? +(.*)", (run / "log.txt").read_text(), re.MULTILINE)


def test_a_run_leaves_all_its_files(training: Training, finished: Path):
    names = [path.name for path in finished.iterdir()]
    events = [name for name in names if name.startswith("events.out.tfevents")]
    assert len(events) == 1
    assert set(names) - set(events) == {*FILES, *OWN_FILES[training.command]}
    for path in finished.glob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L"), float).std() > 5, f"{path}: shows nothing"


# -- going on


@pytest.mark.parametrize("after", [1, 3])
def test_stopped_by_ctrl_c_it_goes_on_to_the_bit(training: Training, finished: Path, tmp_path: Path, after: int):
    with interrupted_at(after) as steps:
        run = training.train(tmp_path)
        stopped_after = len(steps)
        assert after <= stopped_after <= after + 3  # a generator's step is one of up to four optimizer's
        assert f"continue with: facegen {training.command} --resume {run}" in (run / "log.txt").read_text()
        assert read_status(run).state == "stopped"
        torch.rand(7)  # a new process would not have the old random state either
        training.go_on(run)
        assert len(steps) > stopped_after
    assert read_status(run).state == "finished"
    assert_same_state(training, run, finished)
    found, expected = read_stats(run), read_stats(finished)
    assert [line["step"] for line in found] == sorted({line["step"] for line in found})
    for name in training.losses if training.command != "train" else ():  # whose ticks begin anew
        assert [line[name] for line in found] == [line[name] for line in expected]


def test_a_finished_run_goes_on_with_more(training: Training, finished: Path, tmp_path: Path):
    name, _ = training.length
    run = training.train(tmp_path, **training.halves(1))
    before = (run / "training_options.json").read_text()
    with pytest.raises(FacegenError, match=name):
        training.go_on(run)
    assert (run / "training_options.json").read_text() == before
    training.go_on(run, **training.halves(2))
    if training.command != "train-age":  # whose learning rate falls toward the end that was planned
        assert_same_state(training, run, finished)
    assert [line["step"] for line in read_stats(run)] == [line["step"] for line in read_stats(finished)]
    assert json.loads((run / "training_options.json").read_text())[name] == training.halves(2)[name]


def test_going_on_needs_a_run(training: Training, finished: Path, tmp_path: Path):
    def refuse(kind: type[Exception], word: str) -> None:
        with pytest.raises(kind, match=word) as caught:
            training.go_on(tmp_path / "run", **training.halves(3))
        assert_one_line(str(caught.value))

    refuse(FileNotFoundError, "run")
    (tmp_path / "run").mkdir()
    refuse(FileNotFoundError, "training_options.json")
    (tmp_path / "run" / "training_options.json").write_text('{"flux": 1}')
    refuse(FacegenError, "options")
    (tmp_path / "run" / "training_options.json").write_text((finished / "training_options.json").read_text())
    refuse(FileNotFoundError, training.state)
    (tmp_path / "run" / training.state).write_bytes(b"junk")
    refuse(FacegenError, "damaged")
    saved = torch.load(finished / training.state, weights_only=True)
    for name in saved:
        torch.save({key: value for key, value in saved.items() if key != name}, tmp_path / "run" / training.state)
        refuse(FacegenError, f"it has no {name}")


def test_a_device_that_is_not_there(training: Training, finished: Path, tmp_path: Path):
    ((name, more),) = training.halves(3).items()
    for where in ({"outdir": tmp_path}, {"resume": finished}):
        with pytest.raises(FacegenError, match="nowhere") as caught:
            training.start(training.options, **where, device="nowhere", progress=False)
        assert_one_line(str(caught.value))
    command = [training.command, "--resume", str(finished), f"--{name}", str(more), "--device", "nowhere"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "nowhere" in result.output
    assert not list(tmp_path.iterdir())


# -- what stops it, and what does not even let it start


@pytest.mark.parametrize(
    ("training", "loss", "words"),
    [
        ("encoder", "facegen.training.encoder.objective.EncoderObjective.forward", "epoch 1, batch 1.* --lr"),
        ("age", "facegen.training.age.loop.age_loss", "step 1.* --lr"),
        ("editor", "facegen.training.editor.losses.age_loss", "step 1.* --lr"),
    ],
    indirect=["training"],
)
def test_nan_stops_with_one_line(training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss, words):
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(loss, lambda *_: {"loss": nan * 1} if training.command == "train-encoder" else nan * 1)
    with pytest.raises(FacegenError, match=f"nan in {words}") as caught:
        training.train(tmp_path)
    assert_one_line(str(caught.value))


@pytest.mark.parametrize(
    ("training", "change", "reason"),
    [
        ("encoder", {"epochs": 0}, "epochs must be above 0"),
        ("encoder", {"lr": -1.0}, "lr must be above 0"),
        ("encoder", {"batch": 1}, "at least 2"),
        ("encoder", {"pairs": 4}, "fewer than a batch of 4"),
        ("encoder", {"blocks": (9, 9, 9)}, "blocks"),
        ("encoder", {"input_size": 10}, "from 75 to"),
        ("encoder", {"init": "missing.pt"}, "missing.pt"),
        ("encoder", {"generator": "missing.safetensors"}, "missing.safetensors"),
        ("encoder", {"recipe": "real"}, "give --data"),
        ("encoder", {"recipe": "nothing"}, "choose one of"),
        ("age", {"kimg": 0}, "kimg must be above 0"),
        ("age", {"lr": -1.0}, "lr must be above 0"),
        ("age", {"sigma": 0.0}, "sigma must be above 0"),
        ("age", {"batch": 1}, "at least 2"),
        ("age", {"batch": 21}, "too few for a batch of 21"),
        ("age", {"balance": 2.0}, "between 0"),
        ("age", {"arch": "vgg"}, "one of resnet, plain"),
        ("age", {"half": "third"}, "one of first, second"),
        ("age", {"widths": (8,)}, "a width and a depth"),
        ("age", {"size": 2}, "input size"),
        ("age", {"data": "missing.zip"}, "missing.zip"),
        ("age", {"val": "missing.zip"}, "missing.zip"),
        ("editor", {"kimg": 0}, "kimg must be above 0"),
        ("editor", {"batch": 7}, "at least 8"),
        ("editor", {"generated": 0.8}, "between 0 and 0.75"),
        ("editor", {"widths": (12,)}, "multiples of 8"),
        ("editor", {"coarse": 0.5}, "pictures of 16 pixels, an editor learns from 32"),
        ("editor", {"inner_size": 9}, "cannot halve"),
        ("editor", {"data": "missing.zip"}, "missing.zip"),
        ("editor", {"generator": "missing.safetensors"}, "missing.safetensors"),
        ("editor", {"encoder": "missing.safetensors"}, "missing.safetensors"),
        ("editor", {"age_estimators": ("missing.safetensors",)}, "missing.safetensors"),
        ("editor", {"face_network": "missing.params"}, "missing.params"),
    ],
    indirect=["training"],
)
def test_impossible_options_leave_no_run_behind(training: Training, tmp_path: Path, change: dict, reason: str):
    with pytest.raises((FacegenError, FileNotFoundError), match=reason) as caught:
        training.train(tmp_path / "runs", **change)
    assert_one_line(str(caught.value))
    assert not (tmp_path / "runs").exists()


# -- the command


def arguments(training: Training) -> list[str]:
    """The options as they are written on a command line."""
    written = training.options.to_json()
    names = {"train": ("data", "batch", "tick"), "train-age": ("data", "val", "widths", "depths", "batch", "snap")}
    names |= {"train-editor": ("data", "generator", "face_network", "widths", "batch", "snap", "coarse")}
    names |= {"train-encoder": ("generator", "recipe", "pairs", "batch", "init", "blocks", "input_size")}
    given = {name.replace("_", "-"): written[name] for name in names[training.command]}
    if training.command == "train":
        given["cfg"] = "tiny"
    texts = {name: ",".join(map(str, x)) if isinstance(x, list | tuple) else str(x) for name, x in given.items()}
    return [training.command, *(part for name, text in texts.items() for part in (f"--{name}", text))]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, RESUME_ME)])
def test_a_command_saves_when_it_is_told_to_stop(training: Training, tmp_path: Path, number: int, code: int):
    """The exit code is what a scheduler sees."""
    name, _ = training.length
    with interrupted_at(3, number):
        result = CliRunner().invoke(main, [*arguments(training), "--outdir", str(tmp_path), f"--{name}", "1000"])
    assert result.exit_code == code, result.output
    run = only_run(tmp_path)
    assert f"continue with: facegen {training.command} --resume {run}" in result.output
    assert read_status(run).state == "stopped"
    if name == "kimg":  # an epoch is longer than that
        result = CliRunner().invoke(main, [training.command, "--resume", str(run), "--kimg", "0.001"])
        assert result.exit_code == 1
        assert "kimg" in result.output


@pytest.mark.parametrize("training", ["generator"], indirect=True)
def test_a_real_process_that_trains(training: Training, tmp_path: Path):
    command = [sys.executable, "-m", "facegen", *arguments(training), "--outdir", str(tmp_path), "--kimg", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300  # seconds; on a busy machine even the imports take a minute
    while not list(tmp_path.glob("*/stats.jsonl")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    run = only_run(tmp_path)
    status = read_status(run)
    assert (status.state, status.pid) == ("running", process.pid)
    with pytest.raises(FacegenError, match=f"process {process.pid} on .* is training in this folder"):
        RunFolder.open(run)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == RESUME_ME == 75, errors
    assert "Traceback" not in errors
    assert f"continue with: facegen train --resume {run}" in output
    assert read_status(run).state == "stopped"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (["train"], "--data"),
        (["train-encoder"], "--network"),
        (["train-age"], "--data"),
        (["train-editor"], "--data"),
        (["train", "--resume", "RUN", "--gamma", "8"], "leave out --gamma"),
        (["train-encoder", "--resume", "RUN", "--lr", "0.1"], "leave out --lr"),
        (["train-age", "--resume", "RUN", "--lr", "0.1", "--license", "mine"], "leave out --license, --lr"),
        (["train-editor", "--resume", "RUN", "--ema", "9"], "leave out --ema"),
        (["train-encoder", "--network", "g", "--blocks", "1,2"], "5,10,5"),
        (["train-age", "--data", "d", "--widths", "eight"], "whole numbers"),
        (["train-age", "--data", "d", "--arch", "vgg"], "vgg"),
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense(tmp_path: Path, line: list[str], word: str):
    kinds = {"train-encoder": EncoderOptions, "train-age": AgeOptions, "train-editor": EditorOptions}
    options = kinds[line[0]]("faces.zip") if line[0] in kinds else TrainOptions("faces.zip").decide(64)
    (tmp_path / "training_options.json").write_text(json.dumps(options.to_json()))
    result = CliRunner().invoke(main, [str(tmp_path) if part == "RUN" else part for part in line])
    assert result.exit_code == 2
    assert word in result.output


# -- bfloat16


def test_in_bfloat16_where_the_processor_has_it(
    training: Training, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lacking = "float32 (this processor has no instructions for bfloat16)"
    assert precision(finished) == [lacking]
    monkeypatch.setenv("FACEGEN_BFLOAT16", "1")
    whole = training.train(tmp_path)
    with interrupted_at(3):
        stopped = training.train(tmp_path)
    training.go_on(stopped)
    assert precision(whole) == ["bfloat16 where it pays (this processor has the instructions)"]
    assert_same_state(training, stopped, whole)
    saved = torch.load(whole / training.state, weights_only=True)
    assert torch.bfloat16 not in {x.dtype for x in tensors(saved)}
    single = training.train(tmp_path, fp32=True)
    assert precision(single) == ["float32 (--fp32)"]
    assert_same_state(training, single, finished)
    for name in training.losses[:1]:
        one, other = ([line[name] for line in read_stats(run)] for run in (whole, single))
        assert one != other
        # Mostly the mean over some steps is rounded less than one number, by 2^-9; a deep network amplifies that.
        assert one == pytest.approx(other, rel=0.05)
    # It goes on where the processor has none.
    monkeypatch.setenv("FACEGEN_BFLOAT16", "0")
    training.go_on(stopped, **training.halves(3))
    assert precision(stopped)[-1] == lacking


def tensors(part: Any) -> list[torch.Tensor]:
    if isinstance(part, dict | list | tuple):
        inner = part.values() if isinstance(part, dict) else part
        return [tensor for each in inner for tensor in tensors(each)]
    return [part] if isinstance(part, torch.Tensor) else []
