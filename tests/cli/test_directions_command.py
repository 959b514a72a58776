import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from helpers import HOPPER, small_encoder, small_estimator, small_generator
from PIL import Image

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.latents.directions import directions
from facegen.latents.directions.files import Factor, save_factor
from facegen.latents.files import save_latents
from facegen.weights import locate
from facegen.weights.native import save_networks


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, Path]:
    """Files as in facegen/pretrained/; a network without classes, and a gray one, beside them."""
    folder = tmp_path_factory.mktemp("pretrained")
    header = {"groups": AgeGroups.default().labels}
    files = {name: folder / f"{name}.safetensors" for name in ("generator", "encoder", "age", "plain", "gray")}
    save_networks(files["generator"], {"G_ema": small_generator(10)}, header)
    save_networks(files["encoder"], {"encoder": small_encoder()}, header)
    save_networks(files["age"], {"age": small_estimator()}, {})
    save_networks(files["plain"], {"G_ema": small_generator(0)}, {})
    save_networks(files["gray"], {"G_ema": small_generator(0, 64, 1)}, {})
    return files


@pytest.fixture(scope="module")
def factor(networks) -> Path:
    return save_factor(networks["generator"].with_name("factor.pt"), Factor(directions(small_generator(10))))


@pytest.fixture
def run(networks, monkeypatch, tmp_path):
    """Call facegen in this process, in an empty folder."""
    monkeypatch.setattr(locate, "PRETRAINED", networks["generator"].parent)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, list(map(str, arguments)))

    return call


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_find_and_apply(run):
    assert run("directions", "find", "--layers", "coarse").exit_code == 0
    result = run("directions", "apply", "factor.pt", "--seeds", "10,20", "--age", "35,70", "-i", "0-2,5")
    assert result.exit_code == 0, result.output
    starts = {f"seed-{seed}-age{age}" for seed in (10, 20) for age in (35, 70)}
    assert names("out") == {f"{start}_index-0-2,5_degree-2.png" for start in starts}


@pytest.mark.parametrize(("kind", "space"), [("generator", "z"), ("plain", "w"), ("gray", "z")])
def test_the_line_of_the_fork(run, networks, kind, space):
    torch.save({"ckpt": "net.pkl", "eigvec": directions(small_generator(0))}, "factor.pt")
    result = run(
        *("apply-factor", "-i", "0-2", "--seeds", "10,20", "--ckpt", networks[kind], "--space", space),
        *("-d", "5", "--truncation", "0.7", "--output", "sheets", "factor.pt", "--no-video"),
    )
    assert result.exit_code == 0, result.output
    assert names("sheets") == {"seed-10_index-0-2_degree-5.png", "seed-20_index-0-2_degree-5.png"}


def test_the_other_line_of_the_fork(run, networks):
    result = run("closed_form_factorization", "--ckpt", networks["plain"], "--out", "theirs.pt", "--order", "fork")
    assert result.exit_code == 0, result.output
    loaded = torch.load("theirs.pt", weights_only=True)
    assert loaded["ckpt"] == "plain.safetensors"
    assert torch.equal(loaded["eigvec"], directions(small_generator(0), order="fork"))


def test_a_video_for_each_face_and_direction(run, factor):
    pytest.importorskip("imageio_ffmpeg")
    options = ("--video", "--vid_increment", "1", "--seeds", "7", "-i", "1,3")
    result = run("directions", "apply", factor, *options)
    assert result.exit_code == 0, result.output
    for index in (1, 3):
        folder = f"out/seed-7/index-{index}"
        assert names(folder) == {"frames", f"seed-7_index-{index}_degree-2.mp4"}
        assert names(f"{folder}/frames") == {f"frame000{frame}.png" for frame in range(5)}
    result = run("directions", "apply", factor, "--video", "--seeds", "0-3", "-i", "-1")
    assert result.exit_code == 1
    assert "32 videos" in result.stderr.splitlines()[-1]


def test_without_ffmpeg_videos_are_gifs(run, factor, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    options = ("--video", "--vid-increment", "1", "--seeds", "7", "-i", "1,3")
    result = run("directions", "apply", factor, *options)
    assert result.exit_code == 0, result.output
    assert len([line for line in result.stderr.splitlines() if "facegen[video]" in line]) == 1
    for index in (1, 3):
        folder = f"out/seed-7/index-{index}"
        assert names(folder) == {"frames", f"seed-7_index-{index}_degree-2.gif"}


def test_drawn_seeds_are_said(run, factor):
    result = run("directions", "apply", factor, "--seeds", "r3", "-i", "0")
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("Seeds: ")]
    drawn = said.removeprefix("Seeds: ").split(",")
    assert names("out") == {f"seed-{seed}_index-0_degree-2.png" for seed in drawn}
    assert len(set(drawn)) == 3
    assert "Seeds: " in run("directions", "apply", factor, "-i", "0").stderr


def test_latents_from_a_file_and_a_photo(run, factor):
    save_latents("projected_w.npz", torch.randn([2, 6, 8]))
    result = run("directions", "apply", factor, "-i", "0", "--projected_w", "projected_w.npz")
    assert result.exit_code == 0, result.output
    result = run("directions", "apply", factor, "-i", "0,2", "--photo", HOPPER)
    assert result.exit_code == 0, result.output
    files = {f"{name}_index-0_degree-2.png" for name in ("proj00", "proj01")}
    assert names("out") == files | {f"{HOPPER.stem}_index-0,2_degree-2.png"}
    with Image.open(f"out/{HOPPER.stem}_index-0,2_degree-2.png") as sheet:
        assert sheet.width > 4 * 64
        assert HOPPER.name in str(sheet.info)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--index", "8"], "8, 0 to 7"),
        (["--index", "3-1"], "3-1"),
        (["--degree", "nan"], "degree"),
        (["--layers", "6"], "6, 0 to 5"),
        (["--seeds", "r0"], "r0"),
        (["--space", "z", "--photo", HOPPER], "--space z"),
        (["--seeds", "1", "--photo", HOPPER], "--photo"),
        (["--projected-w", "none.npz"], "none.npz"),
        (["--video", "--vid-increment", "1e-9", "-i", "0"], "--vid-increment"),
        (["--class", "10"], "10 classes"),
    ],
)
def test_mistakes_are_told_in_one_line(run, factor, options, said):
    result = run("directions", "apply", factor, *options)
    assert result.exit_code in (1, 2)
    assert said in result.stderr.splitlines()[-1]
    assert not Path("out").exists()


def test_files_of_other_networks(run):
    torch.save({"eigvec": torch.eye(9)}, "nine.pt")
    assert "9" in run("directions", "apply", "nine.pt", "--seeds", "1").stderr.splitlines()[-1]
    assert run("directions", "apply", "none.pt").exit_code == 1
    assert run("directions", "find", "--out", "factor.txt").exit_code == 1
    assert run("directions", "find", "--layers", "5").exit_code == 1  # only colors
    assert names(".") == {"nine.pt"}
