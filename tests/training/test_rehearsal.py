"""`facegen train --dry-run`: what a start would refuse is refused, and nothing is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from helpers import small_encoder
from pickle_writers import Persistent, persistent, write_pickle
from PIL import Image
from trainings import train

from facegen.cli import main as facegen
from facegen.data.archive import ArchiveWriter, FaceArchive
from facegen.networks.generator import Generator
from facegen.training.generator import loop
from facegen.training.generator.options import TrainOptions
from facegen.training.run.folder import RunFolder, read_options
from facegen.weights.locate import is_remote, list_snapshots
from facegen.weights.native import load_networks, save_networks


def command(*arguments: object) -> Result:
    return CliRunner().invoke(facegen, ["train", *map(str, arguments)])


def assert_refused_dry_and_wet(message: str, *arguments: object) -> None:
    """Both the dry run and the start end in the same line."""
    dry, wet = command(*arguments, "-n"), command(*arguments)
    for result in (dry, wet):
        assert result.exit_code in (1, 2), result.output
        assert message in result.output
        assert "Traceback" not in result.output
    assert dry.output.splitlines()[-1] == wet.output.splitlines()[-1]  # above may be a bar of progress


@pytest.fixture(scope="module")
def run(face_archive, tmp_path_factory) -> Path:
    """A finished run of narrow networks."""
    return train(face_archive, tmp_path_factory.mktemp("runs"), kimg=0.008, tick=0.004)


@pytest.fixture
def copied(run, tmp_path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture(scope="module")
def unlabeled(face_archive, tmp_path_factory) -> Path:
    """The pictures alone."""
    path = tmp_path_factory.mktemp("unlabeled") / "faces.zip"
    pictures = FaceArchive(face_archive)
    with ArchiveWriter(path) as writer:
        for i in range(4):
            writer.add(f"{i}.png", Image.fromarray(pictures.image(i).transpose(1, 2, 0)))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Weight files: of an encoder, of a generator with other latents, of one that fits `tiny`; and one that is none."""
    folder = tmp_path_factory.mktemp("weights")
    files = {name: folder / f"{name}.safetensors" for name in ("encoder", "short", "fitting")}
    save_networks(files["encoder"], {"encoder": small_encoder()}, {})
    for name, latent in (("short", 16), ("fitting", 128)):
        generator = Generator(latent, 0, latent, 16, 3, {"num_layers": 2}, {"channel_base": 128, "channel_max": 16})
        save_networks(files[name], {"G_ema": generator}, {})
    files["broken"] = folder / "broken.pkl"
    files["broken"].write_bytes(b"<html>")
    files["missing"] = folder / "missing.pkl"
    return files


# --- A new run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("missing", "neither a file"),
        ("broken", "not a weights file"),
        ("encoder", "holds encoder, but no generator to start from"),
        ("short", "its generator has z of 16"),
    ],
)
def test_weights_that_a_run_cannot_start_from(face_archive, files, tmp_path, file, message):
    outdir = tmp_path / "runs"
    arguments = ["--data", face_archive, "--cfg", "tiny", "--resume", files[file], "--outdir", outdir]
    assert_refused_dry_and_wet(message, *arguments)
    assert not outdir.exists()


def test_data_without_labels(unlabeled, tmp_path):
    outdir = tmp_path / "runs"
    assert_refused_dry_and_wet("no labels in it", "--data", unlabeled, "--cfg", "tiny", "--outdir", outdir)
    result = command("--data", unlabeled, "--cfg", "tiny", "--outdir", outdir, "--cond=0", "-n")
    assert json.loads(result.output)["cond"] is False
    assert not outdir.exists()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["--batch", "16", "--gpus", "3"], "a batch of 16 cannot be shared by 3 processes"),
        (["--batch", "24", "--gpus", "2", "--batch-gpu", "8"], "--batch-gpu 8 does not divide the 12 pictures"),
        (["--batch", "24", "--gpus", "4"], "6 pictures at a time are not a multiple of 4"),
        (["--even", "gender"], "keeps no attribute 'gender'"),
        (["--device", "warp"], "device 'warp'"),
        (["--metrics", "kid10k", "--inception", "nowhere.pt"], "nowhere.pt"),
        (["--metrics", "pr5k3", "--vgg", "nowhere.pt"], "nowhere.pt"),
        (["--metrics", "ppl2_wend", "--lpips", "nowhere.pt"], "nowhere.pt"),
    ],
)
def test_choices_that_do_not_fit(face_archive, tmp_path, chosen, message):
    result = command("--data", face_archive, "--cfg", "tiny", "--outdir", tmp_path / "runs", *chosen, "-n")
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("chosen", [["--gpus", "3"], ["--metrics", "kid10k", "--vgg", "nowhere.pt"]])
def test_what_a_start_would_take_is_taken(face_archive, chosen):
    """`auto` finds a batch for three GPUs; KID does not look with VGG."""
    result = command("--data", face_archive, *chosen, "-n")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("below", [".", "runs/deep"])
