from __future__ import annotations

import json
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
from PIL import ExifTags, Image, ImageOps

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
        folder = tmp_path / "out" / photo.stem
        for what in ("age5", "age85", "face1-photo-strip"):
            (path,) = folder.glob(f"{photo.stem}-{what}.*")
            assert str(path) in result.stdout
            if what != "face1-photo-strip":
                with Image.open(photo) as original, Image.open(path) as aged:
                    assert aged.size == ImageOps.exif_transpose(original).size
        assert len(list(folder.iterdir())) == 4
    assert result.stderr.splitlines()[-1] == f"6 photos are in {tmp_path / 'out'}"


def test_all_groups_by_default(run, tmp_path: Path):
    result = run(HOPPER, "--outdir", tmp_path)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 11
    assert "looks" not in run(HOPPER, "--outdir", tmp_path, "--ages", "30", "--input-age", "77").stderr
    assert len(list(tmp_path.glob("grace_hopper-91-100.*"))) == 1


def test_photos_faces_or_both(run, tmp_path: Path):
    names = {}
    for output in ("photo", "face", "both"):
        result = run(HOPPER, "--outdir", tmp_path / output, "--ages", "5,85", "--output", output)
        assert result.exit_code == 0, result.output
        names[output] = {path.stem for path in (tmp_path / output).iterdir()} - {"index", "grace_hopper"}
    assert names["photo"] == {f"grace_hopper-{what}" for what in ("age5", "age85", "face1-photo-strip")}
    assert names["face"] == {f"grace_hopper-face1-{what}" for what in ("age5", "age85", "strip")}
    assert names["both"] == names["photo"] | names["face"]


def test_the_record_says_what_was_reached(run, tmp_path: Path):
    assert run(HOPPER, "--outdir", tmp_path, "--ages", "5,85").exit_code == 0
    record = json.loads((tmp_path / "grace_hopper.json").read_text(encoding="utf-8"))
    (face,) = record["faces"]
    assert [age["age"] for age in face["ages"]] == [5, 85]
    assert all(0 <= age["strength"] <= 3 and age["looks"] >= 0 for age in face["ages"])
    assert all((tmp_path / name).is_file() for name in record["files"])
    given = ["--strength", "0.5", "--outdir", tmp_path / "given"]
    assert run(HOPPER, "--ages", "5", *given).exit_code == 0
    record = json.loads((tmp_path / "given" / "grace_hopper.json").read_text(encoding="utf-8"))
    assert record["faces"][0]["ages"][0] == {"age": 5, "caption": "age 5", "strength": 0.5, "looks": None}


def test_a_photo_stays_the_kind_of_file_it_is_and_says_what_was_done(run, tmp_path: Path):
    image = Image.open(HOPPER).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    exif[ExifTags.Base.Artist] = "me"
    image.rotate(180).save(tmp_path / "me.jpg", exif=exif)
    line = [tmp_path / "me.jpg", "--ages", "5"]
    assert run(*line, "--outdir", tmp_path / "out").exit_code == 0
    with Image.open(tmp_path / "out" / "me-age5.jpg") as aged:
        assert aged.size == image.size
        assert aged.getexif()[ExifTags.Base.Artist] == "me"
        assert aged.getexif()[ExifTags.Base.Orientation] == 1
        assert b"/compositeWithTrainedAlgorithmicMedia" in aged.info["xmp"]
        assert b"face shown at age 5" in aged.info["comment"]
    bare = ["--strip-metadata", "--no-mark", "--format", "png", "--output", "both", "--outdir", tmp_path / "bare"]
    assert run(*line, *bare).exit_code == 0
    for path in (tmp_path / "bare").glob("*.png"):
        with Image.open(path) as aged:
            aged.load()
            assert not aged.getexif()
            assert not {"xmp", "XML:com.adobe.xmp", "Comment"} & aged.info.keys()


def test_generated_faces_say_what_they_are(run, tmp_path: Path):
    assert run(HOPPER, "--ages", "5", "--output", "face", "--outdir", tmp_path).exit_code == 0
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as face:
            assert "/trainedAlgorithmicMedia" in str(face.info["xmp"])


