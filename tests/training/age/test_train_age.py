from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import crops, write_faces, write_lite
from refusals import assert_refused
from trainings import interrupted_at

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.data.archive import ArchiveWriter
from facegen.images import encode_png, to_float
from facegen.networks.age_estimator import AGES, AgeEstimator
from facegen.training.age import loop as training
from facegen.training.age.data import AgedFaces, age_targets, errors_by_group, errors_by_sex, half_of, load_aged_faces
from facegen.training.age.distort import distort
from facegen.training.age.loop import age_loss, predict_ages, train_age
from facegen.training.age.options import AgeOptions
from facegen.training.generator.batches import picture_weights
from facegen.training.run.folder import read_options, read_stats
from facegen.training.run.list import as_table, find_runs
from facegen.weights.load import load_age_estimator

SMALL = {"widths": (8, 12), "depths": (1, 1), "size": 16}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("data") / "aged.zip", [2 * i for i in range(40)])


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("data") / "held.zip", [5, 25, 26, 45, 75])


@pytest.fixture(scope="module")
def options(archive: Path, held: Path) -> AgeOptions:
    """Ten steps of eight pictures, validated after five and ten."""
    return AgeOptions(
        data=str(archive), val=str(held), half="first", kimg=0.08, batch=8, snap=0.04, license="none", **SMALL
    )


@pytest.fixture(scope="module")
def finished(options: AgeOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_age(options, tmp_path_factory.mktemp("runs"), device="cpu", progress=False)


def test_who_watches_is_told_and_nothing_is_printed(options: AgeOptions, tmp_path: Path, capfd: pytest.CaptureFixture):
    moments = []
    train_age(options, tmp_path, device="cpu", watch=lambda run: moments.append(len(read_stats(run))))
    assert moments[0] == 1
    assert moments[-1] == 2
    assert capfd.readouterr() == ("", "")


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
    assert_refused("one of first, second, got 'third'", half_of, 10, "third")


def test_faces_are_read_with_their_ages_at_the_wanted_size(archive: Path):
    same, larger = load_aged_faces(archive, 16, progress=False), load_aged_faces(archive, 32, progress=False)
    assert same.images.shape == (40, 3, 16, 16)
    assert same.images.dtype == larger.images.dtype == torch.uint8
    assert larger.images.shape == (40, 3, 32, 32)
    assert same.ages.tolist() == [2 * i for i in range(40)]
    # The mean survives the resizing, but for rounding.
    torch.testing.assert_close(larger.images.float().mean(), same.images.float().mean(), atol=0.5, rtol=0)


def test_faces_without_an_age_are_left_out(tmp_path: Path):
    path = write_faces(tmp_path / "some.zip", [None, 30, None, 40])
    assert load_aged_faces(path, 16, progress=False).ages.tolist() == [30, 40]


def test_gray_faces(tmp_path: Path):
    with ArchiveWriter(tmp_path / "gray.zip", groups=AgeGroups.default()) as writer:
        for picture in crops(3, 16):
            writer.add("face.jpg", picture.convert("L"), label=3, age=33)
    assert load_aged_faces(tmp_path / "gray.zip", 16, progress=False).images.shape == (3, 3, 16, 16)


def test_an_archive_without_exact_ages_is_refused(tmp_path: Path):
    path = write_faces(tmp_path / "labels.zip", [None] * 3)
    assert_refused("labels.zip: it has no exact ages", load_aged_faces, path, 16, progress=False)


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


def test_errors_by_sex_leave_out_unknown_ones():
    faces = AgedFaces(torch.zeros(4, 3, 4, 4, dtype=torch.uint8), torch.tensor([20, 30, 40, 50]), AgeGroups.default())
    predicted = torch.tensor([24.0, 28.0, 41.0, 90.0])
    assert errors_by_sex(predicted, faces) == {}
    faces.sexes = np.array(["female", "female", "male", ""])
    table = errors_by_sex(predicted, faces)
    assert table == {
        "female": {"faces": 2, "mae": 3.0, "bias": 1.0},
        "male": {"faces": 1, "mae": 1.0, "bias": 1.0},
    }
    assert errors_by_sex(predicted[1:3], faces.part(slice(1, 3)))["female"] == {"faces": 1, "mae": 2.0, "bias": -2.0}


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


@pytest.fixture(scope="module")
def started(options: AgeOptions, tmp_path_factory: pytest.TempPathFactory) -> AgeOptions:
    """A run that starts from the weights of a classifier."""
    widths, depths = (4, 8, 12), (1, 1, 1)
    init = write_lite(tmp_path_factory.mktemp("lite") / "lite.pth", widths, (1, 2, 2))
    return replace(options, arch="lite", init=str(init), widths=widths, depths=depths)


def test_the_first_stages_stay_as_the_classifier_has_them(started: AgeOptions, tmp_path: Path):
    before = training.build(started, torch.device("cpu")).network.state_dict()
    run = train_age(started, tmp_path, device="cpu", progress=False)
    network, header = load_age_estimator(run)
    assert header["training_options"]["init"] == "lite.pth"
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name].half().float(), after[name])}
    assert {name for name in before if name.startswith(("stages.2", "head"))} == changed


