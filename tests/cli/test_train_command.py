"""`facegen train` on the command line, where no network is needed for it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from facegen.cli import main
from facegen.data.archive import ArchiveWriter
from facegen.images import encode_png
from facegen.training.generator.options import TrainOptions


def test_dry_run_of_a_resume_prints_that_runs_options_and_touches_nothing(tmp_path):
    options = TrainOptions("faces.zip", cfg="tiny", gamma=3).decide(64)
    path = tmp_path / "training_options.json"
    path.write_text(json.dumps(options.to_json()))
    result = CliRunner().invoke(main, ["train", "--resume", str(tmp_path), "--kimg", "7", "-n"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == options.to_json() | {"kimg": 7}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert json.loads(path.read_text())["kimg"] == options.kimg


def test_dry_run_of_a_resume_names_a_folder_that_is_no_run(tmp_path):
    result = CliRunner().invoke(main, ["train", "--resume", str(tmp_path), "-n"])
    assert result.exit_code == 1
    assert "is no run folder" in result.output


@pytest.fixture
def gendered(tmp_path):
    """Two gray pictures of which the genders are known."""
    path = tmp_path / "gendered.zip"
    with ArchiveWriter(path) as writer:
        for gender in ("female", "male"):
            writer.add_png("a.png", encode_png(Image.new("L", (16, 16))), gender=gender)
    return path


def test_dry_run_prints_even(gendered):
    result = CliRunner().invoke(main, ["train", "--data", str(gendered), "--even", "gender", "-n"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["even"] == "gender"
    assert json.loads(CliRunner().invoke(main, ["train", "--data", str(gendered), "-n"]).output)["even"] is None


@pytest.mark.parametrize("rest", [["-n"], ["--gpus", "2"], []])
def test_an_attribute_that_the_data_lacks_gets_one_line_before_anything_starts(gendered, tmp_path, rest):
    command = ["train", "--data", str(gendered), "--even", "race", "--outdir", str(tmp_path / "runs"), *rest]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert result.output == (f"Error: {gendered}: facegen.json keeps no attribute 'race' of faces; it keeps gender\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--batch", "7"], "batch must be a multiple of 4"),
        (["--batch", "16", "--gpus", "3"], "a batch of 16 cannot be shared by 3 processes"),
    ],
)
def test_a_batch_that_cannot_be_resumed_with_is_refused_once(tmp_path, given, message):
    options = TrainOptions("faces.zip").decide(64)
    (tmp_path / "training_options.json").write_text(json.dumps(options.to_json()))
    for more in ([], ["-n"]):
        result = CliRunner().invoke(main, ["train", "--resume", str(tmp_path), *given, *more])
        assert result.exit_code == 1
        assert message in result.output
    shown = CliRunner().invoke(main, ["train", "--resume", str(tmp_path), "--batch", "8", "-n"])
    assert json.loads(shown.output)["batch"] == 8