def test_the_page_shows_before_and_after_without_a_script(run, tmp_path: Path):
    shutil.copy(HOPPER, tmp_path / "<b>.jpg")
    assert run(tmp_path / "<b>.jpg", "--outdir", tmp_path / "out", "--ages", "5,85").exit_code == 0
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count('class="before"') == 2
    assert page.count('src="data:image/jpeg;base64,') == 5  # two ages, before each the photo, and a strip
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<b>" not in page


def test_a_run_goes_on_where_it_was_stopped(run, tmp_path: Path):
    small = Image.open(HOPPER).resize((256, 300))
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        small.save(tmp_path / "in" / name)
    line = [tmp_path / "in", "--outdir", tmp_path / "out", "--skip-existing"]
    assert run(*line, "--ages", "5").exit_code == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    (tmp_path / "out" / "b" / "b.json").unlink()  # as if it had been stopped there
    small.save(tmp_path / "in" / "c.png")
    result = run(*line, "--ages", "5")
    assert result.stderr.splitlines()[-1] == f"3 photos are in {tmp_path / 'out'}, 1 of them from before"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count('class="before"') == 3  # those from before are shown, too
    assert page.count("data:image/jpeg") == 9
    again = {path.name for path, before in times.items() if path.stat().st_mtime_ns != before}
    assert again == {path.name for path in times if path.name[0] == "b"}
    assert "c-face1-photo-strip" in result.stdout
    assert "1 of them" not in run(*line, "--ages", "7").stderr  # other pictures
    small.rotate(1).save(tmp_path / "in" / "a.png")
    assert "2 of them" in run(*line, "--ages", "7").stderr  # another photo


def test_folders_in_folders(run, tmp_path: Path):
    small = Image.open(HOPPER).resize((128, 150))
    for name in ("in/me.png", "in/one/me.png", "in/one/two/me.jpg", "in/one/two/me.png", "in/.hidden/me.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        small.save(tmp_path / name)
    line = [tmp_path / "in", "--ages", "5", "--recursive", "--outdir", tmp_path / "in" / "out"]
    for _ in range(2):  # what is in the output folder is no input
        result = run(*line)
        assert result.exit_code == 0, result.output
        records = {path.relative_to(tmp_path / "in" / "out") for path in (tmp_path / "in" / "out").rglob("*.json")}
        assert {path.as_posix() for path in records} == {
            *("me/me.json", "one/me/me.json", "one/two/me/me.json", "one/two/me-2/me-2.json")
        }


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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"grace_hopper", "index.html"}
    assert result.stderr.splitlines()[-1].startswith(f"1 photos are in {tmp_path / 'out'}; 5 failed: ")
    assert "no face found" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_of_a_photo_without_a_face_nothing_is_written(run, tmp_path: Path):
    Image.new("RGB", (200, 200), "green").save(tmp_path / "meadow.png")
    result = run(tmp_path / "meadow.png", "--outdir", tmp_path / "out", "--ages", "30")
    assert result.exit_code == 1
    assert result.stderr.count("no face found") == 1
    assert not (tmp_path / "out").exists()


