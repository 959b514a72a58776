from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from facegen.cli import main
from facegen.errors import FacegenError
from facegen.networks.generator import Generator
from facegen.training.encoder.data import FaceData, epoch_batches
from facegen.training.encoder.loop import Progress, TrainingState, resume_encoder, train_encoder, train_step
from facegen.training.encoder.objective import EncoderObjective
from facegen.training.encoder.options import EncoderOptions
from facegen.training.encoder.recipes import RECIPES
from facegen.training.encoder.weight_average import WeightAverage
from facegen.training.run.folder import read_stats
from facegen.weights.load import load_encoder
from facegen.weights.native import save_networks

GROUPS = ["0-20", "21-40", "41-60", "61-"]
TEMPLATE = [[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]]


@pytest.fixture(scope="module")
def generator_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    generator = Generator(
        4,
        4,
        8,
        16,
        3,
        mapping_kwargs={"num_layers": 1},
        synthesis_kwargs={"channel_base": 256, "channel_max": 16, "num_fp16_res": 0},
    )
    path = tmp_path_factory.mktemp("generator") / "tiny.safetensors"
    metadata = {"groups": GROUPS, "template": TEMPLATE, "license": "none", "resolution": 16}
    save_networks(path, {"G_ema": generator}, metadata)
    return path


@pytest.fixture(scope="module")
def options(generator_file: Path) -> EncoderOptions:
    return EncoderOptions(
        generator=str(generator_file),
        recipe="zmse",
        pairs=40,
        epochs=2,
        batch=8,
        init="none",
        blocks=(0, 0, 0),
        input_size=75,
    )


