from __future__ import annotations

import json
import os
import re
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from refusals import assert_refused

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.data import contents as contents_module
from facegen.data.archive import ArchiveWriter, FaceArchive
from facegen.data.inspect import inspect_archive
from facegen.data.label import label_folder
from facegen.images import encode_png
from facegen.text import visible

GROUPS = ["0-10", "11-20", "21-30"]
NAMES = [f"00000/img{i:08d}.png" for i in range(3)]
LABELS = [[name, label] for label, name in enumerate(NAMES)]


def faces(*ages):
    """The `faces` of a facegen.json for NAMES."""
    return [{"file": name, "age": age, "source": name} for name, age in zip(NAMES, ages, strict=True)]


def kinds(inspection):
    """How many problems there are of each kind."""
    return {kind: len(found) for kind, found in inspection.summary["problems"].items()}


def look(path, **options):
    return inspect_archive(path, progress=False, **options)


HARMLESS = ("label without a picture", "age without a picture", "impossible age", "label contradicts the age")


def assert_problem(path, kind, file=None):
    """It is the one problem that is found, and training refuses the archive with it unless it does no harm."""
    (problem,) = look(path).problems
    assert problem.kind == kind
    assert problem.detail
    assert problem.file == file or file is None
    if kind in HARMLESS:
        FaceArchive(path)
    else:
        message = assert_refused(f"{kind}: ", FaceArchive, path)
        assert str(path) in message
        assert visible(problem.file) in message
    return problem


@pytest.fixture
def three(tinted):
    return {name: tinted(index) for index, name in enumerate(NAMES)}


def test_own_archive_is_summed_up(tmp_path, tinted):
    path = tmp_path / "faces.zip"
    with ArchiveWriter(path, groups=AgeGroups.parse("0-10,11-20,21-")) as writer:
        for index, age in enumerate((3, 4, 15, 80)):
            writer.add(f"{age}.jpg", tinted(index), AgeGroups.parse("0-10,11-20,21-").index_of(age), age)
    found = look(path, full=True)
    assert found.problems == []
    summary = found.summary
    assert (summary["read"], summary["written"], summary["resolution"]) == (4, 4, 16)
    assert summary["groups"] == ["0-10", "11-20", "21+"]
    entry = summary["archives"][0]
    assert entry["groups"] == {"0-10": 2, "11-20": 1, "21+": 1}
    assert entry["ages"] == {"3": 1, "4": 1, "15": 1, "80": 1}
    assert entry["genders"] == {"female": 0, "male": 0, "unknown": 4}
    assert entry["persons"] is None
    json.dumps(summary)


def test_persons_genders_and_ranges_of_ages_are_counted(make_described):
    found = look(
        make_described(
            {"age": 5, "person": "a", "gender": "female"},
            {"ages": [11, 20], "person": "a", "gender": "male"},
            {"ages": [21, None], "person": "b", "gender": None},
            labels=[0, 1, 2],
        )
    )
    assert found.problems == []
    assert found.summary["archives"][0]["genders"] == {"female": 1, "male": 1, "unknown": 1}
    assert found.summary["archives"][0]["persons"] == 2
    assert [face.ages for face in found.contents.faces] == ["5", "11-20", "21+"]


def test_attributes_are_counted_by_group(make_described, tmp_path):
    path = make_described(
        {"age": 5, "gender": "female", "glasses": True, "ages": [1, 2]},
        {"age": 15, "gender": "male", "glasses": False},
        {"age": 16, "gender": None, "glasses": True},
        labels=[0, 1, 1],
    )
    tables = look(path).summary["archives"][0]["attributes"]
    assert tables == {
        "gender": {
            "0-10": {"female": 1, "male": 0, "unknown": 0},
            "11-20": {"female": 0, "male": 1, "unknown": 1},
            "21-30": {"female": 0, "male": 0, "unknown": 0},
        },
        "glasses": {
            "0-10": {"False": 0, "True": 1},
            "11-20": {"False": 1, "True": 1},
            "21-30": {"False": 0, "True": 0},
        },
    }
    html = tmp_path / "report.html"
    shown = CliRunner().invoke(main, ["inspect", str(path), "--html", str(html)]).output.splitlines()
    start = shown.index("gender:")
    assert shown[start + 1].split() == ["female", "male", "unknown"]
    assert shown[start + 3].split() == ["11-20", "0", "1", "1"]
    page = html.read_text()
    table = page[page.index("Faces per group by glasses") :]
    row = next(row for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL) if "11-20" in row)
    assert re.sub("<[^>]*>", " ", row).split() == ["11-20", "1", "1"]


