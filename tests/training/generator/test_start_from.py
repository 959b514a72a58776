"""`facegen train --resume FILE` with weights of other classes, resolution or latents: transfer learning."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import small_encoder
from pickle_writers import Persistent, persistent, write_pickle
from trainings import CPU, narrow_options, train, train_whole_and_resumed

from facegen.cli import main as facegen
from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.networks.generator import Generator
from facegen.training.generator import loop
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.state import build_state
from facegen.training.generator.step import train_step
from facegen.training.run.folder import read_options
from facegen.weights.convert import convert
from facegen.weights.header import Header
from facegen.weights.hub_folder import save_pretrained
from facegen.weights.native import load_networks, save_networks

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def unconditional(face_archive, tmp_path_factory):
    """The snapshot of a short run without classes."""
    run = train(face_archive, tmp_path_factory.mktemp("runs"), cond=False, kimg=0.016)
    (path,) = run.glob("*.safetensors")
    return path


def test_classes_start_from_a_network_without_and_learn(face_archive, unconditional, tmp_path):
    options = narrow_options(face_archive, resume=str(unconditional))
    state = build_state(options, FaceArchive(face_archive), CPU)
    old, _ = load_networks(unconditional)
    z, images = torch.randn(3, 16), torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        for k in range(3):
            c = torch.eye(3)[[k] * 3]
            # Rounding alone: pictures and logits are about 1, float32 has seven digits.
            torch.testing.assert_close(
                state.G_ema(z, c, noise_mode="const"), old["G_ema"](z, None, noise_mode="const"), atol=1e-5, rtol=0
            )
            torch.testing.assert_close(state.D(images, c), old["D"].train()(images, None), atol=1e-5, rtol=0)
    columns = state.G.mapping.fc0.weight[:, 16:]
    assert not columns.any()

    for _ in range(3):
        train_step(state, options, CPU)
    assert state.G.mapping.fc0.weight[:, 16:].all()
    with torch.no_grad():
        pictures = [state.G(z, torch.eye(3)[[k] * 3], noise_mode="const") for k in range(3)]
    assert not torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[1], pictures[2])


def test_the_command_prints_what_fitted(face_archive, unconditional, tmp_path, monkeypatch):
    options = narrow_options(face_archive, resume=str(unconditional), kimg=0.02)
    monkeypatch.setattr(TrainOptions, "decide", lambda self, *rest, **more: options)
    command = ["train", "--data", face_archive, "--outdir", tmp_path, "--resume", unconditional]
    result = CliRunner().invoke(facegen, [*map(str, command)])
    assert result.exit_code == 0, result.output
    line = r"starts from     G: copied \d+ of \d+ tensors; adapted: mapping\.fc0\.\*; new: mapping\.embed\.\*\n"
    assert re.search(line, result.output)
    assert re.search(
        r"starts from     D: copied \d+ of \d+ tensors; adapted: b4\.out\.\*; new: mapping\.\*\n", result.output
    )
    (log,) = tmp_path.glob("*/log.txt")
    assert "starts from     G_ema: copied" in log.read_text()


def test_a_generator_alone_is_enough(face_archive, unconditional, tmp_path):
    networks, _ = load_networks(unconditional)
    path = tmp_path / "alone.safetensors"
    save_networks(path, {"G_ema": networks["G_ema"]}, {})
    state = build_state(narrow_options(face_archive, resume=str(path)), FaceArchive(face_archive), CPU)
    assert set(state.started_from) == {"G", "G_ema"}
    const = networks["G_ema"].synthesis.b4.const
    assert torch.equal(state.G.synthesis.b4.const, const)
    assert torch.equal(state.G_ema.synthesis.b4.const, const)


def test_a_network_pickle_of_another_resolution_and_other_classes(face_archive, tmp_path):
    """32x32 and ten classes there, 16x16 and three classes here."""
    options = narrow_options(face_archive, resume=str(GOLDEN / "legacy_tiny.pkl"))
    options = replace(options, channel_base=512, channel_max=32, latent=64)
    state = build_state(options, FaceArchive(face_archive), CPU)
    for name in ("G", "G_ema"):
        report = state.started_from[name]
        assert str(report).endswith("; new: mapping.embed.weight; not used: synthesis.b32.*, mapping.embed.weight")
    assert "b16.conv0.weight" in state.started_from["D"].copied
    train_step(state, options, CPU)


def test_another_width(face_archive, unconditional, tmp_path):
    options = replace(narrow_options(face_archive, resume=str(unconditional)), channel_max=8)
    state = build_state(options, FaceArchive(face_archive), CPU)
    assert "synthesis.b16.torgb.affine.weight" in state.started_from["G"].copied
    assert "synthesis.b4.conv1.weight" in state.started_from["G"].new


@pytest.fixture(scope="module")
def augmented(unconditional, tmp_path_factory):
    """A pickle of stylegan2-ada-pytorch whose training had come to p = 1.375."""
    networks, header = load_networks(unconditional)
    content = {name: persistent(network, header.networks[name]["kwargs"]) for name, network in networks.items()}
    pipe = Persistent("AugmentPipe", {"_parameters": {}, "_modules": {}, "_buffers": {"p": torch.tensor(1.375)}})
    path = tmp_path_factory.mktemp("augmented") / "network-snapshot-000200.pkl"
    path.write_bytes(write_pickle({**content, "augment_pipe": pipe}))
    return path


@pytest.mark.parametrize(
    ("chosen", "p"),
    [({}, 1.375), ({"p": 0.25}, 0.25), ({"p": 0}, 0), ({"aug": "fixed", "p": 0.5}, 0.5), ({"aug": "noaug"}, None)],
)
def test_ada_starts_as_strong_as_it_was(face_archive, augmented, chosen, p):
    options = narrow_options(face_archive, resume=str(augmented), kimg=300, **chosen)
    state = build_state(options, FaceArchive(face_archive), CPU)
    assert (None if state.augment is None else state.augment.probability()) == p


@pytest.mark.parametrize("form", ["pkl", "safetensors"])
def test_strength_and_images_outlive_a_conversion(face_archive, augmented, tmp_path, form):
    path = tmp_path / f"converted.{form}"
    convert(augmented, path)
    state = build_state(narrow_options(face_archive, resume=str(path), kimg=300), FaceArchive(face_archive), CPU)
    assert state.augment.probability() == 1.375
    assert state.images_seen == 200_000


def test_weights_that_say_no_strength_start_at_0(face_archive):
    options = narrow_options(face_archive, resume=str(GOLDEN / "legacy_tiny.pkl"), channel_base=512, latent=64)
    assert build_state(options, FaceArchive(face_archive), CPU).augment.probability() == 0


def test_a_snapshot_of_facegen_says_its_strength_too(face_archive, augmented, tmp_path):
    """Stop with p above 0, start a new run from the snapshot, stop and go on with that: p goes on rising."""
    chosen = {"ada_kimg": 1, "kimg": 200.016, "target": -1}  # p only rises
    first = train(face_archive, tmp_path, resume=str(augmented), **chosen)
    assert read_options(first, TrainOptions).p is None
    assert "starts from     200 kimg, augmentation p 1.375" in (first / "log.txt").read_text()
    assert {path.name for path in first.glob("fakes*")} == {"fakes_init.png", "fakes000200_016.png"}
    (snapshot,) = first.glob("*.safetensors")
    p = torch.load(first / "training-state.pt", weights_only=True)["p"]
    assert p > 1.375
    assert Header.read(snapshot).augment_p == p
    state = build_state(narrow_options(face_archive, resume=str(snapshot), kimg=300), FaceArchive(face_archive), CPU)
    assert state.augment.p == p
    assert state.images_seen == 200_016
    train_whole_and_resumed(face_archive, tmp_path, resume=str(augmented), nkimg=0.008, ada_kimg=1)


@pytest.mark.parametrize(
    ("chosen", "kimg"), [({"kimg": 300}, 200), ({"kimg": 200.5, "nkimg": 200.25}, 200.25), ({"nkimg": 0}, 0)]
)
def test_images_that_weights_have_seen_count(face_archive, augmented, chosen, kimg):
    state = build_state(narrow_options(face_archive, resume=str(augmented), **chosen), FaceArchive(face_archive), CPU)
    assert state.images_seen == 1000 * kimg
    assert state.batches.position == 0


def test_no_run_folder_is_left_when_there_is_nothing_to_start_from(face_archive, unconditional, tmp_path):
    encoder = tmp_path / "encoder.safetensors"
    save_networks(encoder, {"encoder": small_encoder()}, {})
    for weights, changes, words in (
        ("ffhq257", {}, "ffhq257: neither a file"),
        (encoder, {}, "holds encoder, but no generator to start from"),
        (unconditional, {"map_layers": 5}, "2 mapping layers, this run's --cfg needs .* 5 mapping layers"),
    ):
        options = narrow_options(face_archive, resume=str(weights))
        with pytest.raises((FacegenError, FileNotFoundError), match=words):
            loop.train_generator(replace(options, **changes), tmp_path, progress=False)
    assert not (tmp_path / "runs").exists()


def test_a_folder_saved_for_the_hub_is_weights_and_no_run(face_archive, tmp_path):
    G = Generator(128, 0, 128, 16, 3, {"num_layers": 2}, {"channel_base": 128, "channel_max": 16})  # as `tiny` in depth
    save_pretrained({"G_ema": G}, tmp_path / "saved", {})
    command = ["train", "--data", str(face_archive), "--cfg", "tiny", "--resume", str(tmp_path / "saved"), "-n"]
    result = CliRunner().invoke(facegen, command)
    assert result.exit_code == 0, result.output
    assert f'"resume": "{tmp_path / "saved"}"' in result.output
    options = narrow_options(face_archive, resume=str(tmp_path / "saved"), latent=128)
    assert build_state(options, FaceArchive(face_archive), CPU).started_from["G"].copied
