from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.data.archive import ArchiveWriter


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "aged.zip"
    random = np.random.default_rng(0)
    with ArchiveWriter(path, groups=AgeGroups.default()) as writer:
        for age in range(0, 80, 2):
            color = np.full([16, 16, 3], 3 * age) + random.integers(0, 15, [16, 16, 3])
            label = AgeGroups.default().index_of(age)
            writer.add(f"{age}.jpg", Image.fromarray(color.astype(np.uint8)), label=label, age=age)
    return path


SMALL = ("--widths", "8,12", "--depths", "1,1", "--batch", "8", "--device", "cpu")


def test_trains_stops_on_sigterm_and_goes_on(archive: Path, tmp_path: Path):
    arguments = ("--data", str(archive), "--outdir", str(tmp_path), "--arch", "plain", "--half", "second", *SMALL)
    started = subprocess.Popen(
        [sys.executable, "-m", "facegen", "train-age", *arguments, "--kimg", "1000", "--snap", "0.01"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    run = tmp_path / "00000-age-plain-aged-second"
    deadline = time.monotonic() + 300  # seconds; on a busy machine even the imports take a minute
    while not (run / "age-best.safetensors").exists() and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 75, output
    assert "stopped; go on with: facegen train-age --resume" in output

    result = CliRunner().invoke(main, ["train-age", "--resume", str(run), "--kimg", "0.008", "--device", "cpu"])
    assert result.exit_code == 1
    assert "kimg are done" in result.output

    result = CliRunner().invoke(main, ["info", str(run)])
    assert result.exit_code == 0, result.output
    assert "AgeEstimator, plain of widths [8, 12], input 64x64" in result.output
    assert "which half   second" in result.output
    assert "MAE " in result.output
    assert "float16" in result.output

    result = CliRunner().invoke(main, ["runs", str(tmp_path)])
    assert "age estimator, plain, second half" in result.output


def test_needs_data_or_a_run(tmp_path: Path):
    result = CliRunner().invoke(main, ["train-age"])
    assert result.exit_code == 2
    assert "give --data ARCHIVE, or --resume RUN" in result.output
    result = CliRunner().invoke(main, ["train-age", "--resume", str(tmp_path), "--lr", "0.1", "--license", "mine"])
    assert result.exit_code == 2
    assert "leave out --license, --lr" in result.output
    result = CliRunner().invoke(main, ["train-age", "--data", "d", "--widths", "eight"])
    assert result.exit_code == 2
    assert "whole numbers" in result.output
    result = CliRunner().invoke(main, ["train-age", "--data", "d", "--arch", "vgg"])
    assert result.exit_code == 2


def test_an_archive_without_ages_is_one_clear_line(tmp_path: Path):
    with ArchiveWriter(tmp_path / "labels.zip", groups=AgeGroups.default()) as writer:
        for _ in range(3):
            writer.add("face.jpg", Image.new("RGB", (16, 16)), label=3)
    result = CliRunner().invoke(main, ["train-age", "--data", str(tmp_path / "labels.zip"), "--outdir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.strip().splitlines()[-1].startswith("Error: ")
    assert "no exact ages" in result.output
    assert not list(tmp_path.glob("0*"))
