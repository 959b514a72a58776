from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.data.archive import FaceArchive
from facegen.data.prepare import prepare, report_path
from facegen.errors import FacegenError

AGES = (3, 15, 26, 38, 45, 77, 101)


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
    assert (len(archive), archive.resolution, archive.channels, archive.c_dim) == (10, 64, 3, 10)
    assert archive.groups == AgeGroups.default()
    assert sorted(archive.ages.tolist()) == sorted([*AGES, 50, 51, 52])
    assert archive.labels.tolist() == [archive.groups.index_of(age) for age in archive.ages]
    assert report.written == 10
    assert report.counts == {
        "0-10": 1, "11-20": 1, "21-30": 1, "31-40": 1, "41-50": 2, "51-60": 2, "61-70": 0, "71-80": 1,
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
    listed = {reason: sorted(entry["file"] for entry in files) for reason, files in report.skipped.items()}
    assert listed == {
        "unreadable picture": [
            "60_0_0_20170110170001.jpg",
            "61_0_0_20170110170002.jpg",
            "62_0_0_20170110170003.jpg",
        ],
        "name not understood": ["61_1_20170109142408075.jpg.chip.jpg"],
        "not a picture file": ["Thumbs.db"],
    }
    assert report.skip_counts() == {
        "unreadable picture": 3,
        "name not understood": 1,
        "not a picture file": 1,
    }
    assert (report.enlarged, report.cropped) == (1, 1)
    stored = json.loads(report_path(path).read_text())
    assert stored["skipped"] == report.skipped
    assert (stored["written"], stored["counts"]) == (report.written, report.counts)


def test_exact_ages_and_names_are_kept(prepared):
    with zipfile.ZipFile(prepared[1]) as archive:
        faces = json.loads(archive.read("facegen.json"))["faces"]
    assert [face["source"] for face in faces] == sorted(face["source"] for face in faces)
    assert [face["file"] for face in faces] == [f"00000/img{index:08d}.png" for index in range(10)]
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
    report = prepare(folder, tmp_path / "a.zip", groups=groups, resolution=32, progress=False)
    assert report.counts == {"10-19": 1, "40+": 6}
    outside = report.skipped["age outside the groups"]
    assert {entry["detail"] for entry in outside} == {"age 3", "age 26", "age 38"}
    archive = FaceArchive(tmp_path / "a.zip")
    assert archive.groups == groups
    assert (archive.resolution, archive.c_dim) == (32, 2)


@pytest.mark.parametrize("resolution", [0, 1, 2, 48, 100, -64])
def test_resolution_must_be_a_power_of_two(folder, tmp_path, resolution):
    with pytest.raises(FacegenError, match=f"resolution is {resolution}: it must be a power of two"):
        prepare(folder, tmp_path / "a.zip", resolution=resolution, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_nothing_usable_writes_nothing(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    with pytest.raises(FacegenError, match=r"no usable face in it \(it holds no files\)"):
        prepare(source, tmp_path / "a.zip", progress=False)
    (source / "26_0_0_20170110170001.jpg").write_bytes(b"broken")
    (source / "cat.jpg").write_bytes(b"broken")
    with pytest.raises(FacegenError, match="1 x name not understood, 1 x unreadable picture"):
        prepare(source, tmp_path / "a.zip", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_source_must_be_there_and_not_the_archive(folder, tmp_path, prepared):
    with pytest.raises(FileNotFoundError, match="no such folder or zip"):
        prepare(tmp_path / "nowhere", tmp_path / "a.zip")
    with pytest.raises(FacegenError, match="is the source itself"):
        prepare(prepared[1], prepared[1])
    with pytest.raises(FacegenError, match="'faces' is not a known data set"):
        prepare(folder, tmp_path / "a.zip", source_name="faces")
    with pytest.raises(FacegenError, match=r"must end in \.zip"):
        prepare(folder, tmp_path / "archive", progress=False)
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
    result = subprocess.run(
        [sys.executable, "-m", "facegen", "prepare", str(folder), str(path), "--resolution", "32"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert " 41-50        2" in lines
    assert " 61-70        0  <- no face: this class cannot be learnt" in lines
    assert "skipped 3: unreadable picture (first: 60_0_0_20170110170001.jpg)" in lines
    assert "skipped 1: name not understood (first: 61_1_20170109142408075.jpg.chip.jpg)" in lines
    assert "enlarged" not in result.stdout  # the smallest is 40x40
    assert "cut 1: not square, the middle was kept" in lines
    assert lines[-1] == f"{path}: 10 faces of 32x32; report in {path}.report.json"
    assert len(FaceArchive(path)) == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--groups", "0-10,5-20"], "Error: age groups 0-10 and 5-20 overlap"),
        (["--groups", "old"], "Error: 'old' is not an age group"),
        (["--groups", ""], "Error: no age groups given"),
        (["--resolution", "100"], "Error: resolution is 100"),
    ],
)
def test_command_refuses_in_one_line(folder, tmp_path, options, words):
    result = CliRunner().invoke(main, ["prepare", str(folder), str(tmp_path / "a.zip"), *options])
    assert result.exit_code == 1
    assert words in result.output
    assert result.output.count("\n") == 1


def test_command_refuses_a_source_that_is_not_there(tmp_path):
    result = CliRunner().invoke(main, ["prepare", str(tmp_path / "none"), str(tmp_path / "a.zip")])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "none: there is no such folder or zip" in result.output


def test_ctrl_c_leaves_nothing_half_written(tmp_path, face):
    source = tmp_path / "source"
    source.mkdir()
    face.save(source / "first.png")
    for index in range(4000):
        os.link(source / "first.png", source / f"26_0_0_{index:08d}.png")
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "facegen", "prepare", str(source), str(tmp_path / "out" / "a.zip")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, output + errors
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []
