"""The scripts that compare: what they refuse, and that they build nothing on a training that is not finished."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from facenet_pytorch import InceptionResnetV1
from helpers import small_estimator, small_generator, write_faces

from facegen.ages import AgeGroups
from facegen.weights.locate import PRETRAINED
from facegen.weights.native import save_networks

SCRIPTS = Path(__file__).parents[1] / "scripts"
GROUPS = AgeGroups.parse("0-30,31-60,61-90")

# In place of facegen: notes what it is told, and leaves a run that stands as STATE says.
STUB = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
for ((i = 1; i <= $#; i++)); do
    next=$((i + 1))
    case ${!i} in
        --outdir) run=${!next}/00000-run ;;
        --resume) run=${!next} ;;
    esac
done
mkdir -p "$run"
touch "$run/network-snapshot-000005.safetensors"
echo "{\\"state\\": \\"$STATE\\", \\"reason\\": \\"\\"}" > "$run/status.json"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives, generators and a judge of identities, all tiny."""
    folder = tmp_path_factory.mktemp("compare")
    write_faces(folder / "train.zip", [10, 20, 25, 40, 45, 50, 70, 75, 80], GROUPS)
    write_faces(folder / "few.zip", [10, 20, 40, 70, 75], GROUPS)
    for name, c_dim, labels in (
        ("g", 3, GROUPS.labels),
        ("g2", 3, GROUPS.labels),
        ("no-ages", 0, None),
        ("ten", 10, None),
        ("three", 3, None),
    ):
        save_networks(folder / f"{name}.safetensors", {"G_ema": small_generator(c_dim)}, {"groups": labels})
    save_networks(folder / "age.safetensors", {"age": small_estimator()}, {})
    torch.save(InceptionResnetV1().state_dict(), folder / "net.pt")
    return folder


