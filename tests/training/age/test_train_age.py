from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter
from facegen.errors import FacegenError
from facegen.images import to_float
from facegen.networks.age_estimator import AGES, AgeEstimator
from facegen.training.age import loop as training
from facegen.training.age.data import AgedFaces, age_targets, errors_by_group, half_of, load_aged_faces
from facegen.training.age.distort import distort
from facegen.training.age.loop import age_loss, predict_ages, resume_age, train_age
from facegen.training.age.options import AgeOptions
from facegen.training.generator.batches import picture_weights
from facegen.training.run.folder import read_stats
from facegen.training.run.list import as_table, find_runs
from facegen.weights.load import load_age_estimator

SMALL = {"widths": (8, 12), "depths": (1, 1), "size": 16}


def crops(count: int, size: int) -> list[Image.Image]:
    """Pieces of one photo, each in a tint that its number decides."""
    random = np.random.default_rng(0)
    with Image.open(get_sample_data("grace_hopper.jpg")) as photo:
        pieces = []
        for i in range(count):
            left, top = random.integers(150, 220), random.integers(40, 110)
            piece = photo.crop((left, top, left + 200, top + 200)).resize((size, size))
            tint = np.array([1, 1 - i / count, 0.3 + 0.7 * i / count])
            pieces.append(Image.fromarray((np.asarray(piece) * tint).astype(np.uint8)))
    return pieces


def write_archive(path: Path, ages: list[int | None], size: int = 16) -> Path:
    with ArchiveWriter(path, groups=AgeGroups.default()) as writer:
        for age, picture in zip(ages, crops(len(ages), size), strict=True):
            writer.add(f"{age}.jpg", picture, label=None if age is None else AgeGroups.default().index_of(age), age=age)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("data") / "aged.zip", [2 * i for i in range(40)])


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("data") / "held.zip", [5, 25, 26, 45, 75])


@pytest.fixture(scope="module")
def options(archive: Path, held: Path) -> AgeOptions:
    """Ten steps of eight pictures, validated after five and ten."""
    return AgeOptions(
        data=str(archive), val=str(held), half="first", kimg=0.08, batch=8, snap=0.04, license="none", **SMALL
    )


@pytest.fixture(scope="module")
def finished(options: AgeOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_age(options, tmp_path_factory.mktemp("runs"), device="cpu", progress=False)


# -- the data


@pytest.mark.parametrize("count", [2, 7, 1000])
def test_halves_are_disjoint_and_complete(count: int):
    first, second = half_of(count, "first"), half_of(count, "second")
    assert sorted([*first, *second]) == list(range(count))
    assert abs(len(first) - len(second)) <= 1
    np.testing.assert_array_equal(first, half_of(count, "first"))
    np.testing.assert_array_equal(half_of(count, None), np.arange(count))


def test_a_half_is_no_run_of_neighbors():
    # Pictures of an archive are sorted by age: the half must be a random one.
    first = half_of(1000, "first")
    assert 450 < first.mean() < 550
    assert 200 < (np.diff(first) == 1).sum() < 300


def test_an_unknown_half():
    with pytest.raises(FacegenError, match="one of first, second, got 'third'"):
        half_of(10, "third")


def test_faces_are_read_with_their_ages_at_the_wanted_size(archive: Path):
    same, larger = load_aged_faces(archive, 16, progress=False), load_aged_faces(archive, 32, progress=False)
    assert same.images.shape == (40, 3, 16, 16)
    assert same.images.dtype == larger.images.dtype == torch.uint8
    assert larger.images.shape == (40, 3, 32, 32)
    assert same.ages.tolist() == [2 * i for i in range(40)]
    # The mean survives the resizing, but for rounding.
    torch.testing.assert_close(larger.images.float().mean(), same.images.float().mean(), atol=0.5, rtol=0)


def test_faces_without_an_age_are_left_out(tmp_path: Path):
    path = tmp_path / "some.zip"
    with ArchiveWriter(path, groups=AgeGroups.default()) as writer:
        for age, picture in zip([None, 30, None, 40], crops(4, 16), strict=True):
            writer.add("face.jpg", picture, label=3, age=age)
    assert load_aged_faces(path, 16, progress=False).ages.tolist() == [30, 40]


def test_gray_faces(tmp_path: Path):
    with ArchiveWriter(tmp_path / "gray.zip", groups=AgeGroups.default()) as writer:
        for picture in crops(3, 16):
            writer.add("face.jpg", picture.convert("L"), label=3, age=33)
    assert load_aged_faces(tmp_path / "gray.zip", 16, progress=False).images.shape == (3, 3, 16, 16)


def test_an_archive_without_exact_ages_is_refused(tmp_path: Path):
    path = tmp_path / "labels.zip"
    with ArchiveWriter(path, groups=AgeGroups.default()) as writer:
        for picture in crops(3, 16):
            writer.add("face.jpg", picture, label=3)
    with pytest.raises(FacegenError, match=r"labels\.zip: no exact ages in it") as caught:
        load_aged_faces(path, 16, progress=False)
    assert "\n" not in str(caught.value)


def test_picture_weights_even_out_the_groups():
    faces = AgedFaces(
        torch.zeros(10, 3, 4, 4, dtype=torch.uint8), torch.tensor([5] * 8 + [35] * 2), AgeGroups.default()
    )
    np.testing.assert_allclose(picture_weights(faces.classes, 0), np.full(10, 0.1))
    even = picture_weights(faces.classes, 1)
    assert even[:8].sum() == pytest.approx(0.5)
    assert even[8:].sum() == pytest.approx(0.5)
    assert 0.5 < picture_weights(faces.classes, 0.3)[:8].sum() < 0.8


def test_targets_are_distributions_around_the_age():
    targets = age_targets(torch.tensor([0, 40, 116]), 2.0)
    assert targets.shape == (3, AGES)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))
    assert targets.argmax(dim=1).tolist() == [0, 40, 100]
    years = torch.arange(AGES).float()
    assert float(targets[1] @ years) == pytest.approx(40, abs=1e-3)
    assert float(targets[1] @ (years - 40).square()) ** 0.5 == pytest.approx(2.0, abs=0.01)