def test_attributes_of_an_archive_without_labels_and_with_odd_values(make_zip, tinted):
    names = [f"{index:02d}.png" for index in range(21)]
    described = [{"file": name, "age": None, "person": name, "<b>": "\n" * 300} for name in names]
    pictures = {name: tinted(index) for index, name in enumerate(names)}
    path = make_zip(pictures, None, {"format": 1, "faces": described})
    assert look(path).summary["archives"][0]["attributes"] == {"<b>": {"all": {"\n" * 300: 21}}}  # persons: too many
    output = CliRunner().invoke(main, ["inspect", str(path)]).output
    assert max(map(len, output.splitlines())) < 300 + len(str(path))
    assert output[output.index("<b>:") :].splitlines()[2].split() == ["all", "21"]


def test_archive_of_the_stylegan_family_without_labels(make_zip, three):
    found = look(make_zip(three, {"labels": None}))
    assert found.problems == []
    assert "StyleGAN family, no labels" in found.summary["title"]
    assert found.summary["groups"] == []
    assert any("no labels" in note for note in found.notes)


def test_zip_without_dataset_json_is_an_archive_without_labels(make_zip, three):
    found = look(make_zip(three))
    assert found.problems == []
    assert found.summary["written"] == 3


@pytest.mark.parametrize(
    ("vectors", "words", "classes"),
    [
        ([[1, 0, 0], [0, 1, 0], [0.0, 0.0, 1.0]], "one-hot vectors of 3", ["0", "1", "2"]),
        ([[0.5, 0.1], [0.2, 3.0], [-1.0, 0.0]], "continuous vectors of 2", []),
        ([[1], [1], [1]], "continuous vectors of 1", []),
    ],
)
def test_vectors_as_labels_are_told_apart(make_zip, three, vectors, words, classes):
    found = look(make_zip(three, [[name, vector] for name, vector in zip(NAMES, vectors, strict=True)]))
    assert found.problems == []
    assert found.summary["groups"] == classes
    assert any(words in note for note in found.notes)


@pytest.mark.parametrize("bad", [[0, 1], [0, 0, float("nan")], ["x", 0, 0], 7, None])
def test_a_vector_unlike_the_others_is_a_problem(make_zip, three, bad):
    path = make_zip(three, [[NAMES[0], [1, 0, 0]], [NAMES[1], [0, 1, 0]], [NAMES[2], bad]])
    assert_problem(path, "broken label vector", NAMES[2])


@pytest.mark.parametrize(
    ("label", "kind"),
    [(label, "label out of range") for label in (-1, 10_000, 10**98)]
    + [(label, "label not a whole number") for label in (1.5, 2.0, True, None, "2", [0, 1])],
)
def test_labels_that_are_no_class(make_zip, three, label, kind):
    path = make_zip(three, [*LABELS[:2], [NAMES[2], label]])
    assert "the label is " in assert_problem(path, kind, NAMES[2]).detail
    assert FaceArchive(path, use_labels=False).c_dim == 0


@pytest.mark.filterwarnings("ignore:.*files that are not there")
@pytest.mark.parametrize(
    ("dataset", "kind", "file"),
    [
        ({"labels": LABELS, "classes": ["young", "old"]}, "label out of range", NAMES[2]),
        ({"labels": LABELS[:2]}, "picture without a label", NAMES[2]),
        ({"labels": [*LABELS, ["gone.png", 0]]}, "label without a picture", "gone.png"),
        ({"labels": [*LABELS, [NAMES[0], 2]]}, "two labels", NAMES[0]),
        ({"labels": [*LABELS, 7]}, "broken label entry", ""),
        ({"labels": [*LABELS, ["a"]]}, "broken label entry", ""),
        ({"labels": [*LABELS, ["a", 1, 2]]}, "broken label entry", ""),
        ({"labels": [*LABELS, [0, "a.png"]]}, "broken label entry", ""),
        ({"labels": {"a": 1}}, "broken dataset.json", "dataset.json"),
        ({"labels": "none"}, "broken dataset.json", "dataset.json"),
        ({"labels": False}, "broken dataset.json", "dataset.json"),
        ({"labels": LABELS, "left_out": 3}, "broken dataset.json", "dataset.json"),
    ],
)
def test_what_can_be_wrong_with_labels(make_zip, three, dataset, kind, file):
    assert_problem(make_zip(three, dataset), kind, file)


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "x/../../a.png", "..\\a.png", "C:/a.png"])
def test_names_that_lead_out(make_zip, three, name):
    for files, labels in ((three, [*LABELS, [name, 2]]), ({**three, name: three[NAMES[0]]}, LABELS)):
        assert_problem(make_zip(files, labels), "name leads out")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"labels": ' + b"9" * 5000 + b"}"]
)
@pytest.mark.parametrize("name", ["dataset.json", "facegen.json"])
def test_broken_json_is_a_problem_and_pictures_are_checked_all_the_same(make_zip, three, name, content):
    path = make_zip({**three, name: content})
    assert_problem(path, f"broken {name}", name)
    assert look(path).summary["written"] == 3


