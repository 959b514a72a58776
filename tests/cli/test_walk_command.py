from __future__ import annotations

import errno
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import small_generator, start_python
from PIL import Image

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.latents import frames as frames_module
from facegen.weights.native import save_networks

GROUPS = AgeGroups.parse("0-20,21-40,41-60")
FEW = ("--frames=4", "--video=none")


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, str]:
    """Files of a conditional, an unconditional and a gray generator, and of one whose classes are no ages."""
    folder = tmp_path_factory.mktemp("networks")
    kinds = {"conditional": (3, 16, 3), "plain": (0, 16, 3), "gray": (0, 64, 1), "classes": (2, 16, 1)}
    for name, (c_dim, size, channels) in kinds.items():
        metadata = {"groups": GROUPS.labels} if name == "conditional" else {}
        save_networks(folder / f"{name}.safetensors", {"G_ema": small_generator(c_dim, size, channels)}, metadata)
    return {name: str(folder / f"{name}.safetensors") for name in kinds}


@pytest.fixture
def run(networks, tmp_path):
    """A function that walks and returns what was said; it must have worked."""

    def walk(*arguments: object, network: str = "conditional", outdir: Path = tmp_path, command: str = "walk") -> str:
        result = invoke(command, "--outdir", outdir, "--network", networks[network], *arguments)
        assert result.exit_code == 0, result.output
        return result.output

    return walk


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def frames_in(folder: Path) -> np.ndarray:
    """All frames, in order, which are numbered without a gap."""
    paths = sorted((folder / "frames").iterdir())
    assert [path.name for path in paths] == [f"frame{number:04d}.png" for number in range(len(paths))]
    return np.stack([np.asarray(Image.open(path)).astype(int) for path in paths])


def face(run, tmp_path, *arguments: object, network: str = "conditional") -> np.ndarray:
    """The picture that `facegen generate` draws."""
    outdir = tmp_path / "faces"
    run(*arguments, network=network, outdir=outdir, command="generate")
    (path,) = outdir.iterdir()
    pixels = np.asarray(Image.open(path)).astype(int)
    path.unlink()
    return pixels


@pytest.mark.parametrize("network", ["conditional", "plain", "gray"])
@pytest.mark.parametrize(("interpolation", "space"), [("linear", "z"), ("linear", "w"), ("sphericalinterp", "w")])
def test_a_walk_shows_its_faces_and_returns(run, tmp_path, network, space, interpolation):
    way = ("--space", space, "--interpolation", interpolation, "--trunc=0.8", "--class=1")
    drawn = [face(run, tmp_path, f"--seeds={seed}", *way[4:], network=network) for seed in (5, 2, 9)]
    run("--seeds=5,2,9", *way, *FEW, "--loop", network=network)
    frames = frames_in(tmp_path)
    assert len(frames) == 12
    assert np.abs(frames[::4] - drawn).max() <= 1
    run("--seeds=5,2,9", *way, *FEW, network=network)
    frames = frames_in(tmp_path)
    assert len(frames) == 8
    assert np.abs(frames[[0, 4, 7]] - drawn).max() <= 1


def test_one_seed_through_ages(run, tmp_path):
    run("--seeds=3", "--age=10:50", "--frames=5", "--video=gif", "--fps=10")
    frames = frames_in(tmp_path)
    assert len(frames) == 5
    for frame, age in zip(frames, (10, 20, 30, 40, 50), strict=True):
        assert np.abs(frame - face(run, tmp_path, "--seeds=3", f"--age={age}")).max() <= 1
    with Image.open(tmp_path / "interpolation-linear-seed_3-age10_to_age50-10fps.gif") as video:
        assert video.n_frames == 5
    said = run("--seeds=3", "--frames=5", "--video=none", outdir=tmp_path / "all")
    assert "10 to 50 years" in said
    np.testing.assert_array_equal(frames_in(tmp_path / "all"), frames)
    run("--seeds=3", "--age=50:10", "--frames=5", "--video=none", outdir=tmp_path / "back")
    assert np.abs(frames_in(tmp_path / "back")[::-1] - frames).max() <= 1


def test_several_seeds_through_classes_have_a_folder_each(run, tmp_path):
    run("--seeds=3,4", "--class=0-2", *FEW)
    assert names(tmp_path) == ["seed0003", "seed0004"]
    one, other = frames_in(tmp_path / "seed0003"), frames_in(tmp_path / "seed0004")
    assert len(one) == len(other) == 8
    assert not np.array_equal(one, other)
    assert np.abs(one[4] - face(run, tmp_path, "--seeds=3", "--class=1")).max() <= 1


