"""`facegen metrics` as a command."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from facegen.cli import main as facegen
from facegen.metrics import features
from facegen.weights.native import save_networks


@pytest.fixture
def network(generator, tmp_path):
    path = tmp_path / "G.safetensors"
    save_networks(path, {"G_ema": generator}, {})
    return path


@pytest.fixture
def judges(detectors, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "facegen.metrics.run.load_detectors", lambda metrics, **kwargs: (given.update(kwargs), detectors)[1]
    )
    return given


def run(*arguments):
    return CliRunner().invoke(facegen, ["metrics", *map(str, arguments)])


def test_prints_and_writes_numbers(network, faces, tmp_path, judges):
    file = tmp_path / "numbers.json"
    result = run("--network", network, "--data", faces, "--metrics", "fid20_full,pr203_full", "--per-group",
                 "--inception", "weights.pth", "--json", file, "--device", "cpu")  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads(file.read_text())
    assert content["results"]["fid20_full/0-20"] > 0
    assert content["results"]["pr203_full_recall/61+"] is None
    assert re.search(r"pr203_full_recall/61\+ +too few real faces", result.output)
    assert f"{content['results']['fid20_full']:.6g}" in result.output
    assert judges["inception"] == "weights.pth"


def test_numbers_of_a_run_are_noted_in_its_folder(network, faces, tmp_path, judges):
    folder = tmp_path / "00000-faces"
    folder.mkdir()
    snapshot = folder / "network-snapshot-000001.safetensors"
    snapshot.write_bytes(network.read_bytes())
    line = ["--data", faces, "--metrics", "fid20_full"]
    assert run("--network", snapshot, *line).exit_code == 0
    assert [path.name for path in folder.iterdir()] == [snapshot.name]  # no run folder: nothing is written
    (folder / "training_options.json").write_text("{}", encoding="utf-8")
    assert run("--network", snapshot, *line).exit_code == 0
    (noted,) = (folder / "metric-fid20_full.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(noted)["snapshot_pkl"] == snapshot.name
    assert json.loads(noted)["results"].keys() == {"fid20_full"}


def test_offline_without_the_file_is_one_line(network, faces):
    pytest.importorskip("torch_fidelity")
    result = run("--network", network, "--data", faces, "--metrics", "fid5k")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert features.INCEPTION_URL in line
    assert "--inception FILE" in line


def test_mistakes(network, faces, judges, tmp_path):
    for arguments, words in (
        (["--metrics", "fod5"], "unknown metric 'fod5'"),
        (["--metrics", "none"], "names none"),
        (["--metrics", "fid5", "--batch", "0"], "batch"),
        (["--metrics", "fid5", "--device", "tpu9"], "tpu9"),
    ):
        result = run("--network", network, "--data", faces, *arguments)
        assert result.exit_code in (1, 2)
        assert words in result.output
    result = run("--network", network, "--data", tmp_path / "none.zip", "--metrics", "fid5")
    assert result.exit_code == 1
    assert "none.zip" in result.output
