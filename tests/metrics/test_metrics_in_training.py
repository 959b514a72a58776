"""`facegen train --metrics`: numbers at snapshots, and nothing else changed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from random_judges import compute, random_detectors

from facegen.cli import main as facegen
from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.metrics.features import INCEPTION_URL
from facegen.training.generator import loop, measure
from facegen.training.generator.options import resolve_options
from facegen.training.run.folder import read_stats
from facegen.training.run.snapshots import read_metrics
from facegen.weights.load import load_generator
from facegen.weights.native import load_networks

NAMES = "fid20_full,is20"


@pytest.fixture
def options(faces, tmp_path):
    chosen = {"cfg": "tiny", "batch": 4, "kimg": 0.032, "tick": 0.008, "snap": 2, "aug": "noaug"}
    found = resolve_options(data=str(faces), outdir=str(tmp_path / "runs"), resolution=16, metrics=NAMES, **chosen)
    return replace(found, channel_base=128, channel_max=16, latent=16)


@pytest.fixture
def judges(detectors, monkeypatch):
    """The random networks instead of those that would be downloaded."""
    monkeypatch.setattr(measure, "load_detectors", lambda metrics, **kwargs: detectors)


def test_numbers_are_everywhere(options, judges):
    run = loop.train_generator(options, progress=False)
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


def test_the_training_is_the_same_to_the_bit(options, judges):
    with_metrics = loop.train_generator(options, progress=False)
    without = loop.train_generator(replace(options, metrics="none"), progress=False)
    (first, _), (second, _) = (
        load_networks(run / "network-snapshot-000000.safetensors") for run in (with_metrics, without)
    )
    for name in ("G", "D", "G_ema"):
        one, two = first[name].state_dict(), second[name].state_dict()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert not list(without.glob("metric*"))


def test_what_is_missing_is_told_before_anything_is_made(options):
    pytest.importorskip("torch_fidelity")
    with pytest.raises(FacegenError, match="--inception FILE") as error:
        loop.train_generator(options, progress=False)
    assert INCEPTION_URL in str(error.value)
    assert not Path(options.outdir).exists()


def test_a_resumed_run_may_measure_something_else(options, judges):
    run = loop.train_generator(options, progress=False)
    loop.resume_generator(run, kimg=0.064, metrics="kid20_full", progress=False)
    assert len((run / "metric-kid20_full.jsonl").read_text().splitlines()) == 2
    assert len((run / "metric-fid20_full.jsonl").read_text().splitlines()) == 2


def test_memory_that_runs_out_costs_only_the_numbers(options, judges, monkeypatch):
    def fail(self, generator):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measure.Evaluator, "measure", fail)
    run = loop.train_generator(options, progress=False)
    assert "out of memory while measuring" in (run / "log.txt").read_text()
    assert "finished" in (run / "log.txt").read_text()


def test_unknown_metric_on_the_command_line(faces, tmp_path):
    for extra in ([], ["--dry-run"]):
        arguments = ["train", "--data", str(faces), "--outdir", str(tmp_path / "r"), "--metrics", "fod5", *extra]
        result = CliRunner().invoke(facegen, arguments)
        assert result.exit_code == 1
        assert result.output.startswith("Error: unknown metric 'fod5'")
        assert list(tmp_path.iterdir()) == []


def test_two_processes_share_the_pictures(faces, tmp_path):
    names = "fid70_full,pr703_full,is70,ppl2_wend40"
    script = Path(__file__).with_name("random_judges.py")
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    result = subprocess.run(
        [*starter, str(faces), str(tmp_path / "runs"), names], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "runs").iterdir()
    alone = compute(load_generator(run)[0], FaceArchive(faces), names, detectors=random_detectors())
    found = {}
    for name in names.split(","):
        (line,) = map(json.loads, (run / f"metric-{name}.jsonl").read_text().splitlines())
        assert line["num_gpus"] == 2
        found |= line["results"]
    # The snapshot's weights are those that were measured, so the numbers come again to the last digits.
    assert found == pytest.approx(alone, rel=1e-6)
