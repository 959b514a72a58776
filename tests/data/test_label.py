from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from refusals import assert_refused

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.data.archive import FaceArchive
from facegen.data.label import label_folder, sort_classes


@pytest.fixture
def make_folder(tmp_path, tinted):
    """A function: class name -> number of pictures; makes the folder of class folders."""

    def make(**counts):
        root = tmp_path / "faces"
        for number, (name, count) in enumerate(counts.items()):
            (root / name).mkdir(parents=True)
            for index in range(count):
                tinted(10 * number + index).save(root / name / f"{index}.png")
        return root

    return make


def stored(folder):
    return json.loads((folder / "dataset.json").read_text())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["100+", "11-20", "0-10", "91-100"], ["0-10", "11-20", "91-100", "100+"]),
        (["10", "9", "old"], ["10", "9", "old"]),  # not all are numbers: by name
        (["young", "adult"], ["adult", "young"]),
        (["1", "01"], ["01", "1"]),
        ([], []),
    ],
)
def test_order_of_classes(names, expected):
    assert sort_classes(names) == expected
    assert sort_classes(names[::-1]) == expected


def test_folder_becomes_an_archive(make_folder):
    folder = make_folder(**{"9": 1, "10": 2, "1": 3})
    report = label_folder(folder, progress=False)
    assert report.classes == ["1", "9", "10"]
    assert report.counts == {"1": 3, "9": 1, "10": 2}
    assert report.is_trainable
    content = stored(folder)
    assert content["classes"] == ["1", "9", "10"]
    assert ["10/1.png", 2] in content["labels"]
    assert len(content["labels"]) == 6
    archive = FaceArchive(folder)
    assert (archive.c_dim, archive.class_names, archive.groups) == (3, ["1", "9", "10"], None)
    assert dict(zip(archive.file_names, archive.labels.tolist(), strict=True)) == {
        "1/0.png": 0, "1/1.png": 0, "1/2.png": 0, "9/0.png": 1, "10/0.png": 2, "10/1.png": 2,
    }  # fmt: skip


def test_folders_named_as_age_groups_give_age_groups(make_folder):
    folder = make_folder(**{"61-": 1, "0-10": 2, "11-60": 1})
    result = CliRunner().invoke(main, ["label", str(folder)])
    assert result.stdout.splitlines() == [
        "  0  0-10         2",
        "  1  11-60        1",
        "  2  61-          1",
        f"{folder / 'dataset.json'}: 4 pictures in 3 classes",
    ]
    assert FaceArchive(folder).groups == AgeGroups.parse("0-10,11-60,61-")


def test_pictures_deep_in_a_class(make_folder, tinted):
    folder = make_folder(a=1)
    (folder / "b" / "x" / "y").mkdir(parents=True)
    tinted(0).save(folder / "b" / "x" / "y" / "z.png")
    label_folder(folder, progress=False)
    assert stored(folder)["labels"] == [["a/0.png", 0], ["b/x/y/z.png", 1]]


def test_whatever_gets_no_label_is_reported(make_folder, tinted):
    folder = make_folder(a=2, b=1)
    (folder / "empty").mkdir()
    (folder / "only_text").mkdir()
    (folder / "only_text" / "notes.txt").write_text("x")
    (folder / "broken").mkdir()
    (folder / "broken" / "0.png").write_bytes(b"")
    (folder / "a" / "truncated.png").write_bytes((folder / "a" / "0.png").read_bytes()[:100])
    (folder / ".ipynb_checkpoints").mkdir()
    tinted(0).save(folder / "stray.png")
    (folder / "README.md").write_text("x")
    report = label_folder(folder, progress=False)
    assert report.classes == ["a", "b"]
    assert report.empty == ["broken", "empty", "only_text"]
    assert report.stray == ["README.md", "stray.png"]
    assert report.not_pictures == ["only_text/notes.txt"]
    assert sorted(report.unreadable) == ["a/truncated.png", "broken/0.png"]
    assert "zero bytes" in report.unreadable["broken/0.png"]
    archive = FaceArchive(folder)
    assert archive.file_names == ["a/0.png", "a/1.png", "b/0.png"]

    again = label_folder(folder, progress=False)  # its own dataset.json is not a stray file
    assert again == report

    result = CliRunner().invoke(main, ["label", str(folder)])
    assert result.exit_code == 0
    for line in (
        "no picture in empty, so it is not a class",
        "not in a class folder, left out: stray.png",
        "not a picture, left out: only_text/notes.txt",
        "unreadable, left out: broken/0.png: the file is empty (zero bytes)",
    ):
        assert line in result.stdout.splitlines()


def test_sizes_that_cannot_be_trained_on_are_told(make_folder, tinted):
    folder = make_folder(a=1)
    tinted(0, 20).save(folder / "a" / "odd.png")
    assert not label_folder(folder, progress=False).is_trainable
    result = CliRunner().invoke(main, ["label", str(folder)])
    assert "sizes are 16x16, 20x20" in result.output
    assert "odd.png" in assert_refused("different size: ", FaceArchive, folder)


def test_refused(make_folder, tmp_path, tinted):
    folder = make_folder(a=0)
    assert_refused("no pictures in subfolders", label_folder, folder)
    tinted(0).save(folder / "x.png")
    assert_refused("no pictures in subfolders", label_folder, folder)
    assert_refused("is not a folder", label_folder, folder / "x.png")
    assert_refused("nowhere", label_folder, tmp_path / "nowhere", error=FileNotFoundError)
    (folder / "facegen.json").write_text("{}")
    assert_refused("is a prepared archive", label_folder, folder)
    assert not (folder / "dataset.json").exists()


@pytest.mark.parametrize("text", ['{"labels": [["a/0.png", 7]]}', '{"labels": null}', "[]", "no JSON", ""])
def test_labels_from_elsewhere_are_kept(make_folder, text):
    folder = make_folder(a=1, b=1)
    (folder / "dataset.json").write_text(text)
    result = CliRunner().invoke(main, ["label", str(folder)])
    assert result.exit_code == 1
    assert f"{folder / 'dataset.json'}: already exists" in result.output
    assert "--force" in result.output
    assert (folder / "dataset.json").read_text() == text
    assert CliRunner().invoke(main, ["label", str(folder), "--force"]).exit_code == 0
    assert stored(folder)["labels"] == [["a/0.png", 0], ["b/0.png", 1]]
    assert CliRunner().invoke(main, ["label", str(folder)]).exit_code == 0  # nothing is lost


def test_its_own_labels_are_kept_too_when_they_are_others_now(make_folder, tinted):
    folder = make_folder(a=1, b=1)
    label_folder(folder, progress=False)
    before = (folder / "dataset.json").read_text()
    tinted(5).save(folder / "a" / "more.png")
    assert_refused("--force", label_folder, folder, progress=False)
    assert (folder / "dataset.json").read_text() == before
    label_folder(folder, force=True, progress=False)
    assert len(stored(folder)["labels"]) == 3
