"""Digressions: two closed circles, and a network that stays what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import small_generator
from PIL import Image

from facegen.cli import main
from facegen.errors import FacegenError
from facegen.latents.digression import digression
from facegen.latents.options import DigressionOptions, DrawingOptions, TruncationOptions
from facegen.latents.seeds import latents_of_seeds
from facegen.latents.space import LatentSpace
from facegen.weights.native import save_networks

FEW = {"step1": 0.25, "step2": 0.125}  # eight frames


def space_of(c_dim: int = 0, channels: int = 3, **drawing) -> LatentSpace:
    generator = small_generator(c_dim, channels=channels).requires_grad_(False)
    return LatentSpace(generator, truncation=TruncationOptions(trunc=0.7), drawing=DrawingOptions(**drawing))


def planned(space: LatentSpace, **options) -> tuple[torch.Tensor, torch.Tensor]:
    plan = digression(space, DigressionOptions(**{**FEW, **options}), space.classes.choose()[0])
    ws, consts = torch.stack(list(plan.ws)), torch.stack(list(plan.consts))
    assert len(ws) == len(consts) == plan.total
    return ws, consts


@pytest.mark.parametrize(
    ("given", "frames", "turns"),
    [
        ({}, 400, (1, 2)),
        ({"video_length": 2}, 800, (2, 4)),
        ({"step1": 0}, 400, (1, 0)),
        ({"step1": 0.0001}, 400, (1, 1)),
        ({"step2": 0.003}, 333, (1, 2)),
        ({"video_length": 0.25}, 100, (1, 1)),
    ],
)
def test_frames_are_counted_and_both_circles_close(given, frames, turns):
    options = DigressionOptions(**given)
    assert (options.frames, options.turns) == (frames, turns)


def test_every_step_of_the_constant_is_of_one_length_the_one_from_last_to_first_too():
    space = space_of()
    own = space.generator.synthesis.b4.const
    _, consts = planned(space)
    assert torch.allclose(consts[0], consts[4], atol=1e-3)  # the second turn
    steps = (consts - consts.roll(1, dims=0)).flatten(1).norm(dim=1)
    assert torch.allclose(steps, steps[:1].expand(8), rtol=1e-3)
    distances = (consts - own).flatten(1).norm(dim=1)
    assert torch.allclose(distances, torch.full([8], 300 * (own.numel() / 8192) ** 0.5), rtol=1e-3)
    assert torch.allclose(consts.mean(dim=0), own, atol=1e-3)


def test_z_goes_around_the_first_seed():
    space = space_of()
    z = latents_of_seeds([7], 8)
    still = {"radius_small": 0, "radius_large": 0}
    label = space.classes.choose()[0]
    for ws in (planned(space, seed=7, **still)[0], planned(space, seeds=(7, 1, 2), **still)[0]):
        assert torch.allclose(ws, space.from_z(torch.from_numpy(z), label.weights[None]).expand_as(ws), atol=1e-5)
    ws, _ = planned(space, seeds=(7, 1, 2))
    assert len({tuple(w[0].tolist()) for w in ws}) == 8


def test_seeds_decide_all_of_it():
    space = space_of()
    for one, other in (({"seed": 0}, {"seed": 1}), ({"seeds": (1, 2, 3)}, {"seeds": (1, 2, 3), "seed": 1})):
        first, again, different = (planned(space, **given)[1] for given in (one, one, other))
        assert torch.equal(first, again)
        assert not torch.equal(first, different)


@pytest.mark.parametrize(("c_dim", "channels"), [(3, 3), (0, 1)])
def test_pictures_do_not_depend_on_the_batch_and_the_network_stays(c_dim, channels):
    pictures = []
    for batch in (1, 8):
        space = space_of(c_dim, channels, batch=batch, size=(32, 16))
        before = space.generator.synthesis.b4.const.clone()
        plan = digression(space, DigressionOptions(**FEW), space.classes.choose()[0])
        pictures.append(np.stack(list(space.draw(plan.ws, plan.consts))))
        assert torch.equal(space.generator.synthesis.b4.const, before)
    assert pictures[0].shape == (8, 16, 32, channels)
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1
    assert np.abs(np.diff(pictures[0].astype(int), axis=0)).max() > 10


@pytest.mark.parametrize(
    "given", [{"seeds": (1, 2)}, {"seeds": (1, 2, 3, 4)}, {"step2": 0.9}, {"step2": 1e-9}, {"video_length": 0}]
)
def test_what_cannot_be_is_refused(given):
    with pytest.raises(FacegenError):
        DigressionOptions(**given)


# --- The command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "net.safetensors"
    save_networks(path, {"G_ema": small_generator(3)}, {"class_names": ["x", "y", "z"]})
    return path


def test_a_line_of_the_ancestors(network, tmp_path):
    out = tmp_path / "out"
    line = ["flesh_digression", "--pkl", str(network), "--psi", "0.7", "--radius_large", "300", "--radius_small", "40"]
    line += ["--step1", "0.25", "--step2", "0.125", "--seeds", "3,4,5", "--video_length", "1.0"]
    line += ["--size", "32-16", "--scale_type", "symm", "--video", "gif", "--outdir", str(out)]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    assert "y" in result.stderr  # which class it is of
    assert sorted(path.name for path in (out / "frames").iterdir()) == [f"frame{i:04d}.png" for i in range(8)]
    with Image.open(next(out.glob("*.gif"))) as video:
        assert (video.n_frames, video.size) == (8, (32, 16))


@pytest.mark.parametrize("arguments", [["--seeds", "1,2"], ["--class", "0-1"], ["--size", "17-16"], ["--seed", "-1"]])
def test_mistakes_get_a_line_and_write_nothing(network, tmp_path, arguments):
    out = tmp_path / "out"
    line = ["digress", "--network", str(network), "--outdir", str(out), "--video", "none", *arguments]
    result = CliRunner().invoke(main, line)
    assert result.exit_code in (1, 2)
    assert "Error: " in result.output
    assert not out.exists()
