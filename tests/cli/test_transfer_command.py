from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import HOPPER, small_encoder, small_estimator, small_generator
from PIL import Image

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.weights import locate
from facegen.weights.native import save_networks


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as facegen/pretrained/, with tiny untrained networks."""
    folder = tmp_path_factory.mktemp("pretrained")
    header = {"groups": AgeGroups.default().labels}
    save_networks(folder / "generator.safetensors", {"G_ema": small_generator(10)}, header)
    save_networks(folder / "encoder.safetensors", {"encoder": small_encoder()}, header)
    save_networks(folder / "age.safetensors", {"age": small_estimator()}, {})
    return folder


@pytest.fixture
def run(weights: Path, monkeypatch: pytest.MonkeyPatch):
    """Call `facegen transfer` in this process; the detector is built only once."""
    monkeypatch.setattr(locate, "PRETRAINED", weights)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, ["transfer", *map(str, arguments)])

    return call


def photo_kinds(folder: Path) -> list[Path]:
    """The same photo as people's files come: turned by EXIF, gray, transparent, 16 bits deep, large, small."""
    image = Image.open(HOPPER).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = 8
    image.transpose(Image.Transpose.ROTATE_270).save(folder / "turned.jpg", exif=exif)
    image.convert("L").save(folder / "gray.png")
    image.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    image.resize((2048, 2400)).save(folder / "large.jpg")
    image.resize((128, 150)).save(folder / "small.webp")
    return sorted(folder.iterdir())


def test_every_kind_of_photo(run, tmp_path: Path):
    (tmp_path / "in").mkdir()
    photos = photo_kinds(tmp_path / "in")
    result = run(*photos, "--outdir", tmp_path / "out", "--ages", "5,85")
    assert result.exit_code == 0, result.output
    for photo in photos:
        for what in ("age5", "age85", "strip"):
            path = tmp_path / "out" / f"{photo.stem}-face1-{what}.png"
            assert path.is_file()
            assert str(path) in result.stdout
    assert len(list((tmp_path / "out").iterdir())) == 3 * len(photos)


def test_all_groups_by_default(run, tmp_path: Path):
    result = run(HOPPER, "--outdir", tmp_path)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 11
    assert run(HOPPER, "--outdir", tmp_path, "--ages", "30", "--input-age", "77").stderr == ""
    assert (tmp_path / "grace_hopper-face1-91-100.png").is_file()


def test_bad_photos_are_named_and_the_others_done(run, tmp_path: Path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "cut.jpg").write_bytes(HOPPER.read_bytes()[:20000])
    Image.new("RGB", (200, 200), "green").save(tmp_path / "meadow.png")
    bad = ["empty.jpg", "text.jpg", "cut.jpg", "meadow.png", "missing.jpg"]
    result = run(*(tmp_path / name for name in bad), HOPPER, "--outdir", tmp_path / "out", "--ages", "30")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 5
    for name, reason in zip(bad, ["empty", "not a picture", "truncated", "no face", "no such file"], strict=True):
        assert sum(name in line and reason in line for line in errors) == 1, result.stderr
    assert "Traceback" not in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "grace_hopper-face1-age30.png",
        "grace_hopper-face1-strip.png",
    }


def test_photos_of_one_name_keep_their_own_pictures(run, tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(HOPPER, tmp_path / name / "me.jpg")
    result = run(tmp_path / "a/me.jpg", tmp_path / "b/me.jpg", "--outdir", tmp_path / "out", "--ages", "30")
    assert result.exit_code == 0, result.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "me-face1-age30.png",
        "me-face1-strip.png",
        "me-2-face1-age30.png",
        "me-2-face1-strip.png",
    }


