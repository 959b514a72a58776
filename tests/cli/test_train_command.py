"""`facegen train` on the command line, where no network is needed for it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from facegen.cli import main
from facegen.data.archive import ArchiveWriter
from facegen.images import encode_png


@pytest.fixture
def gendered(tmp_path):
    """Two gray pictures of which the genders are known."""
    path = tmp_path / "gendered.zip"
    with ArchiveWriter(path) as writer:
        for gender in ("female", "male"):
            writer.add_png("a.png", encode_png(Image.new("L", (16, 16))), gender=gender)
    return path


def test_dry_run_prints_even(gendered):
    result = CliRunner().invoke(main, ["train", "--data", str(gendered), "--cond=0", "--even", "gender", "-n"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["even"] == "gender"
    assert (
        json.loads(CliRunner().invoke(main, ["train", "--data", str(gendered), "--cond=0", "-n"]).output)["even"]
        is None
    )


@pytest.mark.parametrize("rest", [["-n"], ["--gpus", "2"], []])
def test_an_attribute_that_the_data_lacks_gets_one_line_before_anything_starts(gendered, tmp_path, rest):
    command = [
        "train",
        "--data",
        str(gendered),
        "--cond=0",
        "--even",
        "race",
        "--outdir",
        str(tmp_path / "runs"),
        *rest,
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert result.output == (f"Error: {gendered}: facegen.json keeps no attribute 'race' of faces; it keeps gender\n")
    assert not (tmp_path / "runs").exists()