def test_a_place_where_no_run_folder_can_be_made(face_archive, tmp_path, below):
    file = tmp_path / "file"
    file.touch()
    for more in (["-n"], []):
        result = command("--data", face_archive, "--cfg", "tiny", "--outdir", file / below, *more)
        assert result.exit_code == 1
        assert str(file) in result.output


def test_weights_that_fit_are_accepted_and_nothing_is_written(face_archive, files, tmp_path):
    arguments = ["--data", face_archive, "--cfg", "tiny", "--resume", files["fitting"], "--outdir", tmp_path / "runs"]
    result = command(*arguments, "-n")
    assert json.loads(result.output)["resume"] == str(files["fitting"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reference", ["ffhq256", "https://example.org/net.pkl", "hf://who/what", "who/what"])
def test_weights_elsewhere_are_not_downloaded(face_archive, monkeypatch, reference):
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")  # a download would end in an error
    result = command("--data", face_archive, "--cfg", "tiny", "--resume", reference, "-n")
    assert json.loads(result.output)["resume"] == reference


@pytest.mark.parametrize(
    "reference",
    ["ffhq257", "net.pkl", "~/net.pkl", "a/b/net.safetensors", "ftp://example.org/net.pkl", Path("ffhq256")],
)
def test_what_can_only_be_a_file_is_looked_for(reference):
    assert not is_remote(reference)


def test_a_folder_of_the_name_of_a_published_network_is_that_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_remote("ffhq256")
    (tmp_path / "ffhq256").mkdir()
    assert not is_remote("ffhq256")


def test_the_processes_and_the_device_decide_when_the_training_starts(face_archive, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def decide(self: TrainOptions, *arguments: Any, **named: Any) -> TrainOptions:
        raise Stop(arguments, named)

    monkeypatch.setattr(TrainOptions, "decide", decide)
    monkeypatch.setattr(loop.distributed, "world_size", lambda: 8)
    with pytest.raises(Stop) as stop:
        loop.train_generator(TrainOptions(str(face_archive)), tmp_path, device="cpu", progress=False)
    assert stop.value.args == ((16, 8), {"on_gpu": False})


# --- As users of other programs of the family write it --------------------------------------------------------------


def planned(*arguments: object) -> dict[str, Any]:
    """The options that a dry run prints."""
    result = command(*arguments, "-n")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_line_of_the_forks_notebook(face_archive, tmp_path):
    line = "--gpus=1 --cfg=11gb-gpu --metrics=None --snap=4 --augpipe=bg --initstrength=1.374 --gamma=50 --mirror=True"
    line += " --mirrory=False --nkimg=120 --resume=ffhq256 --dry_run"
    options = planned("--data", face_archive, f"--outdir={tmp_path}", *line.split())
    expected = {"batch": 4, "mbstd_group": 4, "map_layers": 8, "p": 1.374, "gamma": 50, "nkimg": 120, "mirrory": False}
    assert {name: options[name] for name in expected} == expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["--topk", "0.9"], "had no effect"),
        (["--initstrength", "0.1", "--aug", "noaug"], "--aug noaug"),
        (["--initstrength", "0.1", "--aug", "fixed", "--p", "0.2"], "--aug fixed"),
        (["--initstrength", "0.1", "--p", "0.2"], "one of them"),
        (["--nkimg", "1000"], "nkimg must be below kimg"),
        (["--resume", "latest"], "contains no run"),
    ],
)
def test_what_the_family_takes_and_a_start_refuses(face_archive, tmp_path, chosen, message):
    assert_refused_dry_and_wet(message, "--data", face_archive, "--outdir", tmp_path, *chosen)
    assert not list(tmp_path.iterdir())


def test_home_is_expanded_behind_the_equals_sign(face_archive, tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(face_archive.parent))
    assert planned(f"--data=~/{face_archive.name}", f"--outdir={tmp_path}")["data"] == str(face_archive)


def test_weights_that_have_seen_too_much(face_archive):
    weights = "https://example.org/network-snapshot-004200.pkl"
    result = command("--data", face_archive, "--resume", weights, "-n")
    assert result.exit_code == 1
    assert "4200 kimg, and --kimg 1000 is the total" in result.output
    assert planned("--data", face_archive, "--resume", weights, "--kimg", "5000")["nkimg"] == 4200


def test_choices_without_effect_are_told_on_stderr(face_archive):
    chosen = ["--nhwc", "--nobench=1", "--aug=noaug", "--augpipe=bg", "--subset=99", "--resume=noresume"]
    with pytest.warns(UserWarning, match="augpipe|subset") as told:
        result = command("--data", face_archive, *chosen, "-n")
    assert [str(warning.message).split(":")[0] for warning in told] == ["--augpipe bg", "--subset 99"]
    for words in ("--nhwc", "--nobench"):
        assert words in result.stderr
    assert json.loads(result.stdout)["resume"] is None


