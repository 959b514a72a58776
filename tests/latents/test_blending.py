"""Blends: which block is whose, and what their files say."""

from __future__ import annotations

import copy

import pytest
import torch
from click.testing import CliRunner
from helpers import small_generator

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.errors import FacegenError
from facegen.latents.blending import blend, check_blend, default_split, share_of_high, warn_if_unrelated
from facegen.latents.options import BlendOptions
from facegen.networks.generator import Generator
from facegen.weights.load import load_generator, read_networks
from facegen.weights.native import save_networks


def trained_further(generator: Generator) -> Generator:
    """The same network after some training: all tensors moved a little, buffers too."""
    other = copy.deepcopy(generator)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor += 0.1 * torch.randn(tensor.shape)
    return other


def is_of(blended: Generator, other: Generator, part: str) -> bool:
    """Whether all tensors of a part are the other network's, noise and filters too."""
    tensors = blended.get_submodule(part).state_dict()
    return all(torch.equal(x, other.get_submodule(part).state_dict()[name]) for name, x in tensors.items())


@pytest.mark.parametrize(("c_dim", "channels"), [(0, 3), (3, 3), (3, 1)])
@pytest.mark.parametrize("split", [4, 8])
def test_blocks_up_to_the_split_are_the_low_ones(c_dim, channels, split):
    low = small_generator(c_dim, channels=channels)
    high = trained_further(low)
    blended = blend(low, high, split)
    for resolution in (4, 8, 16):
        assert is_of(blended, low, f"synthesis.b{resolution}") == (resolution <= split)
        assert is_of(blended, high, f"synthesis.b{resolution}") == (resolution > split)
    assert is_of(blended, low, "mapping")
    z, c = torch.randn(2, 8), torch.eye(3)[:2] if c_dim else None
    assert blended(z, c, noise_mode="const").shape == (2, channels, 16, 16)


def test_the_sources_are_not_touched():
    low = small_generator(0)
    high = trained_further(low)
    blended = blend(low, high, 8)
    with torch.no_grad():
        for tensor in blended.state_dict().values():
            tensor.zero_()
    assert is_of(low, small_generator(0), "synthesis")
    assert high.synthesis.b16.conv0.weight.abs().sum() > 0


def test_the_mapping_of_the_high_one_comes_with_its_classes():
    low, high = small_generator(0), small_generator(3, z_dim=6)
    blended = blend(low, high, 8, BlendOptions(mapping="high"))
    assert (blended.z_dim, blended.c_dim) == (6, 3)
    assert is_of(blended, high, "mapping")
    assert is_of(blended, low, "synthesis.b8")


def test_a_soft_transition_mixes_weights_but_never_noise():
    low = small_generator(0)
    high = trained_further(low)
    blended = blend(low, high, 8, BlendOptions(width=0.5))
    share = share_of_high(8, 8, 0.5)
    mixed = low.synthesis.b8.conv1.weight.lerp(high.synthesis.b8.conv1.weight, share)
    assert torch.allclose(blended.synthesis.b8.conv1.weight, mixed)
    assert torch.equal(blended.synthesis.b8.conv1.noise_const, low.synthesis.b8.conv1.noise_const)
    assert torch.equal(blended.synthesis.b16.conv1.noise_const, high.synthesis.b16.conv1.noise_const)


def test_shares_grow_around_the_split():
    shares = [share_of_high(resolution, 32, 0.5) for resolution in (4, 16, 32, 64, 128, 1024)]
    assert shares == sorted(shares)
    assert shares[2] == pytest.approx(1 - shares[3])
    assert 0.2 < shares[2] < 0.3
    assert [share_of_high(resolution, 32, 1e-9) for resolution in (4, 32, 64, 1024)] == [0, 0, 1, 1]
    assert [share_of_high(resolution, 32, 0) for resolution in (32, 64)] == [0, 1]


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (small_generator(0, 32), "resolution"),
        (small_generator(0, channels=1), "torgb"),
        (Generator(8, 0, 12, 16, 3, {}, {"channel_base": 256, "channel_max": 16}), "length of w"),
        (Generator(8, 0, 8, 16, 3, {}, {"channel_base": 128, "channel_max": 16}), r"b16\."),
        (Generator(8, 0, 8, 16, 3, {}, {"channel_base": 256, "channel_max": 16, "activation": "relu"}), "activation"),
        (Generator(8, 0, 8, 16, 3, {}, {"channel_base": 256, "channel_max": 16, "use_noise": False}), "noise"),
    ],
)
def test_networks_that_do_not_fit_are_told_why(other, word):
    with pytest.raises(FacegenError, match=word):
        check_blend(small_generator(0), other, 8)