def load_script(name: str) -> ModuleType:
    """A script in this process, where nothing has to be imported again."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("check_generators")


def test_what_generators_are_called(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "00000-gamma0.05-ada").mkdir()
    assert script.named("a = runs/x=y.pkl") == ("a", "runs/x=y.pkl")
    assert script.named("runs/tiny.safetensors") == ("tiny", "runs/tiny.safetensors")
    assert script.named("00000-gamma0.05-ada/") == ("00000-gamma0.05-ada", "00000-gamma0.05-ada/")


@pytest.mark.skipif(not (PRETRAINED / "age_judge.safetensors").is_file(), reason="the judge of ages is not shipped")
def test_the_tables_have_a_row_for_each_generator(folder: Path):
    judged = ["--data", "train.zip", "first=g.safetensors", "g2.safetensors", "--id-judge", "net.pt", "--faces", "4"]
    command = [sys.executable, SCRIPTS / "check_generators.py", *judged]
    environment = {**os.environ, "FACEGEN_OFFLINE": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    tables = result.stdout.strip().split("\n\n")
    assert [title.split()[0] for title in tables[::2]] == ["Judged", "Kernel", "Distance", "Judged"]
    for table in tables[1::2]:
        heading, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
        assert heading == ["all", *GROUPS.labels]
        assert [row[0] for row in rows] == ["first", "g2", "real faces"]
        assert {len(row) for row in rows} == {len(GROUPS) + 2}
    assert tables[5].splitlines()[-1] == "| real faces | 100% | 100% | 100% | 100% |"
    assert tables[6] == "Judged men:"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--data", "few.zip", "g.safetensors"], "few.zip: has fewer than 2 faces of 31-60"),
        (["--data", "none.zip", "g.safetensors"], "none.zip"),
        (["--data", "train.zip", "g.safetensors", "b=none.safetensors"], "none.safetensors: neither a file"),
        (["--data", "train.zip", "a=age.safetensors"], "age.safetensors: holds age, but no generator"),
        (["--data", "train.zip", "no-ages.safetensors"], "no-ages.safetensors: this generator has no age groups"),
        (["--data", "train.zip", "ten.safetensors"], "ten.safetensors: its age groups are 0-10,11-20"),
        (["--data", "train.zip", "three.safetensors"], "it has 3 classes, but there are 10 age groups"),
        (["--data", "train.zip", "a=g.safetensors", "a=g2.safetensors"], "two rows have one name: real faces, a, a"),
        (["--data", "train.zip", "g.safetensors", "g=g2.safetensors"], "two rows have one name: real faces, g, g"),
        (["--data", "train.zip", "=g.safetensors"], "'=g.safetensors' names no generator: write NAME=FILE"),
        (["--data", "train.zip", "a=b=c"], "b=c: neither a file"),
        (["--data", "train.zip", "g.safetensors", "--faces", "1"], "--faces"),
    ],
)
def test_mistakes_are_one_line(script: ModuleType, folder: Path, monkeypatch, given: list[str], words: str):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(script.main, ["--id-judge", "net.pt", *given])
    assert result.exit_code in (1, 2), result.output
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert words in result.stderr.splitlines()[-1]


SCRIPTS_THAT_TRAIN = [
    "compare_encoder_parts.sh",
    "compare_generators.sh",
    "compare_recipes.sh",
    "train_demo_weights.sh",
]


def run_script(folder: Path, name: str, state: str, **settings: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    """Run a script with the stub; return also what the stub was told, by calls."""
    stub, calls = folder / "facegen", folder / "calls"
    stub.write_text(STUB)
    stub.chmod(0o755)
    calls.write_text("")
    (folder / "work").mkdir(exist_ok=True)
    given = {
        "compare_generators.sh": ["train.zip", "held.zip", "work"],
        "compare_encoder_parts.sh": ["g.safetensors", "train.zip", "held.zip", "net.pt", "work"],
        "compare_recipes.sh": ["g.safetensors", "train.zip", "held.zip", "work"],
        "train_demo_weights.sh": ["UTKFace.zip", "work"],
    }[name]
    for archive in ("utkface64-held", "utkface128-train", "utkface128-held"):
        (folder / "work" / f"{archive}.zip").touch()  # else train_demo_weights.sh prepares them first
    # `true` instead of Python: what it is told is not looked at here.
    told = {"FACEGEN": str(stub), "PYTHON": "true", "CALLS": str(calls), "STATE": state, **settings}
    result = subprocess.run(
        [SCRIPTS / name, *given], cwd=folder, env={**os.environ, **told}, capture_output=True, text=True, timeout=60
    )
    return result, calls.read_text().splitlines()


@pytest.mark.parametrize("name", SCRIPTS_THAT_TRAIN)
def test_nothing_is_built_on_a_training_that_was_stopped(tmp_path: Path, name: str):
    first, calls = run_script(tmp_path, name, "stopped")
    assert first.returncode == 1
    assert first.stderr.endswith("is not finished; run this again to go on\n")
    assert [call.split()[0] for call in calls] == [
        "train-encoder" if "encoder" in name or "recipes" in name else "train"
    ]
    again, calls = run_script(tmp_path, name, "finished")
    assert again.returncode == 0, again.stderr
    assert calls[0].split()[1] == "--resume"
    assert sum("--resume" in call for call in calls) == 1
    assert calls[-1].startswith("evaluate")
    # All is finished: only the report is made again.
    third, calls = run_script(tmp_path, name, "finished")
    assert third.returncode == 0, third.stderr
    assert [call.split()[0] for call in calls] == ["evaluate"]


def test_every_part_of_the_encoder_adds_one_thing(tmp_path: Path):
    result, calls = run_script(tmp_path, "compare_encoder_parts.sh", "finished", INIT="trunk.safetensors")
    assert result.returncode == 0, result.stderr
    trainings = [call.split(" --outdir ")[0].split(" --input-size 80 ")[1] for call in calls[:-1]]
    start = "--lr 8e-4 --lr-step 1 --init trunk.safetensors"
    assert trainings == [
        start,
        f"{start} --sex-weight 0",
        f"{start} --sex-weight 0 --perceptual-weight 0 --face-network net.pt",
        f"{start} --sex-weight 0 --face-network net.pt",
        f"{start} --face-network net.pt",
        f"{start} --face-network net.pt",
    ]
    recipes = [call.split("--recipe ")[1].split()[0] for call in calls[:-1]]
    assert recipes == ["zmse", "age", "identity", "identity", "identity", "tune"]
    assert calls[-1].count("--compare ") == 5


def test_the_generator_grows_from_a_smaller_one(tmp_path: Path):
    result, calls = run_script(tmp_path, "train_demo_weights.sh", "finished", KIMG64="5")
    assert result.returncode == 0, result.stderr
    assert "generator64" in calls[0]
    assert "--kimg 5 " in calls[0]
    assert "generator128" in calls[1]
    assert calls[1].endswith(
        "--resume work/generator64/00000-run/network-snapshot-000005.safetensors --nkimg 0 --outdir work/generator128"
    )


def test_the_generator_starts_from_given_weights(tmp_path: Path):
    result, calls = run_script(tmp_path, "train_demo_weights.sh", "finished", START="g.safetensors")
    assert result.returncode == 0, result.stderr
    assert "--resume g.safetensors" in calls[0]


def test_the_same_faces_are_picked_for_another_resolution(tmp_path: Path):
    pictures, archive, picked = tmp_path / "pictures.zip", tmp_path / "some.zip", tmp_path / "picked.zip"
    write_faces(archive, [5, 40])
    with zipfile.ZipFile(pictures, "w") as files:
        for name in ("crop/5_0_0_0.png", "5_0_0_0.png", "40_0_0_1.png", "70_0_0_2.png"):
            files.writestr(name, name)
    pick = load_script("pick_pictures")
    assert CliRunner().invoke(pick.main, [str(pictures), str(archive), str(picked)]).exit_code == 0
    with zipfile.ZipFile(picked) as files:
        assert files.namelist() == ["5_0_0_0.png", "40_0_0_1.png"]
        assert files.read("5_0_0_0.png") == b"5_0_0_0.png"
    write_faces(archive, [5, 40, 70, 80])
    result = CliRunner().invoke(pick.main, [str(pictures), str(archive), str(picked)])
    assert result.exit_code == 1
    assert "lacks 1 pictures of" in result.output
    assert "80_0_0_3.png" in result.output
    with zipfile.ZipFile(picked) as files:
        assert len(files.namelist()) == 2  # the file before stays


@pytest.mark.parametrize(
    ("kimg", "wanted"), [("0.5", (0.5 / 6, 0.25)), ("1", (1 / 6, 0.5)), ("60", (10, 30)), ("25000", (25000 / 6, 12500))]
)
def test_labels_fade_in_however_short_the_training(tmp_path: Path, kimg: str, wanted: tuple[float, float]):
    result, calls = run_script(tmp_path, "compare_generators.sh", "finished", KIMG=kimg)
    assert result.returncode == 0, result.stderr
    fading = [call.split() for call in calls if "--t-start-kimg" in call]
    assert len(fading) == 2
    for call in fading:
        start, end = (float(call[call.index(option) + 1]) for option in ("--t-start-kimg", "--t-end-kimg"))
        assert (start, end) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("arguments", [["faces.zip"], ["chekc", "faces.zip"]])
def test_the_gpu_check_has_three_parts(tmp_path: Path, arguments: list[str]):
    result = subprocess.run(
        [SCRIPTS / "gpu_check.sh", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert "choose check, more or train" in result.stderr
    assert not list(tmp_path.iterdir())