@pytest.mark.parametrize(
    ("extra", "kind"),
    [
        ({"format": 1, "groups": GROUPS, "faces": faces(5, 15, 35)}, "label contradicts the age"),
        ({"format": 1, "groups": GROUPS, "faces": faces(11, 15, 25)}, "label contradicts the age"),
        ({"format": 1, "groups": GROUPS, "faces": faces(5, 15, 1000)}, "impossible age"),
        ({"format": 1, "groups": GROUPS, "faces": faces(5, 15, -5)}, "impossible age"),
        ({"format": 1, "groups": GROUPS, "faces": faces(5, 15, "25")}, "impossible age"),
        ({"format": 1, "groups": GROUPS[:2], "faces": None}, "label out of range"),
        ({"format": 1, "groups": ["young", "old"]}, "broken facegen.json"),
        ({"format": 1, "groups": ["0-10", "5-20"]}, "broken facegen.json"),
        ({"format": 1, "groups": 7}, "broken facegen.json"),
        ({"format": 2, "groups": GROUPS}, "broken facegen.json"),
        ({"format": 1, "groups": GROUPS, "faces": 5}, "broken facegen.json"),
        ({"format": 1, "groups": GROUPS, "faces": [{"file": NAMES[0]}]}, "broken facegen.json"),
        ({"format": 1, "groups": GROUPS, "faces": [*faces(5, 15, 25), 5]}, "broken facegen.json"),
        ({"format": 1, "groups": GROUPS, "faces": [*faces(5, 15, 25), {"file": "x.png"}]}, "age without a picture"),
        ({"format": 1, "groups": GROUPS, "template": [[0, 0]] * 4}, "broken facegen.json"),
    ],
)
def test_what_can_be_wrong_with_facegen_json(make_zip, three, extra, kind):
    assert_problem(make_zip(three, LABELS, extra), kind)


def test_people_over_100_are_no_contradiction(make_zip, three):
    extra = {"format": 1, "groups": ["0-10", "11-20", "91-100"], "faces": faces(0, 20, 116)}
    assert look(make_zip(three, LABELS, extra)).problems == []


