from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from helpers import small_generator
from PIL import Image

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.latents.files import save_latents
from facegen.weights.native import save_networks

GROUPS = AgeGroups.parse("0-20,21-40,41-")


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, Path]:
    """Files of a conditional, an unconditional and a gray generator."""
    folder = tmp_path_factory.mktemp("networks")
    kinds = {"conditional": (3, 16, 3), "plain": (0, 16, 3), "gray": (0, 64, 1)}
    for name, (c_dim, size, channels) in kinds.items():
        metadata = {"groups": GROUPS.labels} if c_dim else {}
        save_networks(folder / f"{name}.safetensors", {"G_ema": small_generator(c_dim, size, channels)}, metadata)
    return {name: folder / f"{name}.safetensors" for name in kinds}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.mark.parametrize("kind", ["conditional", "plain", "gray"])
def test_the_line_of_the_ancestors(networks, tmp_path, kind):
    result = run(
        *("style-mixing", f"--outdir={tmp_path}", "--rows=85,100,75,458,1500", "--cols=55,821,1789,293"),
        f"--network={networks[kind]}",
    )
    assert result.exit_code == 0, result.output
    names = {path.stem for path in tmp_path.iterdir()}
    assert len(names) == 20 + 9 + 1
    assert {"85-55", "1500-293", "85-85", "293-293", "grid"} < names
    with Image.open(tmp_path / "85-55.png") as picture:
        assert picture.mode == ("L" if kind == "gray" else "RGB")
        assert "seed 85 " in str(picture.info)


def test_an_old_row_with_a_young_column(networks, tmp_path):
    result = run(
        *("mix", "--rows", "7", "--cols", "7", "--row-age", "70", "--col-group", "0-20", "--styles", "coarse"),
        *("--outdir", tmp_path, "--network", networks["conditional"]),
    )
    assert result.exit_code == 0, result.output
    names = {path.stem for path in tmp_path.iterdir()}
    assert names == {"7_age70-7_age70", "7_0-20-7_0-20", "7_age70-7_0-20", "grid"}


def test_faces_from_files(networks, tmp_path):
    file = save_latents(tmp_path / "projected_w.npz", torch.randn([2, 6, 8]))
    result = run(
        *("mix", "--rows", "7", "--row-projected-w", file, "--col-projected-w", file, "--outdir", tmp_path / "out"),
        *("--network", networks["plain"]),
    )
    assert result.exit_code == 0, result.output
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    assert {"7-proj02", "proj00-proj02", "proj01-proj03"} < names
    assert len(names) == 3 + 2 + 3 * 2 + 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rows", "1"], "--cols"),
        (["--cols", "1"], "--rows"),
        (["--rows", "1", "--cols", "2", "--styles", "0-6"], "6, 0 to 5"),
        (["--rows", "1", "--cols", "2", "--row-class", "3"], "3 classes"),
        (["--rows", "1", "--cols", "2", "--col-age", "-3"], "-3"),
        (["--rows", "5-3", "--cols", "2"], "3-5"),
        (["--rows", "1", "--col-projected-w", "none.npz"], "none.npz"),
        (["--rows", "0-9999", "--cols", "10000-19999", "--row-class", "0"], "fewer"),
    ],
)
def test_mistakes_are_told_in_one_line(networks, tmp_path, options, said):
    result = run("mix", *options, "--outdir", tmp_path / "out", "--network", networks["conditional"])
    assert result.exit_code in (1, 2)
    assert said in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