def test_from_a_classifier_it_goes_on_to_the_bit_without_its_file(started: AgeOptions, tmp_path: Path):
    whole = train_age(started, tmp_path / "whole", device="cpu", progress=False)
    init = tmp_path / "lite.pth"
    init.write_bytes(Path(started.init).read_bytes())
    with interrupted_at(3):
        run = train_age(replace(started, init=str(init)), tmp_path / "parts", device="cpu", progress=False)
    init.unlink()
    train_age(read_options(run, AgeOptions), resume=run, device="cpu", progress=False)
    one, other = (torch.load(folder / training.STATE, weights_only=True) for folder in (whole, run))
    for name in ("network", "average"):
        torch.testing.assert_close(one[name], other[name], atol=0, rtol=0)


def test_a_wrong_start_is_refused(started: AgeOptions, tmp_path: Path):
    assert_refused("init is for the arch lite, got plain", replace, started, arch="plain")
    with pytest.raises(FileNotFoundError, match="there is no such"):
        train_age(replace(started, init=str(tmp_path / "nowhere.pth")), tmp_path / "runs", device="cpu", progress=False)
    other = replace(started, widths=(4, 8, 16))
    assert_refused("no EfficientNet-Lite of these widths", train_age, other, tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_the_file_tells_of_women_and_men(options: AgeOptions, tmp_path: Path):
    with ArchiveWriter(tmp_path / "sexes.zip", groups=AgeGroups.default()) as writer:
        for index, face in enumerate(crops(6, 16)):
            sex = {"gender": ("female", "male", "male")[index % 3]}
            writer.add_png(f"{index}.png", encode_png(face), label=2, age=21 + index, **sex)
    run = train_age(replace(options, val=str(tmp_path / "sexes.zip")), tmp_path, device="cpu", progress=False)
    table = load_age_estimator(run)[1]["val_by_sex"]
    assert {sex: row["faces"] for sex, row in table.items()} == {"female": 2, "male": 4}
    shown = CliRunner().invoke(main, ["info", str(run)]).output
    assert f"female: {table['female']['mae']}, male: {table['male']['mae']})" in shown


def test_log_and_statistics(finished: Path):
    assert finished.name == "00000-age-resnet-aged-first"
    log = (finished / "log.txt").read_text()
    assert "20 faces to train on, 5 to validate" in log
    assert "done: best validation MAE" in log
    lines = read_stats(finished)
    assert [line["step"] for line in lines] == pytest.approx([0.04, 0.08])
    assert all(line["val_mae"] > 0 and line["loss"] > 0 for line in lines)


def test_the_file_tells_what_it_is(finished: Path, archive: Path, held: Path):
    network, header = load_age_estimator(finished)
    best = min(line["val_mae"] for line in read_stats(finished))
    assert header["val_mae"] == pytest.approx(best, abs=1e-3)
    assert header["val_faces"] == 5
    assert header["training_faces"] == 20
    assert header["license"] == "none"
    assert header["groups"] == AgeGroups.default().labels
    assert "val_by_sex" not in header  # the archive knows none
    assert set(header["val_by_group"]) == {"0-10", "21-30", "41-50", "71-80"}
    told = header["training_options"]
    expected = {"data": "aged.zip", "val": "held.zip", "half": "first", "arch": "resnet", "seed": 0}
    assert {name: told[name] for name in expected} == expected
    # The file, read again, makes the very error that it tells of.
    faces = load_aged_faces(held, 16, progress=False)
    error = (predict_ages(network, faces.images) - faces.ages).abs().mean()
    assert float(error) == pytest.approx(best, abs=1e-3)


def test_without_an_archive_to_validate_a_tenth_is_held_back(options: AgeOptions, archive: Path):
    data = training.load_data(replace(options, val=None, half=None), progress=False)
    assert len(data.training) == 36
    assert len(data.validation) == 4
    assert not set(data.training.ages.tolist()) & set(data.validation.ages.tolist())


def test_both_halves_validate_on_the_same_pictures(options: AgeOptions):
    one = training.load_data(replace(options, val=None, half="first"), progress=False)
    other = training.load_data(replace(options, val=None, half="second"), progress=False)
    assert one.validation.ages.tolist() == other.validation.ages.tolist()
    assert not set(one.training.ages.tolist()) & set(other.training.ages.tolist())


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


def test_what_info_tells_of_it(finished: Path):
    result = CliRunner().invoke(main, ["info", str(finished)])
    assert result.exit_code == 0, result.output
    for words in ("AgeEstimator, resnet of widths [8, 12], input 16x16", "which half   first", "MAE ", "float16"):
        assert words in result.output


def test_the_command_refuses_an_archive_without_ages_in_one_line(tmp_path: Path):
    archive = write_faces(tmp_path / "labels.zip", [None] * 3)
    result = CliRunner().invoke(main, ["train-age", "--data", str(archive), "--outdir", str(tmp_path / "runs")])
    assert result.exit_code == 1
    assert result.output.strip().splitlines()[-1].startswith("Error: ")
    assert "no exact ages" in result.output
    assert not (tmp_path / "runs").exists()


def test_options_of_before_are_read(options: AgeOptions, tmp_path: Path):
    run = train_age(replace(options, kimg=0.04, bf16=True), tmp_path, device="cpu", progress=False)
    content = json.loads((run / "training_options.json").read_text())
    del content["fp32"]
    (run / "training_options.json").write_text(json.dumps(content))
    train_age(replace(read_options(run, AgeOptions), kimg=0.08), resume=run, device="cpu", progress=False)
    assert (run / "log.txt").read_text().count("precision: bfloat16 where it pays\n") == 2
    assert_refused("fp32 and bf16 exclude each other", replace, options, fp32=True, bf16=True)