@pytest.fixture(scope="module")
def finished(options: EncoderOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_encoder(options, tmp_path_factory.mktemp("runs"), device="cpu", progress=False)


def weights(run: Path, name: str) -> dict[str, torch.Tensor]:
    return load_encoder(run / name)[0].state_dict()


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_run_leaves_all_its_files(finished: Path):
    assert finished.name == "00000-encoder-zmse-tiny-40pairs"
    names = {path.name for path in finished.iterdir() if not path.name.startswith("events.out.tfevents")}
    assert names == {
        "training_options.json",
        "log.txt",
        "stats.jsonl",
        "status.json",
        ".lock",
        "curve.png",
        "reconstructions.png",
        "encoder-epoch001.safetensors",
        "encoder-epoch002.safetensors",
        "encoder-best.safetensors",
        "encoder-state.pt",
    }
    assert any(finished.glob("events.out.tfevents*"))


def test_log_and_statistics_compare_with_the_mean(finished: Path):
    log = (finished / "log.txt").read_text()
    assert "32 pairs to train on, 8 to validate" in log
    assert "epoch 2/2" in log
    for line in read_stats(finished):
        # Latents of unit second moment: predicting the mean costs 1, but for chance over 8 of them.
        assert line["mean_baseline"] == pytest.approx(1.0, abs=0.3)
        assert -1 <= line["val_cosine"] <= 1
        assert line["val_mse"] > 0
    assert len(read_stats(finished)) == 2


def test_encoder_files_know_their_groups_template_and_error(finished: Path):
    encoder, header = load_encoder(finished)
    assert encoder.z_dim == 4
    assert header["groups"] == GROUPS
    assert header["template"] == TEMPLATE
    assert header["license"] == "none"
    best = min(read_stats(finished), key=lambda line: line["val_mse"])
    assert header["epoch"] == best["step"]
    assert header["val_mse"] == pytest.approx(best["val_mse"], abs=1e-4)
    assert header["training_options"]["generator"] == "tiny.safetensors"


def test_reconstructions_show_four_rows_of_every_class(finished: Path):
    with Image.open(finished / "reconstructions.png") as image:
        pixels = np.asarray(image.convert("L"), dtype=float)
    assert pixels.shape[0] >= 4 * 64
    assert pixels.shape[1] >= 4 * 64
    assert pixels.std() > 5


def test_same_seed_same_encoder(options: EncoderOptions, finished: Path, tmp_path: Path):
    again = train_encoder(options, tmp_path, device="cpu", progress=False)
    assert_same_weights(
        weights(again, "encoder-epoch002.safetensors"), weights(finished, "encoder-epoch002.safetensors")
    )


@pytest.mark.parametrize("after", [2, 5])
def test_resume_after_ctrl_c_goes_on_exactly(
    options: EncoderOptions, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
):
    # Four batches an epoch: stop in the first and in the second.
    steps = 0
    adam_step = torch.optim.Adam.step

    def step_and_interrupt(self: torch.optim.Adam, *args: object) -> object:
        nonlocal steps
        steps += 1
        if steps == after:
            os.kill(os.getpid(), signal.SIGINT)
        return adam_step(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", step_and_interrupt)
    run = train_encoder(options, tmp_path, device="cpu", progress=False)
    assert steps == after
    assert "--resume" in (run / "log.txt").read_text()
    assert not (run / "reconstructions.png").exists()

    resume_encoder(run, device="cpu", progress=False)
    assert steps == 8
    assert_same_weights(weights(run, "encoder-epoch002.safetensors"), weights(finished, "encoder-epoch002.safetensors"))
    for line, expected in zip(read_stats(run), read_stats(finished), strict=True):
        assert line["train_loss"] == expected["train_loss"]
        assert line["val_mse"] == expected["val_mse"]


def test_resume_with_more_epochs(options: EncoderOptions, tmp_path: Path):
    run = train_encoder(replace(options, epochs=1), tmp_path, device="cpu", progress=False)
    with pytest.raises(FacegenError, match="all 1 epochs are done"):
        resume_encoder(run, device="cpu", progress=False)
    resume_encoder(run, epochs=2, device="cpu", progress=False)
    assert [line["step"] for line in read_stats(run)] == [1, 2]
    assert json.loads((run / "training_options.json").read_text())["epochs"] == 2


def test_resume_needs_a_run(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        resume_encoder(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"training_options\.json"):
        resume_encoder(tmp_path)
    (tmp_path / "training_options.json").write_text('{"cfg": "tiny", "blocks": [1, 1, 1]}')
    with pytest.raises(FacegenError, match="not the options"):
        resume_encoder(tmp_path)


def test_resume_refuses_a_damaged_state(finished: Path, tmp_path: Path):
    (tmp_path / "training_options.json").write_text((finished / "training_options.json").read_text())
    with pytest.raises(FileNotFoundError, match=r"no encoder-state\.pt"):
        resume_encoder(tmp_path)
    (tmp_path / "encoder-state.pt").write_bytes(b"junk")
    with pytest.raises(FacegenError, match="damaged"):
        resume_encoder(tmp_path)


def test_nan_stops_with_a_clear_line(options: EncoderOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(EncoderObjective, "forward", lambda *args: {"loss": nan * 1})
    with pytest.raises(FacegenError, match=r"the loss became nan in epoch 1, batch 1.*lower --lr") as caught:
        train_encoder(options, tmp_path, device="cpu", progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epochs": 0}, "epochs must be above 0"),
        ({"lr": -1.0}, "lr must be above 0"),
        ({"batch": 1}, "at least 2"),
        ({"pairs": 9}, "no batch of 8"),
        ({"blocks": (9, 9, 9)}, "blocks"),
        ({"input_size": 10}, "at least 75"),
        ({"init": "missing.pt"}, "missing.pt"),
        ({"generator": "missing.safetensors"}, "missing.safetensors"),
    ],
)
def test_impossible_options_leave_no_run_behind(options: EncoderOptions, tmp_path: Path, change: dict, reason: str):
    with pytest.raises((FacegenError, FileNotFoundError), match=reason):
        train_encoder(replace(options, **change), tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


def test_learning_rate_rises_at_the_start_and_falls_in_steps():
    options = EncoderOptions(generator="g", lr=1.0, lr_step=2, lr_decay=0.1)
    assert [options.lr_at(epoch) for epoch in range(5)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [options.lr_at(0, step) for step in (0, 49, 99, 500)] == pytest.approx([0.01, 0.5, 1, 1])


def test_an_encoder_learns_what_a_picture_shows():
    # Pictures that spell z out in flat colors: a dozen steps must beat the mean by far.
    from facegen.networks.encoder import Encoder
    from facegen.training.encoder.pairs import Pairs

    torch.manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(32, 3), dim=1) * 3**0.5
    images = ((z * 60 + 128).clamp(0, 255).to(torch.uint8))[:, :, None, None].expand(-1, -1, 16, 16)
    pairs = Pairs(images, z, torch.zeros(32, dtype=torch.int64))
    data = FaceData(pairs, pairs, torch.zeros(0))
    objective = EncoderObjective(Encoder(3, 16, 75, (0, 0, 0)), torch.nn.Identity(), RECIPES["zmse"], [])
    state = TrainingState(objective, WeightAverage(objective), objective.optimizer(1e-3), Progress())
    options = EncoderOptions(generator="", recipe="zmse", batch=16, epochs=6)
    for epoch in range(6):
        losses = [train_step(state, batch, data, 1e-3) for batch in epoch_batches(32, options, epoch, data)]
    mse = sum(losses) / len(losses)
    # The running averages of batch normalization lag behind so few steps: look at the training error.
    assert mse < 0.3


# -- the command


def test_command_needs_a_generator_or_a_run(tmp_path: Path):
    runner = CliRunner()
    result = runner.invoke(main, ["train-encoder"])
    assert result.exit_code == 2
    assert "--generator" in result.output
    result = runner.invoke(main, ["train-encoder", "--resume", str(tmp_path), "--lr", "0.1"])
    assert result.exit_code == 2
    assert "leave out --lr" in result.output
    result = runner.invoke(main, ["train-encoder", "--generator", "g", "--blocks", "1,2"])
    assert result.exit_code == 2
    assert "5,10,5" in result.output


def test_command_trains_and_stops_on_ctrl_c(generator_file: Path, tmp_path: Path):
    arguments = [sys.executable, "-m", "facegen", "train-encoder"]
    started = subprocess.Popen(
        [
            *arguments,
            *("--generator", str(generator_file), "--outdir", str(tmp_path), "--pairs", "40", "--batch", "8"),
            *(
                "--recipe",
                "zmse",
                "--epochs",
                "1000",
                "--init",
                "none",
                "--blocks",
                "0,0,0",
                "--input-size",
                "75",
                "--device",
                "cpu",
            ),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    run = tmp_path / "00000-encoder-zmse-tiny-40pairs"
    deadline = time.monotonic() + 120
    while not (run / "encoder-epoch001.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 0, output
    assert "stopped; go on with: facegen train-encoder --resume" in output

    result = CliRunner().invoke(main, ["train-encoder", "--resume", str(run), "--epochs", "1", "--device", "cpu"])
    assert result.exit_code == 1
    assert "epochs are done" in result.output


def test_in_bfloat16_where_the_processor_has_it(
    options: EncoderOptions, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def precision(run: Path) -> list[str]:
        return [line for line in (run / "log.txt").read_text().splitlines() if line.startswith("precision: ")]

    assert precision(finished) == ["precision: float32 (this processor has no instructions for bfloat16)"]
    monkeypatch.setenv("FACEGEN_BFLOAT16", "1")
    whole = train_encoder(options, tmp_path, device="cpu", progress=False)
    assert precision(whole) == ["precision: bfloat16 where it pays (this processor has the instructions)"]
    half = train_encoder(replace(options, epochs=1), tmp_path, device="cpu", progress=False)
    resume_encoder(half, epochs=2, device="cpu", progress=False)
    state = torch.load(whole / "encoder-state.pt", weights_only=True)["encoder"]
    assert_same_weights(state, torch.load(half / "encoder-state.pt", weights_only=True)["encoder"])
    assert torch.bfloat16 not in {tensor.dtype for tensor in state.values()}
    single = train_encoder(replace(options, fp32=True), tmp_path, device="cpu", progress=False)
    assert precision(single) == ["precision: float32 (--fp32)"]
    assert_same_weights(
        torch.load(single / "encoder-state.pt", weights_only=True)["encoder"],
        torch.load(finished / "encoder-state.pt", weights_only=True)["encoder"],
    )
    losses = [[line["train_loss"] for line in read_stats(run)] for run in (single, whole)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # a deep network that starts from nothing
