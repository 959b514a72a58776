"""The training loop, as a library and as the command `facegen train`."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from trainings import CPU, go_on, narrow_options, only_run, train, train_whole_and_resumed

from facegen.ages import AgeGroups
from facegen.cli import main as facegen
from facegen.data.archive import ArchiveWriter, FaceArchive
from facegen.errors import FacegenError
from facegen.images import encode_png
from facegen.networks.generator import Generator
from facegen.training.generator import grids, loop
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.state import build_state
from facegen.training.generator.step import learn
from facegen.training.run.folder import read_options, read_stats
from facegen.weights.header import Header
from facegen.weights.load import load_generator
from facegen.weights.locate import list_snapshots
from facegen.weights.native import load_networks


def newest_snapshot(run):
    return list_snapshots(run)[-1]


@pytest.fixture(scope="module")
def finished_run(face_archive, tmp_path_factory):
    return train(face_archive, tmp_path_factory.mktemp("runs"), mirror=True, balance=0.5)


def test_statistics_are_complete_and_finite(finished_run):
    lines = read_stats(finished_run)
    assert [line["Progress/kimg"] for line in lines] == pytest.approx([0.008, 0.016, 0.024, 0.032])
    expected = {"Loss/G/loss", "Loss/D/loss", "Loss/scores/real", "Progress/augment", "Timing/sec_per_kimg"}
    assert expected | {"Timing/data_wait"} <= lines[0].keys()
    assert "Loss/r1_penalty" in lines[0]
    assert all(np.isfinite(value) for line in lines for value in line.values())


def test_tick_lines_tell_how_it_goes(finished_run):
    assert finished_run.name == "00000-faces-cond-mirror-tiny-batch4-gamma0.05-ada"
    log = (finished_run / "log.txt").read_text()
    assert re.search(r"kimg 0\.0 .*sec/kimg .*data wait .*augment .*loss G .*cpumem .*ETA", log)
    assert "61+" in log  # faces per group


def test_who_watches_is_told_of_numbers_and_pictures_and_nothing_is_printed(face_archive, tmp_path, capfd):
    seen = []

    def watch(run):
        seen.append((len(read_stats(run)), len(list(run.glob("fakes0*.png")))))

    run = loop.train_generator(narrow_options(face_archive), tmp_path, watch=watch)
    # Four ticks, a snapshot with its picture after the second and the fourth.
    assert seen == [(1, 0), (2, 0), (2, 1), (3, 1), (4, 1), (4, 2)]
    assert capfd.readouterr() == ("", "")
    assert "finished: 0.0 kimg" in (run / "log.txt").read_text(encoding="utf-8")


def test_fakes_grid_has_a_column_per_group(finished_run):
    with Image.open(finished_run / "fakes000000_032.png") as fakes, Image.open(finished_run / "reals.png") as reals:
        assert fakes.size == reals.size
        assert fakes.height > 2 * fakes.width  # eight rows, three columns
        assert np.asarray(fakes.convert("RGB")).std() > 10


def test_grid_rows_keep_z_and_columns_keep_the_class():
    generator = Generator(8, 3, 8, 16, 3, synthesis_kwargs={"channel_base": 64})
    z, c = grids.grid_latents(generator, seed=0)
    assert torch.equal(z[0], z[2])
    assert not torch.equal(z[0], z[3])
    assert c.argmax(dim=1)[:6].tolist() == [0, 1, 2, 0, 1, 2]


def test_snapshot_knows_what_it_is(finished_run):
    generator, header = load_generator(finished_run)
    assert generator.c_dim == 3
    assert header["groups"] == ["0-20", "21-60", "61+"]
    assert header["kimg"] == pytest.approx(0.032)
    assert len(header["template"]) == 5
    assert header["training_options"]["cfg"] == "tiny"


def test_the_average_lags_behind_the_generator(finished_run):
    networks, _ = load_networks(newest_snapshot(finished_run))
    current, average = (networks[name].synthesis.b4.const for name in ("G", "G_ema"))
    assert not torch.equal(current, average)
    assert torch.equal(networks["G"].mapping.w_avg, networks["G_ema"].mapping.w_avg)


@pytest.fixture(scope="module")
def gendered(tmp_path_factory):
    """Group 0: 12 female, 8 male, 2 unknown; group 1: 2 and 9; a picture's brightness tells: 50, 150, 250."""
    path = tmp_path_factory.mktemp("gendered") / "gendered.zip"
    with ArchiveWriter(path, groups=AgeGroups.parse("0-20,21-")) as writer:
        for label, counts in enumerate(({"female": 12, "male": 8, None: 2}, {"female": 2, "male": 9})):
            for gender, count in counts.items():
                brightness = {"female": 50, "male": 150, None: 250}[gender]
                for _ in range(count):
                    picture = encode_png(Image.new("L", (16, 16), brightness))
                    writer.add_png("a.png", picture, label, gender=gender)
    return path


