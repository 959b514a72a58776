"""`facegen faces`: pictures of faces, lists of where they are, and how far they are apart."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from refusals import assert_refused

from facegen.cli import main
from facegen.faces.collect import choose, cut
from facegen.faces.embed import distances
from facegen.faces.mtcnn import Detector
from facegen.faces.options import FaceOptions
from facegen.faces.template import UTKFACE_TEMPLATE, Face
from facegen.weights.face_network import FaceNetwork


def face_at(left: float, top: float, side: float, probability: float = 0.95) -> Face:
    points = np.array(UTKFACE_TEMPLATE.points) * side + (left, top)
    return Face((left, top, left + side, top + side), probability, points)


def test_which_faces_are_taken():
    corner, sure, middle = face_at(0, 0, 30, 0.85), face_at(5, 60, 20, 0.99), face_at(40, 40, 22)
    faces = [corner, middle, sure]  # the largest first
    assert choose(faces, (100, 100), "all") == faces
    for how, wanted in {"largest": corner, "probability": sure, "center": middle, "over-threshold": middle}.items():
        assert choose(faces, (100, 100), how) == [wanted], how
        assert choose([], (100, 100), how) == []


def test_a_plain_picture_is_the_square_about_the_box():
    photo = Image.fromarray(np.arange(100, dtype=np.uint8)[None].repeat(60, axis=0)).convert("RGB")
    high = Face((30, 10, 50, 50), 1.0, face_at(30, 10, 20).landmarks)
    picture = np.asarray(cut(photo, high, FaceOptions(plain=True, size=40)))
    assert np.abs(picture[20, :, 0] - np.arange(20, 60)).max() <= 1  # not squeezed
    wide = np.asarray(cut(photo, high, FaceOptions(plain=True, size=40, margin=0.5)))
    assert wide[20, 0, 0] == pytest.approx(10, abs=1)
    assert wide[20, 39, 0] == pytest.approx(69, abs=1)


def test_an_aligned_picture_with_a_margin(hopper, hopper_face):
    usual = cut(hopper, hopper_face, FaceOptions(size=96))
    more = cut(hopper, hopper_face, FaceOptions(size=144, margin=0.5)).crop((24, 24, 120, 120))
    assert np.abs(np.asarray(usual, np.int16) - np.asarray(more)).mean() < 2


def test_distances():
    apart = distances(np.array([[1, 0], [0, 1], [-1, 0], [1, 0]], np.float32))
    assert apart == pytest.approx(np.array([[0, 2, 4, 0], [2, 0, 2, 2], [4, 2, 0, 4], [0, 2, 4, 0]]) ** 0.5, abs=1e-6)


def test_thresholds_decide_what_is_a_face():
    assert Detector(torch.device("cpu")).min_probability == 0.9
    assert Detector(torch.device("cpu"), (0.5, 0.6, 0.4), 0.6).min_probability == 0.4
    assert_refused("below 1", FaceOptions, thresholds=(0.5, 0.5, 1.0))


@pytest.fixture
def photos(tmp_path, hopper):
    folder = tmp_path / "photos"
    folder.mkdir()
    small = hopper.resize((170, 200), Image.Resampling.LANCZOS)
    pair = Image.new("RGB", (340, 200))
    pair.paste(small, (0, 0))
    pair.paste(small.resize((136, 160)), (190, 20))
    pair.save(folder / "pair.png")
    small.save(folder / "one.png")
    Image.new("RGB", (64, 64), "gray").save(folder / "wall.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_the_command(photos, tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(3 * 16, 6))
    seen = FaceNetwork(network, UTKFACE_TEMPLATE, 32)
    monkeypatch.setattr("facegen.cli.faces._load", lambda file, device: seen)
    given = ["--outdir", tmp_path / "out", "--size", 32, "--compare", "--embeddings", tmp_path / "e.npz"]
    result = CliRunner().invoke(main, ["faces", *map(str, [photos, *given])])
    assert result.exit_code == 1, result.output
    assert "broken.png" in result.output  # named, and the others are done
    assert "wall.png: no face" in result.output

    names = ["one-face1.png", "pair-face1.png", "pair-face2.png"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == names
    for name in names:
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.size == (32, 32)
    listed = json.loads((tmp_path / "out" / "faces.json").read_text(encoding="utf-8"))["photos"]
    assert [len(one.get("faces", [])) for one in listed] == [0, 1, 2, 0]
    assert "error" in listed[0]
    first, second = listed[2]["faces"]
    assert first["box"][0] < second["box"][0]  # the larger one is the left one
    assert 0.9 <= first["probability"] <= 1
    assert np.shape(first["landmarks"]) == (5, 2)
    with (tmp_path / "out" / "faces.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == names
    assert float(rows[1]["left_eye_x"]) == first["landmarks"][0][0]

    with np.load(tmp_path / "e.npz") as stored:
        assert stored["pictures"].tolist() == names
        assert stored["embeddings"].shape == (3, 6)
        assert np.linalg.norm(stored["embeddings"], axis=1) == pytest.approx(1, abs=1e-5)
    with (tmp_path / "out" / "distances.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    assert [row[0] for row in table] == ["", *names]
    assert float(table[1][2]) == float(table[2][1])


def test_small_faces_are_left_out(photos, tmp_path):
    photo = str(photos / "pair.png")
    result = CliRunner().invoke(main, ["faces", photo, "--outdir", str(tmp_path / "out"), "--min-face", "61"])
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["pair-face1.png"]


def test_refused(photos, tmp_path):
    for wrong in (["--thresholds", "0.5,0.5"], ["--face-network", "x.pt"], ["--min-face", "3"], ["--factor", "1"]):
        result = CliRunner().invoke(main, ["faces", str(photos), "--outdir", str(tmp_path / "out"), *wrong])
        assert result.exit_code in (1, 2)
        assert isinstance(result.exception, SystemExit)
    missing = ["--compare", "--face-network", str(tmp_path / "none.pt")]
    result = CliRunner().invoke(main, ["faces", str(photos / "one.png"), "--outdir", str(tmp_path / "out"), *missing])
    assert result.exit_code == 1
    assert "none.pt" in result.output
