"""Files of the version before this one are read as before: an archive, half a spool, weights, three run folders.

`files.tar.xz` holds them as facegen 0.1.0 of November 2026 wrote them on a CPU. The weights in the encoder's run are
zeros, which pack well. `generator-after-24-images.safetensors` is what that version made of the generator's run when it
went on.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from facegen.cli import main as facegen
from facegen.data.archive import FaceArchive
from facegen.training.run.lock import read_status
from facegen.weights.locate import list_snapshots
from facegen.weights.native import load_networks


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the files; commands run in it, as paths in run folders are relative to it."""
    with tarfile.open(Path(__file__).with_name("files.tar.xz")) as packed:
        for member in packed.getmembers():
            assert member.isfile() or member.isdir()
            packed.extract(member, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*command: object) -> str:
    result = CliRunner().invoke(facegen, list(map(str, command)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_an_archive(files):
    archive = FaceArchive(files / "faces.zip")
    assert (len(archive), archive.resolution, archive.c_dim) == (16, 16, 10)
    assert set(archive.ages) == {5, 15, 25, 35, 45, 55, 65, 75}
    run("inspect", files / "faces.zip")


def test_a_stopped_prepare_goes_on_with_the_pictures_it_had(files):
    job = files / "partial.zip.partial/job.json"
    moved = job.read_text(encoding="utf-8").replace("/tmp/before_src", (files / "before_src").as_posix())
    job.write_text(moved, encoding="utf-8")
    run("prepare", "before_src", "partial.zip", "--crop", "as-is", "--resolution", 16)
    assert (files / "partial.zip").read_bytes() == (files / "faces.zip").read_bytes()


def test_a_generator_s_run_goes_on_to_the_same_weights(files):
    assert read_status(files / "runs/generator").state == "finished"
    run("train", "--resume", "runs/generator", "--kimg", 0.024)
    expected, _ = load_networks(files / "generator-after-24-images.safetensors")
    found, header = load_networks(list_snapshots(files / "runs/generator")[-1])
    assert header["kimg"] == 0.024
    for name, network in expected.items():
        for key, tensor in network.state_dict().items():
            # Processors differ in the last bits, which two steps of Adam carry on.
            torch.testing.assert_close(found[name].state_dict()[key], tensor, rtol=1e-3, atol=1e-4)


def test_an_encoder_s_run_goes_on(files):
    assert "epoch 2" in run("train-encoder", "--resume", "runs/encoder", "--epochs", 2, "--device", "cpu")
    assert (files / "runs/encoder/encoder-epoch002.safetensors").is_file()


def test_an_age_estimator_s_run_goes_on(files):
    run("train-age", "--resume", "runs/age", "--kimg", 0.024, "--device", "cpu")
    assert "0.024" in (files / "runs/age/log.txt").read_text(encoding="utf-8")


def test_runs_are_listed(files):
    listed = run("runs", "runs")
    assert all(name in listed for name in ("generator", "encoder", "age"))