def test_a_resumed_run_draws_values_evenly_as_before(gendered, tmp_path):
    _, run = train_whole_and_resumed(gendered, tmp_path, even="gender")
    assert run.name == "00000-gendered-cond-tiny-batch4-gamma0.05-ada-even-gender"
    assert "gender (female 14, male 17, unknown 2)" in (run / "log.txt").read_text()
    assert read_options(run, TrainOptions).even == "gender"


def test_reals_take_turns(gendered, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(grids.grids, "save_image_grid", lambda grid, *rest, **more: shown.append(grid[:, 0, 0, 0]))
    grids.save_reals(FaceArchive(gendered), tmp_path / "reals.png", 0, "gender")
    grids.save_reals(FaceArchive(gendered, use_labels=False), tmp_path / "reals.png", 0, "gender")
    grids.save_reals(FaceArchive(gendered), tmp_path / "reals.png", 0)
    first, second = shown[0].reshape(8, 2).T
    assert first.tolist() == [50, 150] * 4
    assert second.tolist() == [50, 150, 50, 150, 150, 150, 150, 150]  # there are two women
    assert (shown[1].reshape(8, 10)[::2] == 50).all()
    assert (shown[1].reshape(8, 10)[1::2] == 150).all()
    # without the attribute, the draw is that of old runs
    random, labels = np.random.default_rng(0), FaceArchive(gendered).labels
    drawn = [random.permutation(np.flatnonzero(labels == label))[:8] for label in range(2)]
    brightness = FaceArchive(gendered).load_all(progress=False)[:, 0, 0, 0]
    np.testing.assert_array_equal(shown[2].reshape(8, 2).T, brightness[np.stack(drawn)])


def test_training_moves_the_generator_toward_the_data(face_archive, tmp_path):
    """A few hundred images must bring the mean color of fakes close to that of the data."""
    options = narrow_options(face_archive, kimg=0.4, batch=8, tick=1, aug="noaug", cfg="auto")
    archive = FaceArchive(face_archive)
    target = torch.from_numpy(archive.load_all()).float().mean(dim=(0, 2, 3)) / 127.5 - 1
    start = build_state(options, archive, CPU).G_ema
    z, c = torch.randn(64, 16, generator=torch.Generator().manual_seed(0)), torch.eye(3)[torch.arange(64) % 3]
    before = (start(z, c).mean(dim=(0, 2, 3)) - target).abs().mean()
    generator, _ = load_generator(loop.train_generator(options, tmp_path, progress=False))
    after = (generator(z, c).mean(dim=(0, 2, 3)) - target).abs().mean()
    assert after < before / 2


@pytest.mark.parametrize("batch_gpu", [None, 2])
def test_a_bad_gradient_does_not_spoil_the_weights(face_archive, batch_gpu):
    options = narrow_options(face_archive, batch_gpu=batch_gpu, mbstd_group=2)
    state = build_state(options, FaceArchive(face_archive), CPU)

    def bad():
        (sum(parameter.sum() for parameter in state.D.parameters()) * float("nan")).backward()
        return {}

    learn(state, "D", bad, tuple)
    assert all(torch.isfinite(parameter).all() for parameter in state.D.parameters())
    assert not any(parameter.requires_grad for parameter in state.D.parameters())


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_snapshot(face_archive, tmp_path, monkeypatch):
    options = narrow_options(face_archive, snap=1)
    real_step = loop.train_step

    def step(state, *rest):
        observed = real_step(state, *rest)
        if state.images_seen > 16:
            observed["Loss/G/loss"] = observed["Loss/G/loss"] * float("nan")
        return observed

    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(FacegenError, match=r"Loss/G/loss stopped being a finite number .*last good snapshot is"):
        loop.train_generator(options, tmp_path, progress=False)
    run = only_run(tmp_path)
    assert Header.read(newest_snapshot(run))["kimg"] == pytest.approx(0.016)


def test_tensorfloat_is_off_unless_allowed(face_archive, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "_train", lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    for allowed in (False, True):
        train(face_archive, tmp_path, allow_tf32=allowed)
    assert seen == [False, True]


def test_the_learning_rate_is_that_of_both_networks_before_the_correction(face_archive):
    options = narrow_options(face_archive, lr=0.01, pl_weight=2)
    state = build_state(options, FaceArchive(face_archive), CPU)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in state.optimizers.items()}
    assert rates == pytest.approx({"G": 0.01 * 4 / 5, "D": 0.01 * 16 / 17})


def test_start_from_weights_of_another_run(face_archive, finished_run, tmp_path):
    snapshot = newest_snapshot(finished_run)
    options = narrow_options(face_archive, resume=str(snapshot), nkimg=0, freezed=2)
    state = build_state(options, FaceArchive(face_archive), CPU)
    assert torch.equal(state.G.synthesis.b4.const, load_networks(snapshot)[0]["G"].synthesis.b4.const)
    assert "b16.conv0.weight" in dict(state.D.named_buffers())  # frozen, and loaded all the same


def test_unlabeled_data_is_refused_for_a_conditional_run(tmp_path):
    path = tmp_path / "plain.zip"
    with ArchiveWriter(path) as writer:
        writer.add("a.png", Image.new("RGB", (16, 16)))
    with pytest.raises(FacegenError, match="no labels in it"):
        loop.train_generator(narrow_options(path), tmp_path)
    assert not list(tmp_path.glob("0*"))
    assert train(path, tmp_path, cond=False, kimg=0.008).is_dir()


def set_back(run):
    """Make the state older than its snapshot."""
    state = torch.load(run / "training-state.pt", weights_only=True)
    torch.save({**state, "images_seen": 8}, run / "training-state.pt")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: newest_snapshot(run).unlink(), "no such weights file"),
        (lambda run: newest_snapshot(run).write_bytes(b"\0" * 100), "damaged"),
        (set_back, "not the snapshot that training-state"),
    ],
)
def test_resume_from_a_damaged_folder(finished_run, tmp_path, damage, message):
    run = shutil.copytree(finished_run, tmp_path / "run")
    damage(run)
    with pytest.raises((FacegenError, FileNotFoundError), match=message):
        go_on(run, kimg=0.04)


