"""`facegen train` on the command line, where no network is needed for it."""

from __future__ import annotations

import json

from click.testing import CliRunner

from facegen.cli import main
from facegen.training.options import resolve_options


def test_dry_run_of_a_resume_prints_that_runs_options_and_touches_nothing(tmp_path):
    options = resolve_options(data="faces.zip", outdir="runs", resolution=64, cfg="tiny", gamma=3)
    path = tmp_path / "training_options.json"
    path.write_text(json.dumps(options.to_dict()))
    result = CliRunner().invoke(main, ["train", "--resume", str(tmp_path), "--kimg", "7", "-n"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == options.to_dict() | {"kimg": 7}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert json.loads(path.read_text())["kimg"] == options.kimg


def test_dry_run_of_a_resume_names_a_folder_that_is_no_run(tmp_path):
    result = CliRunner().invoke(main, ["train", "--resume", str(tmp_path), "-n"])
    assert result.exit_code == 1
    assert "is no run folder" in result.output
