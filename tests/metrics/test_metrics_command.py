"""`facegen metrics` as a command."""

from __future__ import annotations

import json
import re

import pytest
import torch
from click.testing import CliRunner
from pickle_writers import persistent, write_pickle

from facegen.cli import main as facegen
from facegen.metrics import evaluate, features
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


def test_tensorfloat_is_off(network, faces, judges, monkeypatch):
    """`ppl2_wend` divides by 1e-8: what TF32 rounds away is no part of a path's length."""
    seen = []

    def spied(work):
        return lambda *rest, **more: (seen.append(torch.backends.cudnn.allow_tf32), work(*rest, **more))[1]

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(evaluate, "real_features", spied(evaluate.real_features))
    monkeypatch.setattr(evaluate.Evaluator, "_measure", spied(evaluate.Evaluator._measure))
    assert run("--network", network, "--data", faces, "--metrics", "fid20_full", "--device", "cpu").exit_code == 0
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32


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


@pytest.fixture
def pickle_of(generator, tmp_path):
    """A function (folder, kwargs) -> a pickle of stylegan2-ada-pytorch in that folder, with its data's options."""

    def write(folder, **training_set):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "network-snapshot-000200.pkl"
        record = persistent(generator, generator.init_kwargs)
        path.write_bytes(write_pickle({"G_ema": record, "training_set_kwargs": training_set}))
        return path

    return write


def test_what_it_was_trained_on_is_looked_up(pickle_of, faces, tmp_path, judges):
    """In the pickle, or in the run folder that it lies in, which its newest one stands for."""
    pickle = pickle_of("alone", path=str(faces), xflip=True)
    run_folder = pickle_of("00000-faces", path="C:/gone.zip").parent
    options = {"training_set_kwargs": {"path": str(faces), "xflip": True, "use_labels": True}}
    (run_folder / "training_options.json").write_text(json.dumps(options), encoding="utf-8")
    flipped = run("--network", pickle, "--data", faces, "--metrics", "fid20", "--mirror")
    for network in (pickle, run_folder):
        result = run("--network", network, "--metrics", "fid20")
        assert result.exit_code == 0, result.output
        assert result.stdout == flipped.stdout
        assert f"--data {faces} --mirror\n" in result.stderr
    assert (run_folder / "metric-fid20.jsonl").is_file()
    plain = run("--network", pickle, "--metrics", "fid20", "--mirror", "false", "--verbose", "false")
    assert plain.stdout not in ("", flipped.stdout)
    assert len(plain.stderr.splitlines()) == 1  # no bars
    assert plain.stdout == run("--network", pickle, "--data", faces, "--metrics", "fid20").stdout


def test_snapshots_say_it_too(generator, faces, tmp_path, judges):
    path = tmp_path / "G.safetensors"
    save_networks(path, {"G_ema": generator}, {"training_options": {"data": str(faces), "mirror": False}})
    result = run("--network", path, "--metrics", "fid20")
    assert result.exit_code == 0
    assert f"--data {faces}\n" in result.stderr


@pytest.mark.parametrize("path", ["C:/old/faces.zip", "//elsewhere/faces.zip", None])
def test_data_that_is_gone_is_named(pickle_of, path, judges):
    result = run("--network", pickle_of("alone", path=path), "--metrics", "fid20")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "--data" in line
    assert path is None or path in line


def test_several_gpus_share_the_work(network, faces, monkeypatch):
    started = []
    monkeypatch.setattr("facegen.training.run.launch.launch", lambda line, gpus: started.append((line, gpus)) or 0)
    assert run("--pkl", network, "--data", faces, "--metrics", "is5", "--gpus", 2, "--mirror=1").exit_code == 0
    ((line, gpus),) = started
    assert gpus == 2
    assert line[0] == "metrics"
    assert {"--metrics=is5", f"--data={faces}", "--mirror=True"} < set(line)


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
        (["--metrics", "none"], "is empty"),
        (["--metrics", "fid5", "--batch", "0"], "batch"),
        (["--metrics", "fid5", "--device", "tpu9"], "tpu9"),
    ):
        result = run("--network", network, "--data", faces, *arguments)
        assert result.exit_code in (1, 2)
        assert words in result.output
    result = run("--network", network, "--data", tmp_path / "none.zip", "--metrics", "fid5")
    assert result.exit_code == 1
    assert "none.zip" in result.output
