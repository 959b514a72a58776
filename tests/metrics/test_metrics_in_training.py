"""`facegen train --metrics`: numbers at snapshots, and nothing else changed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from trainings import assert_same_weights, go_on, narrow_options

from facegen.cli import main as facegen
from facegen.errors import FacegenError
from facegen.metrics.features import INCEPTION_URL
from facegen.training.generator import loop, measure
from facegen.training.run.folder import read_stats
from facegen.training.run.snapshots import read_metrics

NAMES = "fid20_full,is20"


@pytest.fixture
def options(faces):
    return narrow_options(faces, metrics=NAMES, aug="noaug")


@pytest.fixture
def judges(detectors, monkeypatch):
    """The random networks instead of those that would be downloaded."""
    monkeypatch.setattr(measure, "load_detectors", lambda metrics, **kwargs: detectors)


def test_numbers_are_everywhere_and_the_weights_the_same(options, judges, tmp_path):
    run = loop.train_generator(options, tmp_path, progress=False)
    lines = [line for line in read_stats(run) if "Metrics/fid20_full" in line]
    assert [line["step"] for line in lines] == pytest.approx([0.016, 0.032])
    family = [json.loads(line) for line in (run / "metric-fid20_full.jsonl").read_text().splitlines()]
    assert [line["results"]["fid20_full"] for line in family] == [line["Metrics/fid20_full"] for line in lines]
    assert family[0]["metric"] == "fid20_full"
    assert (run / family[1]["snapshot_pkl"]).exists()
    assert set(json.loads((run / "metric-is20.jsonl").read_text().splitlines()[0])["results"]) == {
        "is20_mean",
        "is20_std",
    }
    assert read_metrics(run)[-1]["fid20_full"] == lines[1]["Metrics/fid20_full"]
    assert json.loads((run / "best.json").read_text())["metric"] == "fid20_full"
    assert "fid20_full" in (run / "log.txt").read_text()
    without = loop.train_generator(replace(options, metrics="none"), tmp_path, progress=False)
    assert_same_weights(run, without)
    assert not list(without.glob("metric*"))


def test_what_is_missing_is_told_before_anything_is_made(options, tmp_path):
    pytest.importorskip("torch_fidelity")
    with pytest.raises(FacegenError, match="--inception FILE") as error:
        loop.train_generator(options, tmp_path, progress=False)
    assert INCEPTION_URL in str(error.value)
    assert not list(tmp_path.glob("0*"))


def test_a_resumed_run_may_measure_something_else(options, judges, tmp_path):
    run = loop.train_generator(options, tmp_path, progress=False)
    go_on(run, kimg=0.064, metrics="kid20_full")
    assert len((run / "metric-kid20_full.jsonl").read_text().splitlines()) == 2
    assert len((run / "metric-fid20_full.jsonl").read_text().splitlines()) == 2


def test_memory_that_runs_out_costs_only_the_numbers(options, judges, tmp_path, monkeypatch):
    def fail(self, generator):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measure.Evaluator, "measure", fail)
    run = loop.train_generator(options, tmp_path, progress=False)
    assert "out of memory while measuring" in (run / "log.txt").read_text()
    assert "finished" in (run / "log.txt").read_text()


def test_unknown_metric_on_the_command_line(faces, tmp_path):
    for extra in ([], ["--dry-run"]):
        arguments = ["train", "--data", str(faces), "--outdir", str(tmp_path / "r"), "--metrics", "fod5", *extra]
        result = CliRunner().invoke(facegen, arguments)
        assert result.exit_code == 1
        assert result.output.startswith("Error: unknown metric 'fod5'")
        assert list(tmp_path.iterdir()) == []