def test_a_run_goes_on_with_another_batch(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    assert go_on(run, kimg=0.048, batch=8) == run
    assert read_options(run, TrainOptions).batch == 8
    state = torch.load(run / "training-state.pt", weights_only=True)
    assert state["images_seen"] == state["position"] == 48
    assert state["steps"] == 32 / 4 + 16 / 8
    with pytest.raises(FacegenError, match="batch must be a multiple of 4"):
        go_on(run, kimg=0.1, batch=6)


class TestCommand:
    def run(self, *arguments):
        return CliRunner().invoke(facegen, ["train", *map(str, arguments)])

    def test_dry_run_prints_the_options_and_writes_nothing(self, face_archive, tmp_path):
        result = self.run(
            "--data", face_archive, "--outdir", tmp_path / "runs", "--cfg", "paper256", "--mirror=1", "-n"
        )
        options = json.loads(result.output)
        assert (options["gamma"], options["batch"], options["mirror"], options["cond"]) == (1, 64, True, True)
        assert not (tmp_path / "runs").exists()

    @pytest.mark.parametrize(
        ("spelling", "value"), [("--cond", True), ("--cond=1", True), ("--cond=0", False), ("--cond=false", False)]
    )
    def test_switches_read_like_the_ancestors_do(self, face_archive, spelling, value):
        assert json.loads(self.run("--data", face_archive, spelling, "-n").output)["cond"] is value

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "--data is missing"),
            (["--data", "nowhere.zip"], "nowhere.zip"),
            (["--data", "DATA", "--cfg", "huge"], "cfg 'huge'"),
            (["--data", "DATA", "--augpipe", "abc"], "augpipe 'abc'"),
            (["--data", "DATA", "--batch", "7"], "multiple of 4"),
            (["--resume", "nowhere.safetensors", "--data", "DATA", "--cfg", "tiny"], "nowhere.safetensors"),
        ],
    )
    def test_mistakes_get_one_line(self, face_archive, tmp_path, arguments, message):
        arguments = [str(face_archive) if a == "DATA" else a for a in arguments]
        result = self.run(*arguments, "--outdir", tmp_path / "runs")
        assert result.exit_code in (1, 2)
        assert message in result.output
        assert "Traceback" not in result.output