def test_photos_of_one_name_keep_their_own_pictures(run, tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(HOPPER, tmp_path / name / "me.jpg")
    result = run(tmp_path / "a/me.jpg", tmp_path / "b/me.jpg", "--outdir", tmp_path / "out", "--ages", "30")
    assert result.exit_code == 0, result.output
    assert {p.stem for p in (tmp_path / "out").iterdir()} == {"me", "me-2", "index"}
    for stem in ("me", "me-2"):
        names = {p.stem for p in (tmp_path / "out" / stem).iterdir()}
        assert names == {stem, f"{stem}-age30", f"{stem}-face1-photo-strip"}


def test_all_faces_or_the_largest(run, tmp_path: Path):
    image = Image.open(HOPPER).convert("RGB")
    group = Image.new("RGB", (1100, 620), "gray")
    group.paste(image, (0, 10))
    group.paste(image.resize((410, 480)), (560, 60))
    group.save(tmp_path / "two.png")
    both = run(tmp_path / "two.png", "--outdir", tmp_path / "all", "--ages", "30")
    one = run(tmp_path / "two.png", "--outdir", tmp_path / "one", "--ages", "30", "--face", "largest")
    assert re.match(r".*two\.png: 2 faces look \d+, \d+ \(largest first\)\n", both.stderr)
    assert re.match(r".*two\.png: looks \d+\n", one.stderr)
    assert len(list((tmp_path / "all").glob("*strip.png"))) == 2
    assert len(list((tmp_path / "one").glob("*strip.png"))) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--ages", "five"], 2, "5,25,45,65,85"),
        (["--ages", "5,,7"], 2, "5,25,45,65,85"),
        (["--ages", "-3"], 1, "age -3 is outside"),
        (["--input-age", "-1"], 1, "age -1 is outside"),
        (["--paste-back", "old"], 2, "'old' is not one of 'change', 'face'"),
        (["--video", "avi"], 2, "'avi' is not one of 'mp4', 'gif'"),
        (["--outdir", str(HOPPER)], 2, "is a file"),
        (["--generator", "missing.safetensors"], 1, "missing.safetensors"),
        (["--encoder", str(HOPPER)], 1, "grace_hopper.jpg"),
        (["--ages", "90:5:5"], 2, "never reach their end"),
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
    line = [*photos, "--ages", "20,80", "--paste-back", "--video", "gif", "--output", "both"]
    result = run(*line, "--outdir", tmp_path / "out")
    assert result.exit_code == 0, result.output
    kinds = ["-age20.png", "-age80.png", "-ages.gif", "-face1-age20.png", "-face1-age80.png", "-face1-strip.png"]
    kinds += ["-face1.gif", "-face1-photo-strip.png", ".json"]
    for stem in ("me", "gray"):
        names = {path.name for path in (tmp_path / "out" / stem).iterdir()}
        assert names == {stem + kind for kind in kinds}
    for name, mode in (("me/me-age20.png", "RGBA"), ("gray/gray-age80.png", "L")):
        with Image.open(tmp_path / "out" / name) as pasted:
            assert (pasted.size, pasted.mode) == ((512, 600), mode)
            assert str(tmp_path / "out" / name) in result.stdout
    run(photos[1], "--ages", "20", "--paste-back", "face", "--outdir", tmp_path / "whole")
    change, face = (np.asarray(Image.open(tmp_path / out / "gray-age20.png")) for out in ("out/gray", "whole"))
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
    names = {f"grace_hopper-{what}" for what in ("age20", "age22.5", "age25", "face1-photo-strip")}
    assert {path.stem for path in tmp_path.iterdir()} == {*names, "grace_hopper", "index"}


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
    strip = tmp_path / "out" / "grace_hopper-face1-photo-strip.png"
    assert str(strip) in result.output
    assert str(tmp_path / "out" / "index.html") in result.output
    with Image.open(strip) as image:
        assert image.width == 8 * 258 - 2


def test_weights_that_are_named(weights: Path, tmp_path: Path):
    named = ["--generator", str(weights / "generator.safetensors"), "--encoder", str(weights / "encoder.safetensors")]
    command = ["transfer", str(HOPPER), "--ages", "20", "--outdir", str(tmp_path), *named, "--device", "cpu"]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert len(list(tmp_path.glob("*-age20.*"))) == 1


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
    assert len(list((tmp_path / "out").glob("grace_hopper-71+.*"))) == 1
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
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["a", "b", "index.html"]
    assert result.stdout.index("a-face1-photo-strip") < result.stdout.index("b-face1-photo-strip")
    result = run(folder / "empty")
    assert result.exit_code == 1
    assert f"{folder / 'empty'}: no pictures in this folder" in result.output


def small_photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(HOPPER).resize((256, 300)).save(path, "png")
    return path


@pytest.mark.parametrize("name", ["me-age5.png", "me.json", "index.html"])
def test_no_file_of_the_user_is_replaced(run, tmp_path: Path, name: str):
    photo, theirs = small_photo(tmp_path / "me.png"), tmp_path / name
    theirs.write_bytes(b"theirs")
    result = run(photo, "--outdir", tmp_path, "--ages", "5")
    assert result.exit_code == 1
    assert name in result.stderr
    assert theirs.read_bytes() == b"theirs"
    assert not list(tmp_path.glob("*strip*"))
    theirs.unlink()
    for _ in range(2):  # an earlier run's files are
        assert run(photo, "--outdir", tmp_path, "--ages", "5", "--no-mark").exit_code == 0


def test_a_run_that_is_killed_leaves_no_record_of_the_one_before(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    line = [small_photo(tmp_path / "me.png"), "--outdir", tmp_path / "out", "--ages", "5,85", "--skip-existing"]
    assert run(*line, "--strength", "1", "--no-mark").exit_code == 0

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # after its first photos, before its record
        patched.setattr("facegen.batch.save._save_strips", killed)
        assert run(*line, "--strength", "0", "--no-mark").exit_code == 130
    before = (tmp_path / "out" / "me-age85.png").read_bytes()
    assert run(*line, "--strength", "1", "--no-mark").exit_code == 0
    assert (tmp_path / "out" / "me-age85.png").read_bytes() != before


def test_other_weights_at_the_same_place_are_another_run(run, weights: Path, tmp_path: Path):
    shutil.copy(weights / "generator.safetensors", tmp_path / "g.safetensors")
    shutil.copy(weights / "encoder.safetensors", tmp_path / "e.safetensors")
    photo = small_photo(tmp_path / "me.png")
    line = [photo, photo, "--outdir", tmp_path / "out", "--ages", "5", "--skip-existing"]
    line += ["--generator", tmp_path / "g.safetensors", "--encoder", tmp_path / "e.safetensors"]
    assert "from before" not in run(*line).stderr
    assert "2 of them from before" in run(*line).stderr
    encoder = small_encoder()
    with torch.no_grad():
        next(encoder.parameters()).add_(0.1)
    header = {"groups": AgeGroups.default().labels}
    save_networks(tmp_path / "e.safetensors", {"encoder": encoder}, header)
    assert "from before" not in run(*line).stderr


def test_a_damaged_strip_of_an_earlier_run_stops_nothing(run, tmp_path: Path):
    line = [small_photo(tmp_path / "in" / name) for name in ("a.png", "b.png")]
    line += ["--outdir", tmp_path / "out", "--ages", "5", "--skip-existing"]
    assert run(*line).exit_code == 0
    strip = tmp_path / "out" / "a" / "a-face1-photo-strip.png"
    strip.write_bytes(strip.read_bytes()[:300])
    (tmp_path / "out" / "b" / "b.json").unlink()
    result = run(*line)
    assert result.exit_code == 0, result.output
    assert "1 of them from before" in result.stderr


def test_results_are_not_taken_for_photos(run, tmp_path: Path):
    small_photo(tmp_path / "in" / "me.png")
    small_photo(tmp_path / "in" / "you.png")
    line = [tmp_path / "in", "--recursive", "--ages", "5"]
    assert run(*line, "--outdir", tmp_path / "in").exit_code == 1
    for name in ("one", "two"):
        result = run(*line, "--outdir", tmp_path / "in" / name)
        assert result.stderr.splitlines()[-1] == f"2 photos are in {tmp_path / 'in' / name}"


@pytest.mark.parametrize("name", ["..png", "...png"])
def test_names_of_dots_stay_in_the_output_folder(run, tmp_path: Path, name: str):
    photos = [small_photo(tmp_path / "in" / name), small_photo(tmp_path / "in" / "me.png")]
    assert run(*photos, "--outdir", tmp_path / "out" / "deep", "--ages", "5").exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deep"]
    assert {path.name for path in (tmp_path / "out" / "deep").iterdir()} == {"photo", "me", "index.html"}
