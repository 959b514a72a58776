"""Encoders go with the generator that they were trained for, and with no other of its sizes."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import HOPPER, small_encoder, small_estimator, small_generator
from refusals import assert_refused

from facegen.ages import AgeGroups
from facegen.aging.transfer import AgeTransfer
from facegen.cli import main
from facegen.evaluation.run import SystemSpec, run_evaluation
from facegen.networks.generator import Generator
from facegen.weights import locate
from facegen.weights.convert import convert
from facegen.weights.load import load_generator
from facegen.weights.native import load_networks, save_networks
from facegen.weights.trained_for import ENTRY, fingerprint, name_generator

SNAPSHOT = "network-snapshot-000008.safetensors"
HEADER = {"groups": AgeGroups.default().labels}


def generator(seed: int) -> Generator:
    """Of the same sizes for every seed."""
    network = small_generator(10)
    torch.manual_seed(seed)
    torch.nn.init.normal_(network.mapping.embed.weight)
    return network.requires_grad_(False)


@dataclass
class Weights:
    packaged: Path
    generator: Path
    encoder: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks in the package, and a generator's and an encoder's run in `runs`, all of the same sizes."""
    folder = tmp_path_factory.mktemp("networks")
    packaged, mine, encoder = (folder / name for name in ("packaged", "runs/00000-mine", "runs/00001-encoder"))
    for made in (packaged, mine, encoder):
        made.mkdir(parents=True)
    save_networks(packaged / "generator.safetensors", {"G_ema": generator(1)}, HEADER)
    save_networks(packaged / "encoder.safetensors", {"encoder": small_encoder()}, HEADER)
    save_networks(packaged / "age.safetensors", {"age": small_estimator()}, {})
    (mine / "training_options.json").write_text("{}")
    snapshot = mine / SNAPSHOT
    save_networks(snapshot, {"G_ema": generator(2)}, HEADER)
    entry = {ENTRY: name_generator(generator(2), snapshot)}
    best = encoder / "encoder-best.safetensors"
    save_networks(best, {"encoder": small_encoder(target="w+")}, {**HEADER, **entry})
    return folder


