"""A run that goes on with other data says so; with other age groups it does not go on."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import crops, small_generator, write_faces
from trainings import SHALLOW, assert_one_line, assert_same_weights, go_on, narrow_options

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter, FaceArchive
from facegen.errors import FacegenError
from facegen.training.age.loop import train_age
from facegen.training.age.options import AgeOptions
from facegen.training.encoder.loop import train_encoder
from facegen.training.encoder.options import EncoderOptions
from facegen.training.generator.loop import train_generator
from facegen.training.run.data import DATA
from facegen.weights.native import save_networks

GROUPS = ["0-20", "21-50", "51+"]
AGES = list(range(0, 80, 4))
OTHERS = [
    ["0-30", "31-60", "61+"],  # as many, but others
    ["0-20", "21+"],
    ["0-10", "11-20", "21-50", "51+"],
]


def write(path: Path, groups: list[str] = GROUPS, ages: list[int] = AGES) -> Path:
    return write_faces(path, ages, AgeGroups.from_labels(groups))


def write_classes(path: Path, labels: list[int]) -> Path:
    """An archive whose classes are numbers alone."""
    with ArchiveWriter(path) as writer:
        for index, label in enumerate(labels):
            writer.add(f"{index}.png", crops(len(labels), 16)[index], label=label)
    return path


def content(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write(tmp_path / "faces.zip")


@pytest.fixture
def run(archive: Path, tmp_path: Path) -> Path:
    return train_generator(narrow_options(archive, kimg=0.008), tmp_path / "runs", progress=False)


def said(run: Path) -> str:
    """What the log says of other data."""
    lines = (run / "log.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("other data"))


class TestOtherGroups:
    def assert_refused(self, run: Path, before: list[str], now: list[str], going_on) -> None:
        kept = content(run)
        with pytest.raises(FacegenError) as caught:
            going_on()
        assert_one_line(str(caught.value))
        said = str(caught.value).replace(", ", ",")
        assert ",".join(before) in said
        assert ",".join(now) in said
        assert content(run) == kept

    @pytest.mark.parametrize("groups", OTHERS)
    def test_a_generator(self, run, archive, groups):
        write(archive, groups)
        self.assert_refused(run, GROUPS, groups, lambda: go_on(run, kimg=0.016))

    def test_a_generator_given_another_archive(self, run, tmp_path):
        other = write(tmp_path / "other.zip", OTHERS[0])
        self.assert_refused(run, GROUPS, OTHERS[0], lambda: go_on(run, kimg=0.016, data=str(other)))

    def test_a_generator_of_numbered_classes(self, tmp_path):
        archive = write_classes(tmp_path / "a.zip", [0, 1] * 5)
        run = train_generator(narrow_options(archive, kimg=0.008), tmp_path / "runs", progress=False)
        write_classes(archive, [0, 1, 2, 1, 0] * 2)
        self.assert_refused(run, ["0", "1"], ["0", "1", "2"], lambda: go_on(run, kimg=0.016))

    def test_a_generator_without_labels_may(self, archive, tmp_path):
        run = train_generator(narrow_options(archive, kimg=0.008, cond=False), tmp_path / "runs", progress=False)
        write(archive, OTHERS[0])
        go_on(run, kimg=0.016)
        assert not said(run)

    def test_an_encoder(self, archive, tmp_path):
        made = small_generator(len(GROUPS))
        save_networks(tmp_path / "g.safetensors", {"G_ema": made}, {"groups": GROUPS})
        words = {"recipe": "real", "data": str(archive), "pairs": 20, "batch": 4, **SHALLOW, "epochs": 1}
        options = EncoderOptions(str(tmp_path / "g.safetensors"), **words)
        run = train_encoder(options, tmp_path / "runs", device="cpu", progress=False)
        write(archive, OTHERS[0])
        more = replace(options, epochs=2)
        self.assert_refused(
            run, GROUPS, OTHERS[0], lambda: train_encoder(more, resume=run, device="cpu", progress=False)
        )

    @pytest.mark.parametrize("option", ["data", "val"])
    def test_an_age_estimator(self, archive, tmp_path, option):
        write(tmp_path / "val.zip")
        small = {"widths": (8, 12), "depths": (1, 1), "size": 16, "batch": 8, "snap": 0.04}
        options = AgeOptions(data=str(archive), val=str(tmp_path / "val.zip"), kimg=0.04, **small)
        run = train_age(options, tmp_path / "runs", device="cpu", progress=False)
        write(Path(getattr(options, option)), OTHERS[0])
        more = replace(options, kimg=0.08)
        self.assert_refused(run, GROUPS, OTHERS[0], lambda: train_age(more, resume=run, device="cpu", progress=False))


class TestOtherPictures:
    def test_more_of_them_is_a_line_in_the_log(self, run, archive):
        write(archive, ages=[*AGES, 30, 50])
        go_on(run, kimg=0.016)
        assert_one_line(said(run))
        assert "22" in said(run)
        assert "20" in said(run)
        go_on(run, kimg=0.024)  # with the same: nothing new
        assert_one_line(said(run))

    def test_another_picture(self, run, archive):
        with zipfile.ZipFile(archive) as file:
            entries = {name: file.read(name) for name in file.namelist()}
        pictures = [name for name in entries if name.endswith(".png")]
        entries[pictures[3]] = entries[pictures[7]]
        with zipfile.ZipFile(archive, "w") as file:
            for name, data in entries.items():
                file.writestr(name, data)
        go_on(run, kimg=0.016)
        assert_one_line(said(run))

    def test_other_labels_of_the_same_pictures(self, run, archive):
        write(archive, ages=[*AGES[:10], *reversed(AGES[10:])])
        go_on(run, kimg=0.016)
        assert_one_line(said(run))

    def test_the_same_in_another_place_or_as_a_folder_is_no_other(self, run, archive, tmp_path):
        with zipfile.ZipFile(archive) as file:
            file.extractall(tmp_path / "folder")
        moved = archive.rename(tmp_path / "moved.zip")
        go_on(run, kimg=0.016, data=str(moved))
        go_on(run, kimg=0.024, data=str(tmp_path / "folder"))
        assert not said(run)

    def test_a_picture_of_the_same_size_in_bytes_changes_the_digest(self, archive, tmp_path):
        with zipfile.ZipFile(archive) as file:
            file.extractall(tmp_path / "folder")
        before = FaceArchive(tmp_path / "folder").digest()
        picture = sorted((tmp_path / "folder").rglob("*.png"))[5]
        data = bytearray(picture.read_bytes())
        data[-1] ^= 1  # the checksum of its last, empty chunk
        picture.write_bytes(bytes(data))
        assert FaceArchive(archive).digest() == before
        assert FaceArchive(tmp_path / "folder").digest() != before


@pytest.mark.parametrize("note", [None, b'{"data": {"classes": ["0', b"[]", b'{"data": 3}'])
def test_a_run_that_noted_nothing_goes_on_and_notes_it(run, archive, tmp_path, note):
    """As one of the version before, or one whose note is damaged."""
    whole = shutil.copytree(run, tmp_path / "whole")
    (run / DATA).unlink()
    if note is not None:
        (run / DATA).write_bytes(note)
    go_on(run, kimg=0.016)
    go_on(whole, kimg=0.016)
    assert_same_weights(run, whole)
    assert (run / DATA).read_bytes() == (whole / DATA).read_bytes()