@pytest.mark.parametrize("split", [2, 6, 16, 32, 48])
def test_a_split_is_a_resolution_below_the_last(split):
    with pytest.raises(FacegenError, match="4, 8"):
        check_blend(small_generator(0), small_generator(0), split)


def test_default_split():
    assert [default_split(resolution) for resolution in (8, 64, 256, 1024)] == [4, 16, 64, 64]


def test_unrelated_networks_get_a_warning(recwarn):
    low = small_generator(0, 64)
    warn_if_unrelated(low, trained_further(low))
    assert [str(warning.message) for warning in recwarn] == []
    torch.manual_seed(5)
    other = Generator(**low.init_kwargs)
    with pytest.warns(UserWarning, match="related"):
        warn_if_unrelated(low, other)


# --- The command ----------------------------------------------------------------------------------------------------

GROUPS = AgeGroups.parse("0-12,13-19,20-")


@pytest.fixture
def files(tmp_path):
    """A generator of age groups without a license, and one that was trained from it and has classes of other names."""
    low = small_generator(3)
    save_networks(tmp_path / "a.safetensors", {"G": low, "G_ema": low}, {"groups": GROUPS.labels, "kimg": 7})
    about = {"class_names": ["x", "y", "z"], "license": "CC BY-NC"}
    save_networks(tmp_path / "b.safetensors", {"G_ema": trained_further(low)}, about)
    return tmp_path


def run(folder, *arguments: str):
    names = ["--low", str(folder / "a.safetensors"), "--high", str(folder / "b.safetensors")]
    return CliRunner().invoke(main, ["blend", *names, *arguments])


def test_a_line_of_the_ancestors(files):
    low, high, out = (str(files / name) for name in ("a.safetensors", "b.safetensors", "c.pkl"))
    line = ["--lower_res_pkl", low, "--higher_res_pkl", high, "--model_res", "16", "--split_res", "8"]
    result = CliRunner().invoke(main, ["blend_models", *line, "--output_path", out])
    assert result.exit_code == 0, result.output
    networks, header = read_networks(out)
    assert is_of(networks["G_ema"], load_generator(low)[0], "synthesis.b8")
    assert is_of(networks["G_ema"], load_generator(high)[0], "synthesis.b16")
    assert header.groups == GROUPS


def test_a_file_for_each_split_says_where_it_came_from(files):
    out = files / "blended.safetensors"
    result = run(files, "--split", "4,8", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert not out.exists()
    for split in (4, 8):
        networks, header = read_networks(files / f"blended-{split}.safetensors")
        assert list(networks) == ["G_ema"]
        assert header["blended"]["split"] == split
        assert header["blended"]["low"]["generator"] == "a.safetensors"
        assert header["blended"]["high"]["license"] == "CC BY-NC"
        assert "not stated" in header.license
        assert "CC BY-NC" in header.license
        assert header.kimg is None
    shown = CliRunner().invoke(main, ["info", str(files / "blended-4.safetensors")])
    assert "b.safetensors" in shown.output


def test_swapped_with_the_mapping_of_the_high_one(files):
    out = files / "c.safetensors"
    assert run(files, "--swap", "--mapping", "high", "--out", str(out)).exit_code == 0
    blended, header = load_generator(out)
    assert is_of(blended, load_generator(files / "b.safetensors")[0], "synthesis.b4")
    assert is_of(blended, load_generator(files / "a.safetensors")[0], "mapping")
    assert header.groups == GROUPS
    assert "class_names" not in header


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--split", "8,64"], 1),
        (["--split", "eight"], 2),
        (["--width", "-1"], 1),
        (["--width", "nan"], 1),
        (["--out", "x.onnx"], 2),
        (["--out", "b.safetensors", "--force"], 1),
        (["--out", "there.pkl"], 1),
    ],
)
def test_mistakes_get_a_line_and_write_nothing(files, monkeypatch, arguments, code):
    monkeypatch.chdir(files)
    (files / "there.pkl").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in files.iterdir()}
    result = run(files, *arguments)
    assert result.exit_code == code
    assert "Error: " in result.output
    assert {path: path.read_bytes() for path in files.iterdir()} == before