def test_a_class_that_is_assumed_is_said(run, tmp_path):
    assert "21-40" in run("--seeds=3,4", *FEW)
    assert "2 classes" in run("--seeds=3", *FEW, network="classes")
    assert "no classes" in run("--seeds=3,4", "--age=30", *FEW, network="plain")


@pytest.mark.parametrize("network", ["conditional", "gray"])
@pytest.mark.parametrize("interpolation", ["circularloop", "noiseloop"])
def test_loops_close_and_are_the_same_again(run, tmp_path, network, interpolation):
    line = ("--process=interpolation", "--interpolation", interpolation, "--diameter=20", "--frames=24")
    for folder in ("one", "two"):
        run(*line, "--random_seed=0", network=network, outdir=tmp_path / folder, command="generate")
    paths = [sorted((tmp_path / folder).rglob("*.*")) for folder in ("one", "two")]
    assert [path.read_bytes() for path in paths[0]] == [path.read_bytes() for path in paths[1]]
    assert f"interpolation-{interpolation}-20dia-seed_0" in names(tmp_path / "one")[1]
    frames = frames_in(tmp_path / "one")
    assert len(frames) == 24
    steps = np.abs(frames - np.roll(frames, 1, axis=0)).mean(axis=tuple(range(1, frames.ndim)))
    assert 0 < steps[0] <= steps[1:].max()
    run(*line, "--random-seed=1", "--video=none", network=network, outdir=tmp_path / "two")
    assert not np.array_equal(frames_in(tmp_path / "two"), frames)


@pytest.mark.parametrize("network", ["conditional", "plain"])
@pytest.mark.parametrize("start", [["--start=-1.0"], ["--start", "-1"]])
def test_truncation_from_start_to_stop(run, tmp_path, network, start):
    line = ("--process=truncation", "--seeds=85", *start, "--stop=2.0", "--increment=0.5", "--fps=5")
    said = run(*line, network=network, command="generate")
    assert "facegen walk" in said
    frames = frames_in(tmp_path)
    assert len(frames) == 7
    label = "-21-40" * (network == "conditional")
    assert f"truncation-seed_85{label}-start_-1-stop_2-inc_0.5-5fps.mp4" in names(tmp_path)
    for index, psi in ((0, -1), (4, 1), (6, 2)):
        drawn = face(run, tmp_path, "--seeds=85", "--class=1", f"--trunc={psi}", network=network)
        assert np.abs(frames[index] - drawn).max() <= 1


def test_truncation_on_the_way(run, tmp_path):
    truncated = ("--process=interpolation_truncation", "--start", ".2", "--stop", ".9")
    run("--seeds=1,2", *truncated, *FEW, network="plain", command="generate")
    frames = frames_in(tmp_path)
    assert len(frames) == 4
    assert np.abs(frames[0] - face(run, tmp_path, "--seeds=1", "--trunc=0.2", network="plain")).max() <= 1
    assert np.abs(frames[3] - face(run, tmp_path, "--seeds=2", "--trunc=0.9", network="plain")).max() <= 1


def test_latents_from_files_and_seeds_in_one_walk(run, tmp_path):
    faces = tmp_path / "faces"
    run("--seeds=1,2", "--class=1", "--save-latents", outdir=faces, command="generate")
    run("--projected_w", faces / "latents.npz", "--seeds=7", "--class=1", *FEW)
    frames = frames_in(tmp_path)
    assert len(frames) == 8
    seventh = face(run, tmp_path / "7", "--seeds=7", "--class=1")
    for index, drawn in ((0, np.asarray(Image.open(faces / "seed0001.png"))), (-1, seventh)):
        assert np.abs(frames[index] - drawn).max() <= 1
    still = ("--process=truncation", "--start=1", "--stop=0", "--increment=.5", "--video=none")
    run("--projected-w", faces / "latents.npz", *still, outdir=tmp_path / "still")
    assert names(tmp_path / "still") == ["proj00", "proj01"]
    first, second = (frames_in(tmp_path / "still" / name) for name in ("proj00", "proj01"))
    assert np.abs(first[0] - frames[0]).max() <= 1
    np.testing.assert_array_equal(first[2], second[2])  # of no class, toward the one mean