def test_folder_that_facegen_labeled(tmp_path, tinted):
    for index, name in enumerate(("young/a.png", "old/b.png", "old/broken.png", "stray.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tinted(index).save(tmp_path / name)
    (tmp_path / "old/broken.png").write_bytes(b"")
    label_folder(tmp_path, progress=False)
    found = look(tmp_path, full=True)
    assert found.problems == []
    assert found.summary["archives"][0]["groups"] == {"old": 1, "young": 1}
    assert found.summary["notes"]["left out on purpose (dataset.json)"] == ["old/broken.png", "stray.png"]


@pytest.mark.parametrize("size", [(16, 12), (8, 8), (32, 32)])
@pytest.mark.parametrize("name", [NAMES[0], NAMES[2]])
def test_odd_sizes_are_named(make_zip, three, name, size):
    problem = assert_problem(make_zip({**three, name: three[name].resize(size)}, LABELS), "different size", name)
    assert f"{size[0]}x{size[1]}" in problem.detail


@pytest.mark.parametrize(
    ("size", "kind"),
    [((16, 12), "not square"), ((16, 8), "not square")]
    + [((side, side), "not a power of two") for side in (12, 100, 2, 1)],
)
def test_a_size_that_all_share_is_one_problem(make_zip, three, size, kind):
    path = make_zip({name: image.resize(size) for name, image in three.items()}, LABELS)
    assert "3 pictures are" in assert_problem(path, kind).detail


def test_identical_pictures_are_a_problem_under_different_labels_and_else_a_note(make_zip, three):
    files = {**three, NAMES[2]: three[NAMES[0]]}
    found = look(make_zip(files, LABELS))
    assert kinds(found) == {"identical pictures, different labels": 1}
    assert NAMES[0] in found.problems[0].detail
    found = look(make_zip(files, [*LABELS[:2], [NAMES[2], 0]]))
    assert found.problems == []
    assert found.summary["notes"]["the same picture as another of its class"] == [NAMES[2]]


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture(make_zip, three, content):
    found = look(make_zip({**three, NAMES[1]: content}, LABELS))
    assert kinds(found) == {"unreadable picture": 1}
    assert found.problems[0].file == NAMES[1]
    assert [face.name for face in found.contents.faces] == [NAMES[0], NAMES[2]]


def test_truncated_pictures_are_found_by_full_alone(make_zip, three, face):
    data = encode_png(face.resize((16, 16)))
    path = make_zip({**three, NAMES[1]: data[: len(data) // 2]}, LABELS)
    assert look(path).problems == []
    assert kinds(look(path, full=True)) == {"unreadable picture": 1}


def test_damage_in_a_zip_is_found_by_its_checksum(make_zip, three):
    path = make_zip(three, LABELS)
    data = bytearray(path.read_bytes())
    data[data.index(encode_png(three[NAMES[1]])) + 300] ^= 0xFF
    path.write_bytes(data)
    found = look(path)
    assert [(p.kind, p.file) for p in found.problems] == [("unreadable picture", NAMES[1])]
    assert "CRC" in found.problems[0].detail


def test_duplicate_names_dangerous_names_order_and_compression(tmp_path, three):
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in reversed(NAMES):
            archive.writestr(name, encode_png(three[name]))
        archive.writestr("../../evil.png", encode_png(three[NAMES[0]]))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(NAMES[0], encode_png(three[NAMES[0]]))
        archive.writestr("dataset.json", json.dumps({"labels": LABELS}))
        archive.writestr("readme.txt", "hello")
    found = look(path)
    assert {(p.kind, p.file) for p in found.problems} == {
        ("name leads out", "../../evil.png"),
        ("duplicate name", NAMES[0]),
    }
    notes = " ".join(found.notes)
    assert "not in the order of their names" in notes
    assert "compressed" in notes
    assert "readme.txt" in notes


def test_imbalance_empty_and_small_classes_are_notes(make_zip, tinted):
    files = {f"{i:03d}.png": tinted(i, 8) for i in range(111)}
    labels = [[name, 0 if index < 101 else 2] for index, name in enumerate(files)]
    found = look(make_zip(files, {"labels": labels, "classes": ["many", "none", "few"]}))
    assert found.problems == []
    notes = " ".join(found.notes)
    assert "classes without a picture: none" in notes
    assert "fewer than 100 pictures: few (10)" in notes
    assert "the largest class (many) has 10 times" in notes


def test_labels_a_folder_too_deep(make_zip, three):
    files = {f"faces/{name}": image for name, image in three.items()}
    files["faces/dataset.json"] = json.dumps({"labels": LABELS}).encode()
    assert "pack the contents of that folder" in assert_problem(make_zip(files), "dataset.json in a folder").detail


def test_folder_with_nothing(tmp_path):
    assert kinds(look(tmp_path)) == {"no pictures": 1}


def test_folder_with_odd_things(tmp_path, face):
    (tmp_path / "good.png").write_bytes(encode_png(face))
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "again").symlink_to(tmp_path)
    found = look(tmp_path)
    assert kinds(found) == {"unreadable picture": 2, "endless link": 1}
    assert found.summary["written"] == 1


def test_a_picture_that_claims_gigabytes_is_not_read(tmp_path, face, monkeypatch):
    monkeypatch.setattr("facegen.container.MAX_FILE_BYTES", 1000)
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 100_000)
        archive.writestr("b.png", encode_png(face.resize((8, 8))))
    assert kinds(look(path)) == {"unreadable picture": 1}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip at all" * 100])
def test_what_is_no_zip(tmp_path, content):
    path = tmp_path / "faces.zip"
    path.write_bytes(content)
    found = look(path)
    assert kinds(found) == {"unreadable archive": 1}
    found.write_html(tmp_path / "report.html", progress=False)
    assert "unreadable archive" in (tmp_path / "report.html").read_text()


def test_no_damage_crashes_it(make_zip, three, tmp_path):
    """Bytes changed at random, cut or not: the list of files, the JSON and the pictures are hit, hundreds of times."""
    good = make_zip(three, LABELS, {"format": 1, "groups": GROUPS, "faces": faces(5, 15, 25)}).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "broken.zip"
    found_something = 0
    for index in range(150):
        data = np.frombuffer(good, np.uint8).copy()
        start = 0 if index % 3 else len(data) - 1200  # the JSON and the list of files stand at the end
        data[rng.integers(start, len(data), rng.integers(1, 6))] = rng.integers(0, 256)
        path.write_bytes(data[: rng.integers(len(data)) if index % 10 == 0 else None].tobytes())
        found = look(path, full=bool(index % 2))
        json.dumps(found.summary)
        found_something += bool(found.problems)
    assert found_something > 100  # the rest hits what means nothing, such as dates


def test_command_on_a_good_archive(make_zip, three, tmp_path):
    path = make_zip(three, LABELS, {"format": 1, "groups": GROUPS, "faces": faces(5, 15, 25)})
    html, report = tmp_path / "out" / "report.html", tmp_path / "out" / "report.json"
    result = CliRunner().invoke(main, ["inspect", str(path), "--html", str(html), "--json", str(report)])
    assert result.exit_code == 0, result.output
    for words in ("3 pictures of 16x16, 3 classes", "21-30        1", "ages from 5 to 25", "no problem found"):
        assert words in result.output
    assert json.loads(report.read_text())["problems"] == {}
    assert html.read_text().startswith("<!DOCTYPE html>")


def test_command_on_a_bad_archive(make_zip, tinted, tmp_path):
    names = [f"{index:02d}\n.png" for index in range(8)]
    path = make_zip({name: tinted(index) for index, name in enumerate(names)}, [[name, -1] for name in names])
    result = CliRunner().invoke(main, ["inspect", str(path), "--json", str(tmp_path / "all.json")])
    assert result.exit_code == 1
    assert "PROBLEM: label out of range (8)" in result.output
    assert r"00\n.png: the label is -1, outside 0 to 9999" in result.output
    assert "and 5 more" in result.output
    assert "no problem found" not in result.output
    found = json.loads((tmp_path / "all.json").read_text())["problems"]["label out of range"]
    assert [entry["file"] for entry in found] == names


def test_report_shows_the_pictures_that_problems_are_about(make_zip, three, tmp_path, face):
    cut = encode_png(face.resize((16, 16)))[:400]  # the header is good, the picture is not
    extra = {"format": 1, "groups": GROUPS, "faces": faces(15, 15, 31)}
    found = look(make_zip({**three, NAMES[2]: cut}, LABELS, extra))
    assert kinds(found) == {"label contradicts the age": 2}
    found.write_html(tmp_path / "report.html", progress=False)
    page = (tmp_path / "report.html").read_text()
    assert page.count('alt="label contradicts the age"') == 1
    assert "but the age is 31: no group" in page


def test_nothing_there(tmp_path):
    assert_refused("no such folder or zip", look, "nowhere.zip", error=FileNotFoundError)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "nowhere.zip")])
    assert result.exit_code == 1
    assert "no such folder or zip" in result.output
    assert "Traceback" not in result.output


def test_far_more_entries_than_files_are_reported_once(tmp_path, monkeypatch):
    monkeypatch.setattr(contents_module, "MAX_SPARE", 3)
    many = [f"{i}.png" for i in range(20)]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", b"")
        archive.writestr("dataset.json", json.dumps({"labels": [[name, 0] for name in many], "left_out": many}))
        archive.writestr("facegen.json", json.dumps({"format": 1, "faces": [{"file": name} for name in many]}))
    told = [str(problem) for problem in contents_module.read_contents(tmp_path / "x.zip").problems]
    assert len(told) == 3
    assert all("20 " in problem and "but 3 files" in problem for problem in told)
