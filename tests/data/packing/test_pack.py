"""`facegen pack`: pictures of any kind into an archive that trains, labels kept, nothing left out in silence."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from refusals import assert_refused

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.data.archive import ArchiveWriter, FaceArchive
from facegen.data.inspect import inspect_archive
from facegen.data.packing.options import PackOptions
from facegen.data.packing.pack import pack
from facegen.data.spool import spool_path
from facegen.images import encode_png


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["pack", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["pack", *map(str, arguments)])
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)  # no traceback
    return result.output


def read(archive: Path, name: str) -> dict:
    if archive.is_dir():
        return json.loads((archive / name).read_text(encoding="utf-8"))
    with zipfile.ZipFile(archive) as file:
        return json.loads(file.read(name))


def sources(archive: Path) -> dict[str, int]:
    """The label of each picture, by the file that it came from."""
    files = {face["file"]: face["source"] for face in read(archive, "facegen.json")["faces"]}
    return {files[name]: label for name, label in read(archive, "dataset.json")["labels"]}


@pytest.fixture
def odd_pictures(tmp_path, face) -> Path:
    """One face as RGBA, palette, turned by EXIF, gray, CMYK and 16 bits, with labels; one picture has none."""
    folder = tmp_path / "pics"
    (folder / "deep").mkdir(parents=True)
    wide = Image.new("RGB", (200, 128), "red")
    wide.paste(face, (36, 0))  # the middle square is the face
    wide.save(folder / "a.png")
    rgba = wide.convert("RGBA")
    rgba.putalpha(255)
    rgba.save(folder / "b.png")
    wide.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "c.png")
    turned = Image.Exif()
    turned[0x112] = 6
    wide.transpose(Image.Transpose.ROTATE_90).save(folder / "deep" / "d.png", exif=turned)
    wide.convert("L").save(folder / "e.pgm")
    wide.convert("CMYK").save(folder / "f.tif")
    Image.fromarray(np.asarray(wide.convert("L")).astype(np.uint16) * 257).save(folder / "g.png")
    wide.save(folder / "without.bmp")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("text")
    names = ["a.png", "b.png", "c.png", "deep\\d.png", "e.pgm", "f.tif", "g.png", "broken.png"]
    labels = [[name, index % 3] for index, name in enumerate(names)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


@pytest.fixture
def make_classes(tmp_path, tinted):
    """A function that writes a picture for each number, in the folder of its class."""

    def make(size: int = 16, mode: str = "RGB", **classes: int) -> Path:
        for number, (name, count) in enumerate(classes.items()):
            (tmp_path / "classes" / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                picture = tinted(number * 10 + index, size).convert(mode)
                picture.save(tmp_path / "classes" / name / f"{index}.png")
        return tmp_path / "classes"

    return make


def test_odd_pictures_and_their_labels(odd_pictures, tmp_path, face):
    archive = tmp_path / "x.zip"
    output = run(
        f"--source={odd_pictures}", f"--dest={archive}", "--width=64", "--height=64", "--transform=center-crop"
    )
    wanted = {"a.png": 0, "b.png": 1, "c.png": 2, "deep/d.png": 0, "e.pgm": 1, "f.tif": 2, "g.png": 0}
    assert sources(archive) == wanted
    for name in ("without.bmp", "broken.png", "notes.txt"):  # all others are named
        assert name in output
    faces = FaceArchive(archive)
    assert (faces.resolution, faces.channels, faces.c_dim) == (64, 3, 3)
    expected = np.asarray(face.resize((64, 64), Image.Resampling.LANCZOS), np.int16).transpose(2, 0, 1)
    gray = np.asarray(face.convert("L").resize((64, 64), Image.Resampling.LANCZOS), np.int16)[None]
    for index, source in enumerate(sorted(wanted)):
        difference = np.abs(faces.image(index) - (gray if source in {"e.pgm", "g.png"} else expected))
        assert difference.mean() < {"c.png": 8, "f.tif": 8}.get(source, 0.6), source
    assert read(archive, "facegen.json")["packed"]["resize_filter"] == "lanczos"
    assert any("lanczos" in note for note in inspect_archive(archive, progress=False).notes)
    with zipfile.ZipFile(archive) as file:  # of one kind, for readers that take no mixture
        modes = {Image.open(io.BytesIO(file.read(name))).mode for name in file.namelist() if name.endswith("png")}
    assert modes == {"RGB"}


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_packed_can_be_trained_on(make_classes, tmp_path, mode):
    folder, archive = make_classes(20, mode, cat=3, dog=2), tmp_path / "x.zip"
    run(folder, archive, "--width", 64, "--labels", "folders")
    assert FaceArchive(archive).channels == len(mode)
    assert FaceArchive(archive).class_names == ["cat", "dog"]
    assert not inspect_archive(archive, progress=False).problems
    for cond in ("true", "false"):
        given = [
            "train",
            "--data",
            archive,
            "--outdir",
            tmp_path / "runs",
            "--cfg",
            "tiny",
            "--dry-run",
            "--cond",
            cond,
        ]
        result = CliRunner().invoke(main, [*map(str, given)])
        assert result.exit_code == 0, result.output


def test_pictures_come_out_as_pillow_resizes_them(make_classes, tmp_path):
    folder = make_classes(24, cat=1)
    with Image.open(folder / "cat" / "0.png") as file:
        for name, kind in (("lanczos", Image.Resampling.LANCZOS), ("box", Image.Resampling.BOX)):
            archive = tmp_path / f"{name}.zip"
            pack(folder, archive, PackOptions(width=16, resize_filter=name), progress=False)
            assert (
                FaceArchive(archive, use_labels=False).image(0)
                == np.asarray(file.resize((16, 16), kind)).transpose(2, 0, 1)
            ).all()


def test_wide_pictures_get_black_bars(tmp_path):
    folder = tmp_path / "pics"
    folder.mkdir()
    rows = np.arange(100, dtype=np.uint8)[:, None].repeat(80, axis=1)
    Image.fromarray(rows).save(folder / "high.png")
    Image.fromarray(rows[:30]).save(folder / "low.png")  # at 64 pixels across, 24 high
    options = PackOptions(width=64, height=32, transform="center-crop-wide")
    report = pack(folder, tmp_path / "x.zip", options, progress=False)
    assert [entry["file"] for entry in report.dropped["too small"]] == ["low.png"]
    picture = FaceArchive(tmp_path / "x.zip", use_labels=False).image(0)[0]
    assert (picture[:16] == 0).all()
    assert (picture[48:] == 0).all()
    # 32 rows stand for the middle 40 of 100.
    assert np.abs(picture[16:48, 0] - (30 + (np.arange(32) + 0.5) * 40 / 32 - 0.5)).max() <= 1


def test_a_folder_of_jpeg_or_webp(make_classes, tmp_path):
    folder = make_classes(cat=2)
    run(folder, tmp_path / "jpegs", "--quality", 80)
    run(folder, tmp_path / "webps.zip", "--format", "webp")
    assert sorted(path.name for path in (tmp_path / "jpegs" / "00000").iterdir()) == [
        "img00000000.jpg",
        "img00000001.jpg",
    ]
    with zipfile.ZipFile(tmp_path / "webps.zip") as file:
        assert Image.open(io.BytesIO(file.read("00000/img00000000.webp"))).format == "WEBP"
    for archive in (tmp_path / "jpegs", tmp_path / "webps.zip"):
        assert FaceArchive(archive, use_labels=False).resolution == 16
    before = (tmp_path / "jpegs" / "00000" / "img00000000.jpg").read_bytes()
    assert "files in it" in refused(folder, tmp_path / "jpegs")
    assert "files in it" in refused(folder, tmp_path / "jpegs", "--force")
    assert (tmp_path / "jpegs" / "00000" / "img00000000.jpg").read_bytes() == before


def test_labels(make_classes, tmp_path, tinted):
    folder = make_classes(cat=2, dog=1)
    tinted(50).save(folder / "stray.png")
    archive = tmp_path / "x.zip"
    report = pack(folder, archive, labels="folders", progress=False)
    assert sources(archive) == {"cat/0.png": 0, "cat/1.png": 0, "dog/0.png": 1}
    assert [entry["file"] for entry in report.dropped["not in a class folder"]] == ["stray.png"]
    assert read(archive, "dataset.json")["classes"] == ["cat", "dog"]
    pack(archive, tmp_path / "again.zip", labels="json", progress=False)  # class names and all
    assert FaceArchive(tmp_path / "again.zip").class_names == ["cat", "dog"]

    assert "--labels folders" in run(folder, tmp_path / "none.zip")
    assert read(tmp_path / "none.zip", "dataset.json")["labels"] is None
    assert "dataset.json" in refused(folder, tmp_path / "y.zip", "--labels", "json")
    (folder / "dog" / "dataset.json").write_text('{"labels": [["0.png", 5]]}')  # a folder deeper
    pack(folder, tmp_path / "deep.zip", progress=False)
    assert sources(tmp_path / "deep.zip") == {"dog/0.png": 5}
    (folder / "cat" / "dataset.json").write_text('{"labels": [["0.png", 5]]}')
    assert "several" in refused(folder, tmp_path / "y.zip")
    (folder / "dataset.json").write_text('{"labels": [["cat/0.png", [0.5, 1.5]], ["dog/0.png", [2, 1]]]}')
    assert "vectors" in refused(folder, tmp_path / "y.zip")
    run(folder, tmp_path / "y.zip", "--labels", "none")
    assert not spool_path(tmp_path / "y.zip").exists()


def test_one_hot_labels_become_numbers(make_zip, tinted, tmp_path):
    pictures = {f"{index}.png": tinted(index) for index in range(3)}
    numbers = [[name, [int(index == wanted) for wanted in range(3)]] for index, name in enumerate(pictures)]
    path = make_zip(pictures, numbers)
    pack(path, tmp_path / "x.zip", progress=False)
    assert sources(tmp_path / "x.zip") == {"0.png": 0, "1.png": 1, "2.png": 2}


def test_ages_groups_and_alignment_are_carried_over(tmp_path, tinted):
    groups = AgeGroups.parse("0-20,21-")
    with ArchiveWriter(tmp_path / "faces.zip", groups=groups) as writer:
        writer.add_png("a.jpg", encode_png(tinted(0)), 0, 5, gender="female", person="a")
        writer.add_png("b.jpg", encode_png(tinted(1)), 1, None, ages=[30, None], glasses="yes")
    pack(tmp_path / "faces.zip", tmp_path / "small.zip", PackOptions(width=8), progress=False)
    one, other = read(tmp_path / "small.zip", "facegen.json")["faces"]
    assert (one["age"], one["gender"], one["person"]) == (5, "female", "a")
    assert (other["age"], other["ages"], other["glasses"]) == (None, [30, None], "yes")
    small = FaceArchive(tmp_path / "small.zip")
    assert (small.groups.labels, small.resolution) == (groups.labels, 8)


def test_only_the_first_pictures(make_classes, tmp_path):
    folder = make_classes(cat=4)
    (folder / "cat" / "0.png").write_bytes(b"")
    report = pack(folder, tmp_path / "x.zip", max_images=2, progress=False)
    assert [face["source"] for face in read(tmp_path / "x.zip", "facegen.json")["faces"]] == ["cat/1.png", "cat/2.png"]
    assert report.written == 2


def test_sizes_that_cannot_be_trained_on_are_refused_before_any_work(make_classes, tmp_path, tinted):
    folder = make_classes(20, cat=3)
    assert "20x20" in refused(folder, tmp_path / "x.zip")
    assert not spool_path(tmp_path / "x.zip").exists()
    for given in (
        ("--width", 20),
        ("--width", 16, "--height", 32),
        ("--transform", "center-crop-wide", "--width", 16),
        ("--quality", 90, "--format", "png"),
        ("--align",),
        ("--align", "--width", 16, "--resize-filter", "box"),
    ):
        refused(folder, tmp_path / "x.zip", *given)
    for index in range(4):
        tinted(index, 16).save(folder / "cat" / f"small{index}.png")
    report = pack(folder, tmp_path / "x.zip", progress=False)  # most are good: the others are named
    assert (report.written, len(report.dropped["another size"])) == (4, 3)


def test_an_archive_in_its_source_and_one_that_is_there(make_classes, tmp_path):
    folder = make_classes(cat=2)
    run(folder, folder / "x.zip")
    before = (folder / "x.zip").read_bytes()
    assert "--force" in refused(folder, folder / "x.zip")
    report = pack(folder, folder / "x.zip", force=True, progress=False)
    assert (folder / "x.zip").read_bytes() == before
    assert report.written == 2
    run(folder, folder / "out")
    assert "also the source" in refused(folder / "x.zip", folder / "x.zip", "--force")
    for wrong in ([], [folder], [folder, folder / "y.zip", "z.zip"]):
        assert "SOURCE" in refused(*wrong)
    assert "no such" in refused(tmp_path / "nowhere", tmp_path / "y.zip")


def test_it_goes_on_after_ctrl_c_and_a_full_disk(make_classes, tmp_path, monkeypatch):
    folder, archive = make_classes(cat=3), tmp_path / "x.zip"
    add = ArchiveWriter.add_png

    def stop(*arguments, **known):
        raise KeyboardInterrupt

    monkeypatch.setattr(ArchiveWriter, "add_png", stop)
    result = CliRunner().invoke(main, ["pack", str(folder), str(archive)])
    assert result.exit_code == 130
    assert not archive.exists()
    monkeypatch.setattr(ArchiveWriter, "add_png", add)
    monkeypatch.setattr("facegen.data.packing.pack.pack_pictures", lambda *names, **known: pytest.fail("done already"))
    assert pack(folder, archive, progress=False).written == 3
    assert not spool_path(archive).exists()

    monkeypatch.undo()

    def full(self, name, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArchiveWriter, "_put", full)
    assert_refused(str(tmp_path / "out"), pack, folder, tmp_path / "out", progress=False, error=OSError)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp") or path.name == "out"]


def test_faces_are_aligned(hopper, tmp_path):
    folder = tmp_path / "pics"
    folder.mkdir()
    hopper.save(folder / "face.png")
    Image.new("RGB", (90, 90), "gray").save(folder / "wall.png")
    output = run(folder, tmp_path / "x.zip", "--align", "--width", 64, "--quality", 90)
    assert "no face" in output
    archive = FaceArchive(tmp_path / "x.zip", use_labels=False)
    assert (len(archive), archive.resolution) == (1, 64)
    assert archive.template is not None
