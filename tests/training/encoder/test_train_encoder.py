from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small_generator
from PIL import Image
from refusals import assert_refused
from trainings import SHALLOW

from facegen.networks.encoder import Encoder
from facegen.training.encoder.data import FaceData, epoch_batches
from facegen.training.encoder.loop import Progress, TrainingState, train_encoder, train_step
from facegen.training.encoder.objective import EncoderObjective
from facegen.training.encoder.options import EncoderOptions
from facegen.training.encoder.pairs import Pairs
from facegen.training.encoder.recipes import RECIPES
from facegen.training.encoder.weight_average import WeightAverage
from facegen.training.run.folder import read_stats
from facegen.weights.convert import convert
from facegen.weights.load import load_encoder, load_generator
from facegen.weights.native import save_networks
from facegen.weights.trained_for import fingerprint

GROUPS = ["0-20", "21-40", "41-60", "61-"]
TEMPLATE = [[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]]


@pytest.fixture(scope="module")
def generator_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generator") / "tiny.safetensors"
    metadata = {"groups": GROUPS, "template": TEMPLATE, "license": "none", "resolution": 16}
    save_networks(path, {"G_ema": small_generator(4, z_dim=4)}, metadata)
    return path


@pytest.fixture(scope="module")
def options(generator_file: Path) -> EncoderOptions:
    return EncoderOptions(str(generator_file), recipe="zmse", pairs=20, batch=8, **SHALLOW)


@pytest.fixture(scope="module")
def finished(options: EncoderOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_encoder(options, tmp_path_factory.mktemp("runs"), device="cpu", progress=False)


def test_who_watches_is_told_of_every_epoch_and_nothing_is_printed(options: EncoderOptions, tmp_path: Path, capfd):
    epochs = []
    train_encoder(options, tmp_path, device="cpu", watch=lambda run: epochs.append(read_stats(run)[-1]["step"]))
    assert epochs == [1, 2, 2]  # and of the reconstructions at the end
    assert capfd.readouterr() == ("", "")


def test_log_and_statistics_compare_with_the_mean(finished: Path):
    assert finished.name == "00000-encoder-zmse-tiny-20pairs"
    log = (finished / "log.txt").read_text()
    assert "16 pairs to train on, 4 to validate" in log
    assert "epoch 2/2" in log
    for line in read_stats(finished):
        # Latents of unit second moment: predicting the mean costs 1, but for chance over 4 of them.
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


def test_the_encoders_file_names_its_generator(finished: Path, generator_file: Path):
    _, header = load_encoder(finished)
    generator, _ = load_generator(generator_file)
    assert header["trained_for"] == {"generator": "tiny.safetensors", "sha256": fingerprint(generator)}


def test_a_run_goes_on_with_no_other_generator(finished: Path, options: EncoderOptions, tmp_path: Path):
    """The file may move, and its format may be another; a file that was overwritten is noticed."""
    run, generator = tmp_path / finished.name, small_generator(4, z_dim=4)
    shutil.copytree(finished, run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    torch.nn.init.normal_(generator.synthesis.b4.const)
    save_networks(tmp_path / "tiny.safetensors", {"G_ema": generator.requires_grad_(False)}, {"groups": GROUPS})
    changed = replace(options, generator=str(tmp_path / "tiny.safetensors"), epochs=3)
    assert_refused("not the generator that", train_encoder, changed, resume=run, device="cpu", progress=False)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    convert(options.generator, tmp_path / "tiny.pkl")
    moved = replace(options, generator=str(tmp_path / "tiny.pkl"), epochs=3)
    train_encoder(moved, resume=run, device="cpu", progress=False)
    assert "epoch 3/3" in (run / "log.txt").read_text()


def test_reconstructions_show_four_rows_of_every_class(finished: Path):
    with Image.open(finished / "reconstructions.png") as image:
        pixels = np.asarray(image.convert("L"), dtype=float)
    assert pixels.shape[0] >= 4 * 64
    assert pixels.shape[1] >= 4 * 64
    assert pixels.std() > 5


def test_learning_rate_rises_at_the_start_and_falls_in_steps():
    options = EncoderOptions(generator="g", lr=1.0, lr_step=2, lr_decay=0.1)
    assert [options.lr_at(epoch) for epoch in range(5)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [options.lr_at(0, step) for step in (0, 49, 99, 500)] == pytest.approx([0.01, 0.5, 1, 1])


def test_an_encoder_learns_what_a_picture_shows():
    # Pictures that spell z out in flat colors: a dozen steps must beat the mean by far.
    torch.manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(16, 3), dim=1) * 3**0.5
    images = ((z * 60 + 128).clamp(0, 255).to(torch.uint8))[:, :, None, None].expand(-1, -1, 16, 16)
    pairs = Pairs(images, z, torch.zeros(16, dtype=torch.int64))
    data = FaceData(pairs, pairs, torch.zeros(0))
    objective = EncoderObjective(Encoder(3, 16, 75, (0, 0, 0)), torch.nn.Identity(), RECIPES["zmse"], [])
    state = TrainingState(objective, WeightAverage(objective), objective.optimizer(1e-3), Progress())
    options = EncoderOptions(generator="", recipe="zmse", batch=8, epochs=6)
    for epoch in range(6):
        losses = [train_step(state, batch, data, 1e-3) for batch in epoch_batches(16, options, epoch, data)]
    mse = sum(losses) / len(losses)
    # The running averages of batch normalization lag behind so few steps: look at the training error.
    assert mse < 0.3