def test_errors_by_group_leave_out_empty_groups():
    faces = AgedFaces(torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.tensor([4, 6, 95]), AgeGroups.default())
    table = errors_by_group(torch.tensor([5.0, 3.0, 80.0]), faces)
    assert table == {
        "0-10": {"faces": 2, "mae": 2.0, "bias": -1.0},
        "91-100": {"faces": 1, "mae": 15.0, "bias": -15.0},
    }


# -- distortions


def test_distortions_depend_on_the_generator_alone(archive: Path):
    images = to_float(load_aged_faces(archive, 32, progress=False).images)
    before = images.clone()
    one = distort(images, torch.Generator().manual_seed(3))
    torch.rand(5)
    again = distort(images, torch.Generator().manual_seed(3))
    assert torch.equal(one, again)
    assert torch.equal(images, before)
    assert not torch.equal(one, distort(images, torch.Generator().manual_seed(4)))


def test_distorted_faces_stay_faces(archive: Path):
    images = to_float(load_aged_faces(archive, 32, progress=False).images)
    changed = distort(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert changed.min() >= -1
    assert changed.max() <= 1
    moved = (changed - images).abs().mean(dim=(1, 2, 3))
    assert (moved > 0.01).all()
    # What moves, turns and tints a face a little leaves it like itself: nearer than to black or white.
    assert moved.mean() < 0.5


def test_about_half_are_mirrored():
    images = torch.linspace(-1, 1, 32).expand(200, 3, 32, 32).contiguous()  # brighter to the right
    changed = distort(images, torch.Generator().manual_seed(0))
    falls = changed[..., :16].mean(dim=(1, 2, 3)) > changed[..., 16:].mean(dim=(1, 2, 3))
    assert 70 < int(falls.sum()) < 130


# -- the loss and the training


def test_the_loss_is_least_at_the_true_age():
    ages = torch.tensor([30, 70])
    exact = age_targets(ages, 2.0).clamp_min(1e-12).log()
    assert float(age_loss(exact, ages, 2.0)) == pytest.approx(0, abs=1e-3)
    near, far = age_targets(ages + 2, 2.0).clamp_min(1e-12).log(), age_targets(ages + 20, 2.0).clamp_min(1e-12).log()
    assert 0 < age_loss(near, ages, 2.0) < age_loss(far, ages, 2.0)


def test_the_loss_takes_ages_beyond_the_last():
    assert torch.isfinite(age_loss(torch.zeros(1, AGES), torch.tensor([116]), 2.0))


@pytest.mark.parametrize("arch", ["resnet", "plain"])
def test_learns_sixteen_faces_by_heart(arch: str):
    images = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in crops(16, 32)])
    faces = AgedFaces(images, torch.arange(16) * 6, AgeGroups.default())
    network = AgeEstimator(arch, (16, 32), (1, 1), input_size=32, dropout=0.0).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(60):
        loss = age_loss(network(to_float(faces.images)), faces.ages, 2.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # as in training: the averages of batch normalization lag behind so few steps
        error = (network.predict(to_float(faces.images)) - faces.ages).abs().mean()
    assert error < 3  # always saying 45 costs 24 years


def test_a_run_leaves_all_its_files(finished: Path):
    assert finished.name == "00000-age-resnet-aged-first"
    names = {path.name for path in finished.iterdir() if not path.name.startswith("events.out.tfevents")}
    assert names == {
        "training_options.json",
        "log.txt",
        "stats.jsonl",
        "status.json",
        ".lock",
        "curve.png",
        "ages.png",
        "age-best.safetensors",
        "age-state.pt",
    }
    log = (finished / "log.txt").read_text()
    assert "20 faces to train on, 5 to validate" in log
    assert "done: best validation MAE" in log
    lines = read_stats(finished)
    assert [line["step"] for line in lines] == pytest.approx([0.04, 0.08])
    assert all(line["val_mae"] > 0 and line["loss"] > 0 for line in lines)


def test_the_pictures_can_be_looked_at(finished: Path):
    for name in ("curve.png", "ages.png"):
        with Image.open(finished / name) as picture:
            assert np.asarray(picture.convert("L"), float).std() > 5


def test_the_file_tells_what_it_is(finished: Path, archive: Path, held: Path):
    network, header = load_age_estimator(finished)
    best = min(line["val_mae"] for line in read_stats(finished))
    assert header["val_mae"] == pytest.approx(best, abs=1e-3)
    assert header["val_faces"] == 5
    assert header["training_faces"] == 20
    assert header["license"] == "none"
    assert header["groups"] == AgeGroups.default().labels
    assert set(header["val_by_group"]) == {"0-10", "21-30", "41-50", "71-80"}
    told = header["training_options"]
    assert (told["data"], told["val"], told["half"], told["arch"], told["seed"]) == (
        "aged.zip",
        "held.zip",
        "first",
        "resnet",
        0,
    )
    # The file, read again, makes the very error that it tells of.
    faces = load_aged_faces(held, 16, progress=False)
    error = (predict_ages(network, faces.images) - faces.ages).abs().mean()
    assert float(error) == pytest.approx(best, abs=1e-3)


def test_without_an_archive_to_validate_a_tenth_is_held_back(options: AgeOptions, archive: Path):
    training_faces, validation = training.load_data(replace(options, val=None, half=None), progress=False)
    assert len(training_faces) == 36
    assert len(validation) == 4
    assert not set(training_faces.ages.tolist()) & set(validation.ages.tolist())


def test_both_halves_validate_on_the_same_pictures(options: AgeOptions):
    one = training.load_data(replace(options, val=None, half="first"), progress=False)
    other = training.load_data(replace(options, val=None, half="second"), progress=False)
    assert one[1].ages.tolist() == other[1].ages.tolist()
    assert not set(one[0].ages.tolist()) & set(other[0].ages.tolist())


def test_same_seed_same_network(options: AgeOptions, finished: Path, tmp_path: Path):
    again = train_age(options, tmp_path, device="cpu", progress=False)
    assert_same_state(again, finished)


@pytest.mark.parametrize("after", [3, 7])
def test_resume_after_ctrl_c_goes_on_bit_for_bit(
    options: AgeOptions, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
):
    steps = 0
    step = torch.optim.AdamW.step

    def step_and_interrupt(self: torch.optim.AdamW, *args: object) -> object:
        nonlocal steps
        steps += 1
        if steps == after:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", step_and_interrupt)
    run = train_age(options, tmp_path, device="cpu", progress=False)
    assert steps == after
    assert f"facegen train-age --resume {run}" in (run / "log.txt").read_text()
    torch.rand(7)  # torch's random state is another one by then
    resume_age(run, device="cpu", progress=False)
    assert steps == 10
    assert_same_state(run, finished)
    for line, expected in zip(read_stats(run), read_stats(finished), strict=True):
        assert line["loss"] == expected["loss"]
        assert line["val_mae"] == expected["val_mae"]


def assert_same_state(run: Path, other: Path) -> None:
    one, two = (torch.load(path / "age-state.pt", weights_only=True) for path in (run, other))
    for network in ("network", "average"):
        for name, tensor in one[network].items():
            assert torch.equal(tensor, two[network][name]), name


def test_resume_with_more_kimg(options: AgeOptions, tmp_path: Path):
    run = train_age(replace(options, kimg=0.04), tmp_path, device="cpu", progress=False)
    with pytest.raises(FacegenError, match=r"all 0\.04 kimg are done"):
        resume_age(run, device="cpu", progress=False)
    resume_age(run, kimg=0.08, device="cpu", progress=False)
    assert [line["step"] for line in read_stats(run)] == pytest.approx([0.04, 0.08])
    assert json.loads((run / "training_options.json").read_text())["kimg"] == 0.08


def test_resume_needs_a_run(finished: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        resume_age(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"training_options\.json"):
        resume_age(tmp_path)
    (tmp_path / "training_options.json").write_text('{"cfg": "tiny"}')
    with pytest.raises(FacegenError, match="not the options"):
        resume_age(tmp_path)
    (tmp_path / "training_options.json").write_text((finished / "training_options.json").read_text())
    with pytest.raises(FileNotFoundError, match=r"no age-state\.pt"):
        resume_age(tmp_path)
    (tmp_path / "age-state.pt").write_bytes(b"junk")
    with pytest.raises(FacegenError, match="damaged"):
        resume_age(tmp_path)


def test_nan_stops_with_a_clear_line(options: AgeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(training, "age_loss", lambda *args: nan * 1)
    with pytest.raises(FacegenError, match=r"the loss became nan in step 1: .*--lr lower than 0\.002") as caught:
        train_age(options, tmp_path, device="cpu", progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kimg": 0}, "kimg must be above 0"),
        ({"lr": -1.0}, "lr must be above 0"),
        ({"sigma": 0.0}, "sigma must be above 0"),
        ({"batch": 1}, "at least 2"),
        ({"batch": 21}, "20 faces to train on.*too few for a batch of 21"),
        ({"balance": 2.0}, "between 0"),
        ({"arch": "vgg"}, "one of resnet, plain"),
        ({"half": "third"}, "one of first, second"),
        ({"widths": (8,)}, "a width and a depth"),
        ({"size": 2}, "input size"),
        ({"data": "missing.zip"}, "missing.zip"),
        ({"val": "missing.zip"}, "missing.zip"),
    ],
)
def test_impossible_options_leave_no_run_behind(options: AgeOptions, tmp_path: Path, change: dict, reason: str):
    with pytest.raises((FacegenError, FileNotFoundError), match=reason):
        train_age(replace(options, **change), tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


def test_learning_rate_rises_and_falls():
    options = AgeOptions(data="d", lr=1.0, kimg=6.4, batch=64)  # a hundred steps
    rates = [options.lr_at(step) for step in range(100)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[-1] == pytest.approx(0.01, abs=1e-6)


def test_the_run_is_listed(finished: Path):
    (run,) = find_runs(finished)
    assert run.kind == "age estimator"
    assert run.state == "finished"
    table = as_table([run])
    assert "0.08 of 0.08 kimg" in table
    assert "age estimator, resnet, first half" in table
    assert "MAE " in table


# -- bfloat16


def precision(run: Path) -> list[str]:
    return [line for line in (run / "log.txt").read_text().splitlines() if line.startswith("precision: ")]


def test_in_bfloat16_where_the_processor_has_it(
    options: AgeOptions, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert precision(finished) == ["precision: float32 (this processor has no instructions for bfloat16)"]
    monkeypatch.setenv("FACEGEN_BFLOAT16", "1")
    run = train_age(replace(options, kimg=0.04), tmp_path, device="cpu", progress=False)
    assert precision(run) == ["precision: bfloat16 where it pays (this processor has the instructions)"]
    assert {x.dtype for x in torch.load(run / "age-state.pt", weights_only=True)["network"].values()} == {
        torch.float32,
        torch.int64,
    }
    single = train_age(replace(options, kimg=0.04, fp32=True), tmp_path, device="cpu", progress=False)
    assert precision(single) == ["precision: float32 (--fp32)"]
    losses = [read_stats(folder)[0]["loss"] for folder in (single, run)]
    assert losses[0] != losses[1]
    # Four layers and a logarithm: the mean over five steps is rounded much less than one number, by 2^-9.
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    # It goes on where the processor has none.
    monkeypatch.setenv("FACEGEN_BFLOAT16", "0")
    resume_age(run, kimg=0.08, device="cpu", progress=False)
    assert precision(run)[-1] == "precision: float32 (this processor has no instructions for bfloat16)"


def test_options_of_before_are_read(options: AgeOptions, tmp_path: Path):
    run = train_age(replace(options, kimg=0.04, bf16=True), tmp_path, device="cpu", progress=False)
    assert precision(run) == ["precision: bfloat16 where it pays"]
    content = json.loads((run / "training_options.json").read_text())
    del content["fp32"]
    (run / "training_options.json").write_text(json.dumps(content))
    resume_age(run, kimg=0.08, device="cpu", progress=False)
    assert precision(run) == ["precision: bfloat16 where it pays"] * 2
    with pytest.raises(FacegenError, match="fp32 and bf16 exclude each other"):
        replace(options, fp32=True, bf16=True)