def test_a_video_has_a_short_name(run, tmp_path):
    run("--seeds=100000-100099,5", "--frames=2", "--video=gif", "--keep-frames=false", network="plain")
    assert names(tmp_path) == ["interpolation-linear-seeds_100000_to_5_of_101-24fps.gif"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds=5-3"], "fall"),
        (["--seeds=-1"], "not a seed"),
        ([], "--seeds"),
        (["--seeds=1", "--age=30"], "two seeds"),
        (["--seeds=1", "--class=0-3"], "3 classes"),
        (["--seeds=1,2", "--group=9-10"], "21-40"),
        (["--seeds=1", "--age=5:900"], "age"),
        (["--seeds=1,2", "--frames=1"], "frames"),
        (["--seeds=1,2", "--frames=99999", "--age=10:50", "--loop"], "frames"),
        (["--seeds=1,2", "--easing=wobble"], "easeInOutQuad"),
        (["--seeds=1,2", "--interpolation=zigzag"], "noiseloop"),
        (["--interpolation=circularloop", "--seeds=1,2", "--class=1"], "three seeds"),
        (["--interpolation=circularloop", "--class=0-1"], "one class"),
        (["--interpolation=noiseloop", "--projected-w=x.npz"], "--projected-w"),
        (["--process=truncation", "--seeds=1", "--increment=0"], "increment"),
        (["--process=truncation", "--seeds=1", "--class=0-1"], "one class"),
        (["--projected-w=missing.npz"], "missing.npz"),
        (["--projected-w=OTHER"], "9"),
        (["--projected-w=OTHER", "--space=z", "--seeds=1", "--class=1"], "--space z"),
        (["--projected-w=OTHER", "--age=5:60"], "one class"),
        (["--seeds=1,2", "--video=none", "--keep-frames=false"], "nothing to write"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(networks, tmp_path, arguments, words):
    other = tmp_path / "other.npz"
    np.savez(other, w=np.zeros([2, 6, 9], np.float32))
    arguments = [argument.replace("OTHER", str(other)) for argument in arguments]
    result = invoke("walk", "--outdir", tmp_path / "out", "--network", networks["conditional"], *arguments)
    assert result.exit_code in (1, 2)
    error = result.output.strip().splitlines()[-1]
    assert error.startswith("Error: ")
    assert words in error
    assert not (tmp_path / "out").exists()


def test_a_missing_ffmpeg_is_said_before_the_network_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    line = ("--video=mp4", "--network", tmp_path / "missing.pkl", "--outdir", tmp_path / "out")
    result = invoke("walk", "--seeds=1,2", *line)
    assert result.exit_code == 1
    assert "imageio-ffmpeg" in result.output.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("asked", [[], ["--video"], ["--video=auto"]])
@pytest.mark.parametrize("line", [["walk", "--seeds=3-4", "--age=20:40"], ["digress", "--step2=.5", "--class=0"]])
def test_without_ffmpeg_a_video_that_need_not_be_mp4_is_a_gif(networks, tmp_path, monkeypatch, line, asked):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    few = ["--frames=2"] * (line[0] == "walk")
    result = invoke(*line, *few, *asked, "--network", networks["conditional"], "--outdir", tmp_path)
    assert result.exit_code == 0, result.output
    (note,) = [line for line in result.stderr.splitlines() if "GIF" in line]
    assert "facegen[video]" in note
    videos = [path for path in tmp_path.rglob("*.*") if path.suffix != ".png"]
    assert {path.suffix for path in videos} == {".gif"}
    assert len(videos) == (2 if line[0] == "walk" else 1)
    assert not set(map(str, videos)) - set(result.stdout.splitlines())


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(errno.ENOSPC, "No space left on device"), 1), (KeyboardInterrupt(), 130)]
)
def test_what_is_stopped_halfway_leaves_nothing_half_written(networks, run, tmp_path, monkeypatch, error, code):
    run("--seeds=1,2", "--frames=30", "--video=none", network="plain")
    write = frames_module._write

    def stopped(folder: Path, number: int, picture: Image.Image) -> Image.Image:
        if number == 3:
            raise error
        return write(folder, number, picture)

    monkeypatch.setattr(frames_module, "_write", stopped)
    result = invoke("walk", "--seeds=3,4", "--frames=20", "--outdir", tmp_path, "--network", networks["plain"])
    assert result.exit_code == code
    said = result.output.strip().splitlines()[-1]
    assert said == "Stopped." if code == 130 else "No space left" in said
    assert names(tmp_path) == ["frames"]
    assert not list(tmp_path.rglob("*.tmp"))
    assert len(names(tmp_path / "frames")) <= 20  # none of the run before


def test_help_needs_no_torch():
    script = "import sys; sys.modules['torch'] = None; from facegen.cli import main; main(['walk', '--help'])"
    process = start_python("-c", script)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "--age 5:90" in said
