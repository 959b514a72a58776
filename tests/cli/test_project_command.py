from __future__ import annotations

import signal
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
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.latents.files import read_array, save_latents
from facegen.latents.projection import save
from facegen.weights import locate
from facegen.weights.native import save_networks

GROUPS = AgeGroups.parse("0-20,21-40,41-")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of a conditional, an unconditional and a gray generator, and of what comes with the package."""
    folder = tmp_path_factory.mktemp("networks")
    header = {"groups": GROUPS.labels, "template": UTKFACE_TEMPLATE.to_json()}
    save_networks(folder / "generator.safetensors", {"G_ema": small_generator(3)}, header)
    save_networks(folder / "plain.safetensors", {"G_ema": small_generator(0, 64)}, {})
    save_networks(folder / "gray.safetensors", {"G_ema": small_generator(3, 16, 1)}, {"groups": GROUPS.labels})
    save_networks(folder / "classes.safetensors", {"G_ema": small_generator(4)}, {})
    save_networks(folder / "encoder.safetensors", {"encoder": small_encoder()}, header)
    save_networks(folder / "age.safetensors", {"age": small_estimator()}, {})
    (folder / "features.safetensors").write_bytes(locate.shipped_file("features").read_bytes())
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def run(networks: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    """Call facegen in this process; few steps, and no video unless a test asks for it."""
    monkeypatch.setattr(locate, "PRETRAINED", networks["generator"].parent)

    def call(*arguments: object, steps: int = 2, video: str = "False", distance: str = "lite") -> Result:
        more = [f"--save-video={video}", "--num-steps", steps, "--distance", distance]
        return CliRunner().invoke(main, ["project", *map(str, [*arguments, *more])])

    return call


@pytest.fixture
def photo(face: Image.Image, tmp_path: Path) -> Path:
    face.save(tmp_path / "me.png")
    return tmp_path / "me.png"


@pytest.mark.parametrize("kind", ["generator", "plain", "gray", "classes"])
def test_the_result_is_what_generate_draws_of_it(run, networks, photo, tmp_path, kind):
    out, network = tmp_path / "out", f"--network={networks[kind]}"
    result = run(f"--target={photo}", f"--outdir={out}", network, "--align", "none", steps=5)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {"target.png", "proj.png", "projected_w.npz"}
    drawn = CliRunner().invoke(
        main, ["generate", f"--outdir={tmp_path}", f"--projected_w={out / 'projected_w.npz'}", network]
    )
    assert drawn.exit_code == 0, drawn.output
    with Image.open(out / "proj.png") as proj, Image.open(tmp_path / "proj00.png") as same:
        assert np.array_equal(np.asarray(proj), np.asarray(same))
        assert proj.mode == ("L" if kind == "gray" else "RGB")
        assert "projection of me.png" in str(proj.info)
    with Image.open(out / "target.png") as target:
        assert target.mode == ("L" if kind == "gray" else "RGB")
    assert ("group" in result.stderr) == (kind in ("generator", "gray"))
    assert ("faces are class0" in result.stderr) == (kind == "classes")
    w = read_array(out / "projected_w.npz")
    assert w.dtype == np.float32
    assert len(w) == 1


def test_a_folder_of_odd_pictures_and_a_broken_one(run, face, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    face.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif)
    face.quantize(16).save(folder / "palette.png")
    clear = face.convert("RGBA")
    clear.putalpha(0)
    clear.save(folder / "clear.png")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    result = run("--target", folder, "--outdir", tmp_path / "out", "--align", "none", "--batch", 2)
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"turned", "palette", "clear"}
    with Image.open(tmp_path / "out" / "clear" / "target.png") as target:
        assert target.getextrema() == ((255, 255),) * 3
    with Image.open(tmp_path / "out" / "turned" / "target.png") as target:
        upright = face.resize((16, 16), Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(target).astype(int) - np.asarray(upright)).max() <= 1


def test_the_face_of_a_photo_at_other_ages(run, tmp_path):
    result = run(
        *("--target", HOPPER, "--outdir", tmp_path, "--then-ages", "5:65:30", "--space", "w+", "--start", "encoder"),
        *("--encoder", locate.PRETRAINED / "encoder.safetensors", "--save-noise"),
    )
    assert result.exit_code == 0, result.output
    pictures = {"target.png", "proj.png", "age05.png", "age35.png", "age65.png", "ages.png"}
    assert {path.name for path in tmp_path.iterdir()} == pictures | {"projected_w.npz", "noise.npz"}
    assert "face aligned" in result.stderr
    with np.load(tmp_path / "noise.npz") as noise:
        assert noise["b16.conv1.noise_const"].shape == (16, 16)
    ages = [np.asarray(Image.open(tmp_path / name)) for name in ("age05.png", "age65.png")]
    assert not np.array_equal(*ages)


def test_the_video_has_the_target_beside_the_result(run, photo, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    result = run("--target", photo, "--outdir", tmp_path / "out", "--class", 1, steps=3, video="True")
    assert result.exit_code == 0, result.output
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "out" / "proj.mp4"))
    assert (frames, round(frames / seconds)) == (3, 10)


def test_without_ffmpeg(run, photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    asked = CliRunner().invoke(main, ["project", "--target", str(photo), "--save-video", "--outdir", str(tmp_path)])
    assert asked.exit_code == 1
    assert "imageio-ffmpeg" in asked.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["me.png"]
    line = ["--distance", "lite", "--num-steps", "1", "--outdir", str(tmp_path / "out")]
    unasked = CliRunner().invoke(main, ["project", "--target", str(photo), *line])
    assert unasked.exit_code == 0, unasked.output
    assert not (tmp_path / "out" / "proj.mp4").exists()


def test_missing_weights_of_lpips(run, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    result = run("--target", photo, "--outdir", tmp_path / "out", distance="lpips")
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert "vgg16-397923af.pth" in line
    assert "--distance lite" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--class", "7"], "there is no class 7"),
        (["--age", "30,40"], "one class"),
        (["--then-ages", "30", "--network", "plain"], "not age groups"),
        (["--then-ages", "30", "--network", "classes"], "not age groups"),
        (["--start=encoder", "--network", "plain"], "--encoder"),
        (["--then-ages", "200"], "200"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(run, networks, photo, tmp_path, arguments, words):
    arguments = [networks.get(argument, argument) for argument in arguments]
    result = run("--target", photo, "--outdir", tmp_path / "out", *arguments)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", [".", "deep/out"])
def test_a_place_that_cannot_be_written_to_is_said_before_the_work(run, photo, monkeypatch, below):
    monkeypatch.setattr(save, "project", None)
    result = run("--target", photo, "--outdir", photo / below)
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert str(photo) in line


def test_ctrl_c_writes_what_there_is(run, photo, tmp_path, monkeypatch):
    def interrupted(*arguments, **how):
        for projection in project(*arguments, **how):
            if projection.step == 3:
                signal.raise_signal(signal.SIGINT)
            assert projection.step < 10
            yield projection

    project = save.project
    monkeypatch.setattr(save, "project", interrupted)
    result = run("--target", photo, "--outdir", tmp_path / "out", steps=1000)
    assert result.exit_code == 130
    assert "after 3 steps" in result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"target.png", "proj.png", "projected_w.npz"}


def test_latents_of_several_files_in_one(tmp_path):
    for number in (9, 10):
        save_latents(tmp_path / f"{number}.npz", torch.full([number - 8, 6, 8], float(number)))
    np.savez(tmp_path / "tf.npz", dlatents=np.ones([1, 1, 8], np.float32))

    def combine(*arguments: object) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments)])

    result = combine("combine", tmp_path, f"--outdir={tmp_path}")
    assert result.exit_code == 0, result.output
    assert [line.split(": ")[-1] for line in result.stdout.splitlines()][:3] == ["row 0", "rows 1 to 2", "row 3"]
    rows = read_array(tmp_path / "combined.npz")
    assert rows.shape == (4, 6, 8)
    assert rows[:, 5, 7].tolist() == [9, 10, 10, 1]
    again = combine("combine", tmp_path, f"--outdir={tmp_path}")
    assert again.stdout == result.stdout
    names = ",".join(str(tmp_path / name) for name in ("10.npz", "9.npz"))
    assert combine("combine-npz", f"--npzs={names}", f"--outdir={tmp_path / 'old'}").exit_code == 0
    assert read_array(tmp_path / "old" / "combined.npz")[:, 0, 0].tolist() == [10, 10, 9]


def test_latents_of_two_networks_are_not_combined(tmp_path):
    one = save_latents(tmp_path / "a.npz", torch.zeros([1, 6, 8]))
    other = save_latents(tmp_path / "b.npz", torch.zeros([1, 14, 8]))
    result = CliRunner().invoke(main, ["combine", str(one), str(other), f"--outdir={tmp_path / 'out'}"])
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert "b.npz" in line
    assert "14" in line
    assert "6" in line
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(main, ["combine"]).exit_code == 2