def test_the_run_folder_of_another_program(face_archive, files, tmp_path):
    """Its newest snapshot, of 4200 kimg by its name, at a strength of 1.375."""
    networks, header = load_networks(files["fitting"])
    content = {name: persistent(network, header.networks[name]["kwargs"]) for name, network in networks.items()}
    pipe = Persistent("AugmentPipe", {"_parameters": {}, "_modules": {}, "_buffers": {"p": torch.tensor(1.375)}})
    run = tmp_path / "00007-their-auto1"
    run.mkdir()
    (run / "training_options.json").write_text('{"num_gpus": 1}')
    (run / "network-snapshot-000200.pkl").write_bytes(b"")
    newest = run / "network-snapshot-004200.pkl"
    newest.write_bytes(write_pickle({**content, "augment_pipe": pipe}))
    for named in (run, "latest"):
        arguments = ["--data", face_archive, "--cfg", "tiny", "--resume", named, "--outdir", tmp_path]
        options = planned(*arguments, "--kimg", "5000")
        assert (options["resume"], options["nkimg"], options["p"]) == (str(newest), 4200, 1.375)
        options = planned(*arguments, "--kimg", "50", "--nkimg=0", "--initstrength=0.5")
        assert (options["nkimg"], options["p"]) == (0, 0.5)


def test_latest_is_the_newest_run_and_takes_the_line_that_began_it(face_archive, copied, tmp_path):
    (tmp_path / "00001-died-early").mkdir()
    run = copied.rename(tmp_path / "00000-run")
    (tmp_path / "3").write_text("no folder")
    line = ["--data", face_archive, "--cfg", "tiny", "--batch", "4", "--outdir", tmp_path, "--resume", "latest"]
    assert planned(*line, "--kimg", "7")["kimg"] == 7
    result = command(*line, "--kimg", "7", "--gamma", "3", "-n")
    assert result.exit_code == 2
    assert "leave out --gamma" in result.output
    result = command("--resume", run, "--kimg", "7", "--outdir", tmp_path, "-n")
    assert "leave out --outdir" in result.output


# --- A run to go on with --------------------------------------------------------------------------------------------


def test_the_options_of_the_run_are_printed_and_nothing_is_touched(copied):
    before = {path.name: path.stat().st_mtime_ns for path in copied.iterdir()}
    result = command("--resume", copied, "--kimg", "7", "-n")
    assert json.loads(result.output) == read_options(copied, TrainOptions).to_json() | {"kimg": 7}
    assert {path.name: path.stat().st_mtime_ns for path in copied.iterdir()} == before


def other_classes(run: Path, archive: Path) -> list[object]:
    with ArchiveWriter(run / "two.zip") as writer:
        for label in range(2):
            writer.add(f"{label}.png", Image.new("RGB", (16, 16), (label, 9, 9)), label=label)
    return ["--data", run / "two.zip"]


def no_state(run: Path, archive: Path) -> list[object]:
    (run / "training-state.pt").unlink()
    return []


def damaged_state(run: Path, archive: Path) -> list[object]:
    (run / "training-state.pt").write_bytes(b"\0" * 100)
    return []


def no_snapshot(run: Path, archive: Path) -> list[object]:
    list_snapshots(run)[-1].unlink()
    return []


@pytest.mark.parametrize(
    "prepare",
    [
        other_classes,
        no_state,
        damaged_state,
        no_snapshot,
        lambda run, archive: ["--data", run / "gone.zip"],
        lambda run, archive: ["--kimg", "0.008"],  # all done
        lambda run, archive: ["--batch", "6"],
        lambda run, archive: ["--batch-gpu", "3"],
        lambda run, archive: ["--gamma", "3"],
    ],
)
def test_a_run_that_cannot_go_on(face_archive, copied, prepare: Callable[[Path, Path], list[object]]):
    chosen = prepare(copied, face_archive)
    longer = [] if "--kimg" in chosen else ["--kimg", "0.02"]
    assert_refused_dry_and_wet("Error: ", "--resume", copied, *chosen, *longer)


def test_a_folder_that_is_no_run(tmp_path):
    result = command("--resume", tmp_path, "-n")
    assert result.exit_code == 1
    assert "is not a run folder" in result.output


def test_a_run_that_another_process_trains(copied):
    with RunFolder.open(copied):
        result = command("--resume", copied, "--kimg", "7", "-n")
    assert result.exit_code == 1
    assert "is training in this folder" in result.output
    assert command("--resume", copied, "--kimg", "7", "-n").exit_code == 0


def test_more_processes_than_a_batch_has_shares(copied):
    for more in ([], ["-n"]):
        result = command("--resume", copied, "--kimg", "7", "--gpus", "3", *more)
        assert result.exit_code == 1
        assert "a batch of 4 cannot be shared by 3 processes" in result.output