@pytest.fixture
def weights(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Those files in a folder of their own."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path / "packaged")
    mine, encoder = tmp_path / "runs/00000-mine", tmp_path / "runs/00001-encoder"
    (encoder / "training_options.json").write_text(json.dumps({"generator": str(mine / SNAPSHOT)}))
    return Weights(tmp_path / "packaged", mine / SNAPSHOT, encoder / "encoder-best.safetensors")


def chosen(*files: Path | None) -> str:
    """The generator that goes with these files, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fingerprint(AgeTransfer.from_files(*files, device="cpu").generator)


MINE, PACKAGED = fingerprint(generator(2)), fingerprint(generator(1))


def test_a_fingerprint_knows_one_generator_in_every_format(tmp_path: Path):
    network = generator(2)
    save_networks(tmp_path / "g.safetensors", {"G_ema": network}, HEADER)
    save_networks(tmp_path / "half.safetensors", {"G_ema": network}, HEADER, dtype=torch.float16)
    convert(tmp_path / "g.safetensors", tmp_path / "g.pkl")
    convert(tmp_path / "g.pkl", tmp_path / "again.safetensors")
    torch.save(network.state_dict(), tmp_path / "g.pt")
    network.mapping.w_avg.normal_()  # truncation's mean, which the encoder does not know
    save_networks(tmp_path / "mean.safetensors", {"G_ema": network}, HEADER)
    for name in ("g.safetensors", "half.safetensors", "g.pkl", "again.safetensors", "g.pt", "mean.safetensors"):
        assert fingerprint(load_generator(tmp_path / name)[0]) == MINE, name
    convert(tmp_path / "half.safetensors", tmp_path / "half.pkl")
    assert fingerprint(load_generator(tmp_path / "half.pkl")[0]) == MINE


@pytest.mark.parametrize("name", ["mapping.fc0.weight", "synthesis.b4.const", "synthesis.b16.torgb.bias"])
def test_a_fingerprint_tells_generators_apart(name: str):
    network = generator(2)
    network.get_parameter(name).flatten()[0] += 1
    assert fingerprint(network) not in (MINE, PACKAGED)


def test_the_networks_in_the_package_go_together(weights: Weights, tmp_path: Path):
    assert chosen(None, None) == PACKAGED
    convert(weights.packaged / "generator.safetensors", tmp_path / "g.pkl")
    shutil.copy(weights.packaged / "encoder.safetensors", tmp_path / "copy.safetensors")
    assert chosen(tmp_path / "g.pkl", None) == chosen(None, tmp_path / "copy.safetensors") == PACKAGED


def test_an_encoder_alone_takes_its_own_generator(weights: Weights, tmp_path: Path):
    # Later snapshots are other generators.
    save_networks(weights.generator.parent / "network-snapshot-000016.safetensors", {"G_ema": generator(3)}, HEADER)
    assert chosen(None, weights.encoder) == chosen(None, weights.encoder.parent) == MINE
    moved = tmp_path / "elsewhere"
    shutil.move(weights.generator.parents[1], moved)
    assert chosen(None, moved / "00001-encoder") == MINE
    for file in ("00000-mine/network-snapshot-000008.safetensors", "00001-encoder/encoder-best.safetensors"):
        (tmp_path / "both").mkdir(exist_ok=True)
        shutil.move(moved / file, tmp_path / "both")
    assert chosen(None, tmp_path / "both/encoder-best.safetensors") == MINE
    (tmp_path / "both/network-snapshot-000008.safetensors").unlink()
    lost = tmp_path / "both/encoder-best.safetensors"
    assert "00000-mine/network-snapshot-000008" in assert_refused("give it with --network", chosen, None, lost)


def test_an_encoder_for_the_packages_generator_takes_that(weights: Weights, tmp_path: Path):
    path = weights.packaged / "generator.safetensors"
    metadata = {**HEADER, ENTRY: name_generator(generator(1), path)}
    save_networks(tmp_path / "e.safetensors", {"encoder": small_encoder()}, metadata)
    assert chosen(None, tmp_path / "e.safetensors") == PACKAGED


def test_a_file_in_the_generators_place_that_is_another(weights: Weights):
    save_networks(weights.generator, {"G_ema": generator(3)}, HEADER)
    assert_refused("is not found", chosen, None, weights.encoder)


def test_another_generator_of_the_same_sizes_is_refused(weights: Weights, tmp_path: Path):
    other = weights.packaged / "generator.safetensors"
    assert_refused("--encoder", chosen, weights.generator, None)
    assert_refused("--encoder", chosen, weights.generator.parent, None)
    text = assert_refused("--network", chosen, other, weights.encoder)
    assert "00000-mine/network-snapshot-000008.safetensors" in text
    convert(weights.generator, tmp_path / "mine.pkl")
    assert chosen(tmp_path / "mine.pkl", weights.encoder) == MINE


def test_a_tuned_generator_belongs_and_so_does_that_of_before(weights: Weights, tmp_path: Path):
    tuned, metadata = generator(5), {**HEADER, ENTRY: name_generator(generator(2), weights.generator)}
    path = tmp_path / "tuned.safetensors"
    save_networks(path, {"encoder": small_encoder(), "G_ema": tuned}, metadata)
    convert(path, tmp_path / "tuned.pkl", network="generator")
    assert chosen(None, path) == chosen(path, path) == chosen(tmp_path / "tuned.pkl", path) == fingerprint(tuned)
    assert chosen(weights.generator, path) == MINE
    assert_refused("--network", chosen, weights.packaged / "generator.safetensors", path)


@pytest.mark.parametrize("entry", [{}, {ENTRY: 5}, {ENTRY: {"generator": "g"}}, {ENTRY: {"generator": 1, "sha256": 2}}])
def test_files_of_the_version_before_are_paired_by_size_with_a_warning(weights: Weights, tmp_path: Path, entry: dict):
    old = weights.encoder.parent / "old.safetensors"
    save_networks(old, {"encoder": small_encoder(target="w+")}, {**HEADER, **entry})
    shutil.copy(old, tmp_path / "alone.safetensors")
    packaged = weights.packaged / "generator.safetensors"
    for files, expected in (
        ((None, old), MINE),  # as its run's options say
        ((None, tmp_path / "alone.safetensors"), PACKAGED),
        ((packaged, old), PACKAGED),
    ):
        with pytest.warns(UserWarning, match="only sizes") as found:
            assert fingerprint(AgeTransfer.from_files(*files, device="cpu").generator) == expected
        assert len(found) == 1


def test_converted_encoders_keep_their_generators_name(weights: Weights, tmp_path: Path):
    convert(weights.encoder, tmp_path / "e.safetensors")
    _, header = load_networks(tmp_path / "e.safetensors")
    assert header[ENTRY] == {"generator": "00000-mine/network-snapshot-000008.safetensors", "sha256": MINE}
    assert chosen(weights.generator, tmp_path / "e.safetensors") == MINE


def test_the_commands_refuse_in_one_line(weights: Weights, tmp_path: Path):
    """Before any photo is read or any folder is made."""
    for command in (["transfer", HOPPER], ["evaluate", "--photos", HOPPER.parent]):
        arguments = [*command, "--network", weights.generator.parent, "--outdir", tmp_path / "out"]
        result = CliRunner().invoke(main, list(map(str, arguments)))
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {weights.generator.parent}: ")
        assert "--encoder" in result.output
        assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_every_row_of_an_evaluation_is_checked(weights: Weights, tmp_path: Path):
    rows = [SystemSpec("mine", weights.encoder), SystemSpec("packaged")]
    assert_refused("--encoder", run_evaluation, HOPPER.parent, tmp_path / "out", rows, generator=weights.generator)