def test_all_faces_or_the_largest(run, tmp_path: Path):
    image = Image.open(HOPPER).convert("RGB")
    group = Image.new("RGB", (1100, 620), "gray")
    group.paste(image, (0, 10))
    group.paste(image.resize((410, 480)), (560, 60))
    group.save(tmp_path / "two.png")
    both = run(tmp_path / "two.png", "--outdir", tmp_path / "all", "--ages", "30")
    one = run(tmp_path / "two.png", "--outdir", tmp_path / "one", "--ages", "30", "--face", "largest")
    assert re.fullmatch(r".*two\.png: 2 faces look \d+, \d+ \(largest first\)\n", both.stderr)
    assert re.fullmatch(r".*two\.png: looks \d+\n", one.stderr)
    assert len(list((tmp_path / "all").iterdir())) == 4
    assert len(list((tmp_path / "one").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--ages", "five"], 2, "5,25,45,65,85"),
        (["--ages", "5,,7"], 2, "5,25,45,65,85"),
        (["--ages", "-3"], 1, "age -3 is in none"),
        (["--input-age", "-1"], 1, "age -1 is in none"),
        (["--paste-back", "old"], 2, "'old' is not one of 'change', 'face'"),
        (["--video", "avi"], 2, "'avi' is not one of 'mp4', 'gif'"),
        (["--outdir", str(HOPPER)], 2, "is a file"),
        (["--generator", "missing.safetensors"], 1, "missing.safetensors"),
        (["--encoder", str(HOPPER)], 1, "grace_hopper.jpg"),
        (["--ages", "90:5:5"], 2, "never arrive"),
        (["--method", "morph"], 2, "'swap', 'shift'"),
        (["--layers", "fine"], 1, "this generator has no layers fine: it has 6, 0 to 5"),
        (["--refine", "-1"], 1, "refine must be"),
        (["--refine-seconds", "9"], 1, "--refine"),
        (["--age-estimator", "missing.safetensors"], 1, "missing.safetensors"),
    ],
)
def test_wrong_arguments_are_said_once(run, tmp_path: Path, arguments: list[str], code: int, reason: str):
    result = run(HOPPER, HOPPER, *(["--outdir", tmp_path / "out"] if "--outdir" not in arguments else []), *arguments)
    assert result.exit_code == code
    assert result.output.count(reason) == 1
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_whole_photos_and_videos(run, tmp_path: Path):
    image = Image.open(HOPPER).convert("RGBA")
    image.putalpha(200)
    image.save(tmp_path / "me.png")
    Image.open(HOPPER).convert("L").save(tmp_path / "gray.png")
    photos = [tmp_path / "me.png", tmp_path / "gray.png"]
    result = run(*photos, "--ages", "20,80", "--paste-back", "--video", "gif", "--outdir", tmp_path / "out")
    assert result.exit_code == 0, result.output
    kinds = ["-age20.png", "-age80.png", "-ages.gif", "-face1-age20.png", "-face1-age80.png", "-face1-strip.png"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {stem + kind for stem in ("me", "gray") for kind in [*kinds, "-face1.gif"]}
    for name, mode in (("me-age20.png", "RGBA"), ("gray-age80.png", "L")):
        with Image.open(tmp_path / "out" / name) as pasted:
            assert (pasted.size, pasted.mode) == ((512, 600), mode)
            assert str(tmp_path / "out" / name) in result.stdout
    run(photos[1], "--ages", "20", "--paste-back", "face", "--outdir", tmp_path / "whole")
    change, face = (np.asarray(Image.open(tmp_path / out / "gray-age20.png")) for out in ("out", "whole"))
    assert (change != face).any()
    np.testing.assert_array_equal(change[:50], face[:50])  # there is no face


def test_mp4_without_its_package_is_said_before_all(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    result = run(HOPPER, HOPPER, "--video", "mp4", "--outdir", tmp_path / "out")
    assert result.exit_code == 1
    assert result.output.count('pip install "facegen[video]"') == 1
    assert not (tmp_path / "out").exists()


def test_a_range_of_ages_refined_in_some_layers(run, tmp_path: Path):
    arguments = ["--ages", "20:25:2.5", "--input-age", "77", "--method", "shift", "--layers", "middle", "--refine", "3"]
    result = run(HOPPER, "--outdir", tmp_path, *arguments)
    assert result.exit_code == 0, result.output
    names = {f"grace_hopper-face1-{what}.png" for what in ("age20", "age22.5", "age25", "strip")}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_ctrl_c_ends_with_one_line(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("facegen.aging.transfer.refine", interrupted)
    result = run(HOPPER, "--outdir", tmp_path / "out", "--refine", "9")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "Stopped: 0 of 1 photos are done."
    assert not (tmp_path / "out").exists()


def test_no_photo_is_a_usage_error(run):
    assert run().exit_code == 2


def test_missing_shipped_weights(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path)
    result = run(HOPPER, "--outdir", tmp_path / "out")
    assert result.exit_code == 1
    assert "--encoder FILE" in result.output


def test_demo_writes_and_names_the_strip(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locate, "PRETRAINED", weights)
    result = CliRunner().invoke(main, ["demo", "--outdir", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    strip = tmp_path / "out" / "grace_hopper-face1-strip.png"
    assert str(strip) in result.output
    with Image.open(strip) as image:
        assert image.width == 12 * 162 - 2


def test_weights_that_are_named(weights: Path, tmp_path: Path):
    named = ["--generator", str(weights / "generator.safetensors"), "--encoder", str(weights / "encoder.safetensors")]
    command = ["transfer", str(HOPPER), "--ages", "20", "--outdir", str(tmp_path), *named, "--device", "cpu"]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_age_groups_of_a_generator_whose_file_does_not_say_them(run, tmp_path: Path):
    """As other programs write them: with nine groups, and with ten that need not be ours."""
    for classes in (9, 10):
        save_networks(tmp_path / f"{classes}.safetensors", {"G_ema": small_generator(classes)}, {})
    encoder = small_encoder()
    torch.nn.init.zeros_(next(encoder.parameters()))  # else it would be known as the package's
    save_networks(tmp_path / "e.safetensors", {"encoder": encoder}, {})
    line = [HOPPER, "--outdir", tmp_path / "out", "--encoder", tmp_path / "e.safetensors"]
    nine = ["--generator", tmp_path / "9.safetensors"]
    assert "give --groups" in run(*line, *nine).stderr
    groups = "0-3,4-7,8-12,13-18,19-25,26-35,36-50,51-70,71+"
    result = run(*line, *nine, "--groups", groups)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "grace_hopper-face1-71+.png").is_file()
    assert "which ages" not in result.stderr
    assert "'young' is not an age group" in run(*line, *nine, "--groups", "young").stderr
    result = run(*line, "--generator", tmp_path / "10.safetensors", "--ages", "5")
    assert result.exit_code == 0, result.output


def test_a_warning_is_one_line(weights: Path, tmp_path: Path):
    save_networks(tmp_path / "g.safetensors", {"G_ema": small_generator(10)}, {})
    line = ["--generator", tmp_path / "g.safetensors", "--encoder", weights / "encoder.safetensors"]
    line += ["--age-estimator", weights / "age.safetensors", "--ages", "5", "--outdir", tmp_path / "out"]
    command = [sys.executable, "-m", "facegen", "transfer", str(HOPPER), *map(str, line)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    (warning,) = [shown for shown in result.stderr.splitlines() if "groups" in shown]
    assert warning.startswith("Warning: the generator's file does not say which ages")


def test_a_folder_of_photos_and_home(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder = tmp_path / "photos"
    (folder / "empty").mkdir(parents=True)
    small = Image.open(HOPPER).resize((128, 150))
    for name in ("b.png", "a.JPG", ".hidden.png", "empty/../c.txt"):
        small.save(folder / name, format="png")
    result = run("~/photos", "--outdir=~/out", "--ages", "50")
    assert result.exit_code == 0, result.output
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        *("a-face1-age50.png", "a-face1-strip.png", "b-face1-age50.png", "b-face1-strip.png")
    ]
    assert result.stdout.index("a-face1-strip") < result.stdout.index("b-face1-strip")
    result = run(folder / "empty")
    assert result.exit_code == 1
    assert f"{folder / 'empty'}: no pictures in this folder" in result.output
