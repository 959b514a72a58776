from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import small_generator
from PIL import Image

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.data.archive import FaceArchive
from facegen.weights.native import save_networks

GROUPS = AgeGroups.parse("0-20,21-40,41-")


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, str]:
    """Files of a conditional, an unconditional and a gray generator."""
    folder = tmp_path_factory.mktemp("networks")
    kinds = {"conditional": (3, 16, 3), "plain": (0, 16, 3), "gray": (0, 64, 1)}
    for name, (c_dim, size, channels) in kinds.items():
        metadata = {"groups": GROUPS.labels} if c_dim else {}
        save_networks(folder / f"{name}.safetensors", {"G_ema": small_generator(c_dim, size, channels)}, metadata)
    return {name: str(folder / f"{name}.safetensors") for name in kinds}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["generate", *map(str, arguments)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["plain", "gray"])
def test_a_picture_for_each_seed(networks, tmp_path, kind):
    result = run("--outdir", tmp_path, "--trunc=0.7", "--seeds=600-602", f"--network={networks[kind]}")
    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["seed0600.png", "seed0601.png", "seed0602.png"]
    with Image.open(tmp_path / "seed0600.png") as picture:
        assert (picture.mode, picture.width) == (("L", 64) if kind == "gray" else ("RGB", 16))
        assert "seed 600" in str(picture.info)


def test_a_picture_for_each_seed_and_class(networks, tmp_path):
    network = networks["conditional"]
    assert run("--outdir", tmp_path / "one", "--seeds", "7", "--class=1", "--network", network).exit_code == 0
    assert names(tmp_path / "one") == ["seed0007.png"]
    options = ("--grid", "--save-latents", "--labels-json")
    result = run("--outdir", tmp_path / "all", "--seeds", "7,8", *options, "--network", network)
    assert result.exit_code == 0, result.output
    assert "3 classes" in result.output
    faces = [f"seed000{seed}-{group}.png" for seed in (7, 8) for group in GROUPS.labels]
    assert names(tmp_path / "all") == sorted([*faces, "grid.png", "latents.npz", "dataset.json"])
    one, same = (Image.open(tmp_path / path) for path in ("one/seed0007.png", "all/seed0007-21-40.png"))
    assert np.abs(np.asarray(one).astype(int) - np.asarray(same)).max() <= 1
    assert json.loads((tmp_path / "all/dataset.json").read_text())["labels"][1] == ["seed0007-21-40.png", 1]
    latents = np.load(tmp_path / "all/latents.npz")
    assert latents["w"].shape == (6, 6, 8)
    assert latents["seeds"].tolist() == [7, 7, 7, 8, 8, 8]
    again = run("--outdir", tmp_path / "again", "--projected_w", tmp_path / "all/latents.npz", "--network", network)
    assert again.exit_code == 0, again.output
    drawn = np.asarray(Image.open(tmp_path / "again/proj01.png")).astype(int)
    assert np.abs(drawn - np.asarray(same)).max() <= 1


def test_drawn_pictures_are_a_training_archive(networks, tmp_path):
    run("--outdir", tmp_path, "--seeds=0-3", "--labels-json", "--network", networks["conditional"])
    archive = FaceArchive(tmp_path)
    assert len(archive) == 12
    assert sorted(archive.labels.tolist()) == [0] * 4 + [1] * 4 + [2] * 4


def test_the_same_seed_at_several_ages(networks, tmp_path):
    result = run("--outdir", tmp_path, "--seeds=3", "--age=10:50:20", "--network", networks["conditional"])
    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["seed0003-age10.png", "seed0003-age30.png", "seed0003-age50.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds=5-3"], "fall"),
        (["--seeds=-1"], "not a seed"),
        ([], "--seeds"),
        (["--seeds=0-59999"], "fewer"),
        (["--seeds=1", "--class=3"], "3 classes"),
        (["--seeds=1", "--group=9-10"], "21-40"),
        (["--seeds=1", "--age=500"], "age"),
        (["--seeds=1", "--noise-mode=loud"], "const"),
        (["--seeds=1", "--trunc-cutoff=99"], "6"),
        (["--projected-w=missing.npz"], "missing.npz"),
        (["--seeds=1", "--device=warp"], "device"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(networks, tmp_path, arguments, words):
    result = run("--outdir", tmp_path / "out", "--network", networks["conditional"], *arguments)
    assert result.exit_code in (1, 2)
    error = result.output.strip().splitlines()[-1]
    assert error.startswith("Error: ")
    assert words in error
    assert not (tmp_path / "out").exists()


def test_what_has_no_effect_is_said(networks, tmp_path):
    result = run("--outdir", tmp_path, "--seeds=1", "--age=30", "--network", networks["plain"])
    assert result.exit_code == 0
    assert "no classes" in result.output


@pytest.mark.parametrize("command", ["generate --seeds 1", "walk --seeds 1,2", "mix --rows 1 --cols 2", "digress"])
def test_a_folder_that_cannot_be_is_named_before_any_work(tmp_path, command):
    (tmp_path / "file").write_text("mine")
    result = CliRunner().invoke(main, [*command.split(), "--outdir", str(tmp_path / "file/out")])
    assert result.exit_code == 1
    assert result.output.strip().endswith("is a file, not a folder to write in")
    assert "drawing" not in result.output
