from __future__ import annotations

import json
import shutil
import signal
import time
import zipfile
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import start_python
from PIL import Image
from refusals import assert_refused

from facegen import images as pictures
from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.container import Container
from facegen.data import prepare as prepare_module
from facegen.data.archive import FaceArchive
from facegen.data.assemble import report_path
from facegen.data.options import Choice, CropOptions
from facegen.data.prepare import prepare, spool_path
from facegen.data.shards import merge
from facegen.data.sources.named_files import UtkFace

AGES = (3, 15, 26, 38, 45, 77, 101)


@pytest.fixture(scope="module", autouse=True)
def few_faces_to_measure():
    """Measure the alignment on 20 faces instead of 200: MTCNN takes most of the time here."""
    patch = pytest.MonkeyPatch()
    patch.setattr("facegen.data.assemble.TEMPLATE_FACES", 20)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, face, tinted):
    """UTKFace as people have it: good pictures in two folders, and everything that can be wrong with a file."""
    root = tmp_path_factory.mktemp("source") / "UTKFace"
    (root / "part2").mkdir(parents=True)
    for index, age in enumerate(AGES):
        place = root if index % 2 else root / "part2"
        tinted(index, 128).save(place / f"{age}_1_0_2017011017{index:04d}.jpg.chip.jpg", "JPEG", quality=95)
    face.convert("L").save(root / "50_0_1_20170110170001.png")
    face.crop((0, 10, 128, 118)).save(root / "51_0_1_20170110170002.webp")
    face.resize((40, 40)).save(root / "52_0_1_20170110170003.png")
    good = (root / "15_1_0_20170110170001.jpg.chip.jpg").read_bytes()
    (root / "60_0_0_20170110170001.jpg").write_bytes(good[: len(good) // 2])
    (root / "61_0_0_20170110170002.jpg").write_bytes(b"")
    (root / "62_0_0_20170110170003.jpg").write_text("<html>404</html>")
    (root / "61_1_20170109142408075.jpg.chip.jpg").write_bytes(good)
    (root / "Thumbs.db").write_bytes(b"x")
    (root / ".DS_Store").write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    """(report, archive path) of the folder at 64x64."""
    path = tmp_path_factory.mktemp("prepared") / "faces64.zip"
    return prepare(folder, path, progress=False), path


def test_archive_holds_every_good_face(prepared):
    report, path = prepared
    archive = FaceArchive(path)
    assert (len(archive), archive.resolution, archive.channels, archive.c_dim) == (9, 64, 3, 10)
    assert archive.groups == AgeGroups.default()
    assert sorted(archive.ages.tolist()) == sorted([*AGES, 50, 52])
    assert archive.labels.tolist() == [archive.groups.index_of(age) for age in archive.ages]
    assert (report.read, report.written) == (15, 9)
    assert report.archives[0]["groups"] == {
        "0-10": 1, "11-20": 1, "21-30": 1, "31-40": 1, "41-50": 2, "51-60": 1, "61-70": 0, "71-80": 1,
        "81-90": 0, "91-100": 1,
    }  # fmt: skip


def test_pictures_are_the_sources_made_small(prepared, face, tinted):
    archive = FaceArchive(prepared[1])
    images = archive.load_all(progress=False).astype(int)
    for age, original in ((15, tinted(1, 64)), (50, face.convert("L").convert("RGB").resize((64, 64)))):
        found = images[archive.ages.tolist().index(age)].transpose(1, 2, 0)
        # JPEG and two filters differ by a few levels; another face or a shift by a pixel, by 10 and more.
        assert np.abs(found - np.asarray(original)).mean() < 4


def test_alignment_is_measured_and_kept(prepared):
    report, path = prepared
    template = FaceArchive(path).template
    assert template is not None
    assert template.to_json() == report.template
    # The fixture's crop puts her eyes where aligned data sets have them; MTCNN finds them to within a few percent.
    points = np.array(report.template)
    np.testing.assert_allclose(points[:2], [[0.30, 0.29], [0.69, 0.29]], atol=0.06)
    assert ((points > 0) & (points < 1)).all()
    assert points[0, 0] < points[2, 0] < points[1, 0]  # left eye, nose, right eye
    assert points[0, 1] < points[2, 1] < points[3, 1]  # eye, nose, mouth


def test_every_file_left_out_is_reported(prepared):
    report, path = prepared
    listed = {reason: sorted(entry["file"] for entry in files) for reason, files in report.dropped.items()}
    assert listed == {
        "unreadable picture": [f"{60 + i}_0_0_2017011017000{1 + i}.jpg" for i in range(3)],
        "name not understood": ["61_1_20170109142408075.jpg.chip.jpg"],
        "not a picture file": ["Thumbs.db"],
        "not square": ["51_0_1_20170110170002.webp"],
    }
    assert report.drop_counts == {reason: len(files) for reason, files in listed.items()}
    assert next(iter(report.drop_counts)) == "unreadable picture"
    assert "--crop center" in report.dropped["not square"][0]["detail"]
    assert report.notes == {"enlarged": ["52_0_1_20170110170003.png"]}
    stored = json.loads(report_path(path).read_text())
    assert stored["dropped"] == report.dropped
    assert (stored["read"], stored["written"], stored["archives"]) == (15, 9, report.archives)
    assert stored["archives"][0]["genders"] == {"female": 7, "male": 2, "unknown": 0}
    page = report_path(path, ".html").read_text()
    assert "61_1_20170109142408075.jpg.chip.jpg" in page


def test_exact_ages_and_names_are_kept(prepared):
    with zipfile.ZipFile(prepared[1]) as archive:
        faces = json.loads(archive.read("facegen.json"))["faces"]
    assert [face["source"] for face in faces] == sorted(face["source"] for face in faces)
    assert [face["file"] for face in faces] == [f"00000/img{index:08d}.png" for index in range(9)]
    assert [face["age"] for face in faces] == [int(face["source"].rsplit("/", 1)[-1].split("_")[0]) for face in faces]
    assert "part2/3_1_0_20170110170000.jpg.chip.jpg" in [face["source"] for face in faces]


def test_zip_gives_the_same_archive_byte_for_byte(prepared, folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "source.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    prepare(tmp_path / "source.zip", tmp_path / "again.zip", progress=False)
    assert (tmp_path / "again.zip").read_bytes() == prepared[1].read_bytes()


def test_other_groups_leave_out_and_report(folder, tmp_path):
    groups = AgeGroups.parse("10-19,40-")
    report = prepare(folder, tmp_path / "a.zip", groups=groups, crop=CropOptions("as-is", 32), progress=False)
    assert report.archives[0]["groups"] == {"10-19": 1, "40+": 5}
    outside = report.dropped["age outside the groups"]
    assert {entry["detail"] for entry in outside} == {"age 3", "age 26", "age 38"}
    archive = FaceArchive(tmp_path / "a.zip")
    assert archive.groups == groups
    assert (archive.resolution, archive.c_dim) == (32, 2)


@pytest.mark.parametrize("resolution", [0, 1, 2, 48, 100, -64, 8192, 2**60])
def test_resolution_must_be_a_power_of_two(resolution):
    assert_refused("resolution", CropOptions, "as-is", resolution)


def test_nothing_usable_writes_nothing(tmp_path):
    source, path = tmp_path / "source", tmp_path / "a.zip"
    source.mkdir()
    assert_refused("no usable face in it (it holds no files)", prepare, source, path, source=UtkFace(), progress=False)
    (source / "26_0_0_20170110170001.jpg").write_bytes(b"")
    (source / "cat.jpg").write_bytes(b"broken")
    message = assert_refused("1 x name not understood, ", prepare, source, path, source=UtkFace(), progress=False)
    assert "1 x unreadable picture, first '26_0_0_20170110170001.jpg': " in message
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_source_must_be_there_and_not_the_archive(folder, tmp_path, prepared):
    assert_refused("no such", prepare, tmp_path / "nowhere", tmp_path / "a.zip", error=FileNotFoundError)
    assert_refused("is also the source", prepare, prepared[1], prepared[1], source=UtkFace())
    assert_refused("must end in .zip", prepare, folder, tmp_path / "archive")
    assert_refused("the name has 244 bytes", prepare, folder, tmp_path / f"{'x' * 240}.zip")  # no room for the report
    assert list(tmp_path.iterdir()) == []


def test_pictures_without_a_face_have_no_template(tmp_path):
    source = tmp_path / "noise"
    source.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        noise = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(source / f"2{index}_0_0_20170110170001.png")
    result = CliRunner().invoke(main, ["prepare", str(source), str(tmp_path / "a.zip")])
    assert result.exit_code == 0, result.output
    assert "no faces were found to measure the alignment on" in result.output
    assert FaceArchive(tmp_path / "a.zip").template is None


# --- the command ---


def test_command_prints_counts_and_what_was_left_out(folder, tmp_path):
    path = tmp_path / "faces.zip"
    arguments = ["prepare", str(folder), str(path), "--resolution", "32", "--crop", "center"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{folder}: UTKFace (Zhang et al. 2017), aligned and cropped (--source utkface)"
    assert lines[1] == f"{path}: 10 faces"
    assert "   41-50        2  <- few" in lines
    assert "   61-70        0  <- no face: this class cannot be learned" in lines
    assert any(line.startswith("dropped 3: unreadable picture (first: 60_0_0_20170110170001.jpg; ") for line in lines)
    assert "enlarged" not in result.stdout  # the smallest is 40x40
    assert "note on 1: cut to a square (first: 51_0_1_20170110170002.webp)" in lines
    assert lines[-2:] == ["10 of 15 written, 32x32", f"look at {path}.report.html"]
    assert len(FaceArchive(path)) == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--groups", "0-10,5-20"], "Error: age groups 0-10 and 5-20 overlap"),
        (["--groups", "old"], "Error: 'old' is not an age group"),
        (["--groups", ""], "Error: no age groups given"),
        (["--resolution", "100"], "Error: resolution is 100"),
        (["--source", "imdb-wiki", "--age-column", "x"], "Error: --age-column is not an option of imdb-wiki"),
        (["--shard", "3/2"], "Error: --shard is 3/2"),
        (["--max-per-group", "0"], "Error: max-per-group must be at least 1"),
        (["--shard", f"1/{10**30}"], "Error: --shard is 1/1000"),
        (["--shard", "x"], "Error: --shard is x"),
        (["--crop", "as-is", "--max-turn", "30"], "Error: max-turn looks for faces"),
        (["--seed", "9" * 90], "Error: seed must have"),
    ],
)
def test_command_refuses_in_one_line(folder, tmp_path, options, words):
    result = CliRunner().invoke(main, ["prepare", str(folder), str(tmp_path / "a.zip"), *options])
    assert result.exit_code == 1
    assert words in result.output
    assert result.output.count("\n") == 1


def test_a_wrong_split_is_refused(folder, tmp_path):
    result = CliRunner().invoke(main, ["prepare", str(folder), str(tmp_path / "a.zip"), "--split", "train=0.9"])
    assert result.exit_code == 2
    assert "'--split': the shares of train=0.9" in result.output


def test_a_split_without_a_face_is_refused(folder, tmp_path):
    choice = Choice(split=(("a", 0.999), ("b", 0.001)))
    assert_refused("--split b gets no face", prepare, folder, tmp_path / "a.zip", choice=choice, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip.partial"]


# --- stopped and resumed ---


@pytest.fixture(scope="module")
def many(tmp_path_factory, face):
    """600 pictures, each with bytes of its own: a PNG with a number behind its end."""
    source = tmp_path_factory.mktemp("many")
    png = pictures.encode_png(face)
    for index in range(600):
        (source / f"{index % 90}_0_0_{index:08d}.png").write_bytes(png + index.to_bytes(4, "big"))
    return source


@pytest.fixture(scope="module")
def whole(many, tmp_path_factory):
    """The archive that an undisturbed run makes of `many`."""
    path = tmp_path_factory.mktemp("whole") / "whole.zip"
    prepare(many, path, crop=CropOptions("as-is", 32), progress=False)
    return path


def start(source, archive):
    return start_python("-m", "facegen", "prepare", str(source), str(archive), "--resolution", "32")


def wait_for_pictures(archive, count):
    """Wait until so many pictures are done."""
    outcomes = spool_path(archive) / "outcomes.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if outcomes.exists() and outcomes.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    raise AssertionError("nothing was prepared in a minute")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_where_it_was(many, whole, tmp_path, number, monkeypatch):
    archive = tmp_path / "out" / "a.zip"
    process = start(many, archive)
    wait_for_pictures(archive, 1)  # early: a fast machine is done with all 600 in half a second
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in errors, output + errors
    assert [path.name for path in archive.parent.iterdir()] == ["a.zip.partial"]
    if number == signal.SIGINT:
        assert "run the same command again to continue" in errors
    done = (spool_path(archive) / "outcomes.jsonl").read_bytes().count(b"\n")

    cropped = []
    crop_pictures = prepare_module.crop_pictures
    monkeypatch.setattr(
        prepare_module, "crop_pictures", lambda names, *more: cropped.extend(names) or crop_pictures(names, *more)
    )
    prepare(many, archive, crop=CropOptions("as-is", 32), progress=False)
    assert len(cropped) == 600 - done
    assert {path.name for path in archive.parent.iterdir()} == {"a.zip", "a.zip.report.html", "a.zip.report.json"}
    assert archive.read_bytes() == whole.read_bytes()


def stop_before_the_archive(*arguments, at="facegen.data.archive.ArchiveWriter.add_png", **options):
    """A run that fails when all pictures are done."""
    full_disk = mock.Mock(side_effect=OSError(28, "No space left on device"))
    with mock.patch(at, full_disk), pytest.raises(OSError, match="No space"):
        prepare(*arguments, progress=False, **options)


def test_going_on_with_other_options_is_refused(folder, tmp_path):
    path = tmp_path / "a.zip"
    stop_before_the_archive(folder, path, crop=CropOptions("as-is", 32))
    assert_refused("other options", prepare, folder, path, crop=CropOptions("as-is", 64), progress=False)
    # What chooses among pictures may change: the pictures are the same.
    report = prepare(folder, path, crop=CropOptions("as-is", 32), choice=Choice(max_per_group=1), progress=False)
    assert report.written == 8


def test_an_archive_that_is_there_stays_until_the_new_one_is_whole(prepared, folder, tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"the old one")
    assert_refused("a.zip: already exists", prepare, folder, path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
    stop_before_the_archive(folder, path, force=True)
    assert path.read_bytes() == b"the old one"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "a.zip.partial"]
    prepare(folder, path, progress=False)  # it goes on, and need not be told
    assert path.read_bytes() == prepared[1].read_bytes()


def test_a_run_stopped_before_its_report_goes_on(prepared, folder, tmp_path):
    path = tmp_path / "a.zip"
    stop_before_the_archive(folder, path, at="facegen.data.prepare.write_report_files")
    assert path.exists()
    prepare(folder, path, progress=False)
    assert path.read_bytes() == prepared[1].read_bytes()
    assert not spool_path(path).exists()


def test_finished_archives_are_not_replaced_unasked(folder, tmp_path):
    run = lambda *more: CliRunner().invoke(main, [str(argument) for argument in more])  # noqa: E731
    for number in (1, 2):
        prepare(folder, tmp_path / f"{number}.zip", crop=CropOptions("as-is", 16), shard=(number, 2), progress=False)
    split = tmp_path / "faces-val.zip"
    split.write_bytes(b"mine")
    merged = tmp_path / "merged.zip"
    merged.write_bytes(b"mine")
    for path, command in (
        (split, ["prepare", folder, tmp_path / "faces.zip", "--split", "train=0.5,val=0.5"]),
        (merged, ["merge", tmp_path / "1.zip", tmp_path / "2.zip", merged]),
        (tmp_path / "1.zip", ["prepare", folder, tmp_path / "1.zip", "--shard", "1/2"]),
    ):
        before = path.read_bytes()
        result = run(*command)
        assert result.exit_code == 1
        assert f"{path}: already exists" in result.output
        assert "--force" in result.output
        assert path.read_bytes() == before
        result = run(*command, "--force")
        assert result.exit_code == 0, result.output
        assert path.read_bytes() != before


def test_preparing_inside_the_source_leaves_its_own_files_out(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "set")
    first, again = (prepare(tmp_path / "set", tmp_path / "set" / "a.zip", force=True, progress=False) for _ in range(2))
    assert first.dropped == again.dropped
    assert first.read == 15


# --- what to take ---


def test_a_full_group_is_not_decoded(many, tmp_path, monkeypatch):
    monkeypatch.setattr("facegen.parallel.count_cores", lambda: 1)
    seen = []
    read = Container.read
    monkeypatch.setattr(Container, "read", lambda self, name: seen.append(name) or read(self, name))
    options = {"crop": CropOptions("as-is", 16), "choice": Choice(max_per_group=5), "progress": False}
    report = prepare(many, tmp_path / "a.zip", **options)
    assert set(report.archives[0]["groups"].values()) == {0, 5}
    assert report.drop_counts == {"over --max-per-group": 600 - 45}
    assert len({name for name in seen if name in set(many_names(many))}) < 400  # 45, those on the way, and examples


def many_names(source):
    return [path.name for path in source.iterdir()]


def test_splits_are_archives_of_their_own(many, tmp_path):
    choice = Choice(split=(("train", 0.9), ("val", 0.1)))
    report = prepare(many, tmp_path / "a.zip", crop=CropOptions("as-is", 16), choice=choice, progress=False)
    assert [(entry["file"], entry["split"], entry["written"]) for entry in report.archives] == [
        ("a-train.zip", "train", 540), ("a-val.zip", "val", 60),
    ]  # fmt: skip
    sources = []
    for entry in report.archives:
        with zipfile.ZipFile(tmp_path / entry["file"]) as archive:
            sources += [face["source"] for face in json.loads(archive.read("facegen.json"))["faces"]]
        assert len(FaceArchive(tmp_path / entry["file"])) == entry["written"]
    assert sorted(sources) == sorted(many_names(many))
    assert not (tmp_path / "a.zip").exists()


# --- shards ---


@pytest.mark.parametrize("count", [1, 3])
def test_merged_shards_are_what_one_run_writes(folder, tmp_path, count):
    source = shutil.copytree(folder, tmp_path / "set")
    for index in range(12):  # duplicates in other shards
        shutil.copy(source / "15_1_0_20170110170001.jpg.chip.jpg", source / f"{20 + index}_1_0_20170110180000.jpg")
    options = {
        "crop": CropOptions("center", 32),
        "choice": Choice(max_per_group=1, near_duplicates=1, split=(("train", 0.7), ("val", 0.3))),
        "progress": False,
    }
    whole = prepare(source, tmp_path / "whole" / "a.zip", **options)
    shards = [tmp_path / "shards" / f"{i}.zip" for i in range(1, count + 1)]
    for number, shard in enumerate(shards, 1):
        prepare(source, shard, shard=(number, count), **options)
        assert len(FaceArchive(shard)) > 0
    merged = merge(shards[::-1], tmp_path / "merged" / "a.zip", progress=False)
    assert merged == whole
    for name in ("a-train.zip", "a-val.zip", "a.zip.report.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    paths = [tmp_path_factory.mktemp("shards") / f"{i}.zip" for i in (1, 2)]
    for number, path in enumerate(paths, 1):
        prepare(folder, path, crop=CropOptions("center", 16), shard=(number, 2), progress=False)
    return paths


def test_merge_command(shards, tmp_path):
    result = CliRunner().invoke(main, ["merge", *map(str, shards), str(tmp_path / "all.zip")])
    assert result.exit_code == 0, result.output
    assert "10 of 15 written, 16x16" in result.output
    assert len(FaceArchive(tmp_path / "all.zip")) == 10


def test_shards_that_do_not_fit_are_refused(shards, prepared, folder, tmp_path):
    out = tmp_path / "out" / "all.zip"
    other = tmp_path / "other.zip"
    prepare(folder, other, crop=CropOptions("center", 32), shard=(2, 2), progress=False)
    third = tmp_path / "third.zip"
    prepare(folder, third, crop=CropOptions("center", 16), shard=(2, 3), progress=False)
    for given, words in (
        (shards[:1], "shard 2 of 2 is missing"),
        ([shards[0], shards[0]], "is shard 1 again"),
        ([shards[0], other], "(options, crop differ)"),
        ([shards[0], third], "(2 and 3 shards differ)"),
        ([shards[0], prepared[1]], "is not a shard"),
        ([], "no shards given"),
    ):
        assert_refused(words, merge, given, out, progress=False)
    assert_refused("is also the source", merge, shards, shards[0], progress=False)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("shard.json", '{"format": 1}')
    assert_refused("shard.json is damaged", merge, [shards[0], other], out, progress=False)
    assert not out.parent.exists()


def test_shards_of_a_source_that_changed_are_refused(folder, tmp_path):
    source = shutil.copytree(folder, tmp_path / "set")
    options = {"crop": CropOptions("center", 16), "progress": False}
    prepare(source, tmp_path / "1.zip", shard=(1, 2), **options)
    (source / "15_1_0_20170110170001.jpg.chip.jpg").unlink()
    prepare(source, tmp_path / "2.zip", shard=(2, 2), **options)
    shards = [tmp_path / "1.zip", tmp_path / "2.zip"]
    assert_refused("(files differ)", merge, shards, tmp_path / "all.zip", progress=False)


def test_shards_may_lie_in_the_source(folder, tmp_path):
    source = shutil.copytree(folder, tmp_path / "set")
    options = {"crop": CropOptions("center", 16), "progress": False}
    whole = prepare(source, tmp_path / "whole.zip", **options)
    for number in (1, 2):
        prepare(source, source / f"{number}.zip", shard=(number, 2), **options)
    merged = merge([source / "1.zip", source / "2.zip"], tmp_path / "all.zip", progress=False)
    assert (merged.read, merged.written, merged.dropped) == (whole.read, whole.written, whole.dropped)


def test_shards_without_a_face(tmp_path, tinted):
    source = tmp_path / "set"
    source.mkdir()
    for index in range(2):
        tinted(index, 64).save(source / f"2{index}_1_0_20170110170000.jpg.chip.jpg", "JPEG", quality=95)
    (source / "22_1_0_20170110170000.jpg").write_bytes(b"")
    shards = [tmp_path / f"{number}.zip" for number in range(1, 6)]  # one has the broken picture, two nothing
    outputs = []
    for number, shard in enumerate(shards, 1):
        result = CliRunner().invoke(main, ["prepare", str(source), str(shard), "--shard", f"{number}/5"])
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
    assert "0 of 1 written" in outputs[2]
    report = merge(shards, tmp_path / "all.zip", progress=False)
    assert (report.read, report.written) == (3, 2)
    assert list(report.dropped) == ["unreadable picture"]


def test_a_split_does_not_replace_the_source(folder, tmp_path):
    source = tmp_path / "faces-train.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for path in folder.glob("*.jpg"):
            archive.write(path, path.name)
    before = source.read_bytes()
    choice = Choice(split=(("train", 0.5), ("val", 0.5)))
    assert_refused("faces-train.zip: is also the source", prepare, source, tmp_path / "faces.zip", choice=choice)
    assert source.read_bytes() == before


def test_what_a_killed_writer_left_is_deleted(folder, tmp_path):
    left, of_another = tmp_path / ".a.zip.4711.tmp", tmp_path / ".a2.zip.4711.tmp"
    left.write_bytes(b"half an archive")
    of_another.write_bytes(b"being written")
    prepare(folder, tmp_path / "a.zip", crop=CropOptions("as-is", 16), progress=False)
    assert not left.exists()
    assert of_another.exists()


def test_two_files_of_one_name_in_a_zip_are_neither_taken_nor_forgotten(tmp_path, face):
    source = tmp_path / "set.zip"
    png = pictures.encode_png(face)
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("26_0_0_1.png", png)
        archive.writestr("31_0_0_2.png", png)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("26_0_0_1.png", png + b"another")
    report = prepare(source, tmp_path / "a.zip", source=UtkFace(), crop=CropOptions("as-is", 16), progress=False)
    assert (report.read, report.written) == (2, 1)
    detail = "the zip holds two files of this name"
    assert report.dropped == {"unsafe name": [{"file": "26_0_0_1.png", "detail": detail}]}


@pytest.mark.parametrize("kind", ["EPS", "PDF"])
def test_formats_that_are_no_photos_are_not_even_opened(tmp_path, face, kind):
    source = tmp_path / "set"
    source.mkdir()
    face.save(source / "26_0_0_1.jpg", kind)
    face.save(source / "27_0_0_1.jpg")
    report = prepare(source, tmp_path / "a.zip", crop=CropOptions("as-is", 16), progress=False)
    (dropped,) = report.dropped["unreadable picture"]
    assert dropped == {"file": "26_0_0_1.jpg", "detail": "not a picture, or a broken one"}
