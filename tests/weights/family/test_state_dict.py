"""Bare state dicts in `.pt` and `.pth` files: the architecture is read off names and shapes."""

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from golden_pairs import CONFIGS, golden_pair
from refusals import assert_refused

from facegen.networks.discriminator import Discriminator
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.weights.family.state_dict import fit_channels, read_networks, recognize


def small(**kwargs: object) -> Generator:
    arguments = {"z_dim": 4, "c_dim": 0, "w_dim": 4, "img_resolution": 8, "img_channels": 3}
    return Generator(**{**arguments, "synthesis_kwargs": {"channel_base": 32}, **kwargs}).eval()


def save(path: Path, content: object, **kwargs: object) -> Path:
    torch.save(content, path, **kwargs)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("config", CONFIGS)
def test_every_golden_configuration_is_recognized(config, zipped, tmp_path):
    G, D, about = golden_pair(config)
    content = {"G_ema": G.state_dict(), "D": D.state_dict(), "epoch": 3}
    path = save(tmp_path / "all.pt", content, _use_new_zipfile_serialization=zipped)
    networks, metadata = read_networks(path)
    assert sorted(networks) == ["D", "G_ema"]
    for name, network in (("G_ema", G), ("D", D)):
        state = networks[name].state_dict()
        assert set(state) == set(network.state_dict())
        assert all(torch.equal(state[key], tensor) for key, tensor in network.state_dict().items())
        found, meant = metadata["networks"][name]["kwargs"], about[name[0]]
        for key in set(meant) - {"block_kwargs", "mapping_kwargs", "synthesis_kwargs", "epilogue_kwargs", "conv_clamp"}:
            assert found[key] == meant[key], key
        assert not networks[name].training
    json.dumps(dict(metadata))
    assert metadata["origin"] == {
        "format": "state dict",
        "assumed": ["activation", "conv_clamp", "lr_multiplier", "mbstd_group_size", "num_fp16_res", "w_avg_beta"],
    }


def test_the_same_picture_comes_out(tmp_path):
    G = small(c_dim=3)
    networks, _ = read_networks(save(tmp_path / "g.pth", G.state_dict()))
    z, c = torch.randn(2, 4), torch.eye(3)[:2]
    assert torch.equal(networks["G_ema"](z, c, noise_mode="const"), G(z, c, noise_mode="const"))


def test_a_state_dict_without_a_name(tmp_path):
    assert list(read_networks(save(tmp_path / "g.pt", small().state_dict()))[0]) == ["G_ema"]
    D = Discriminator(0, 8, 3, channel_base=32)
    assert list(read_networks(save(tmp_path / "d.pt", D.state_dict()))[0]) == ["D"]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"img_channels": 1},
        {"img_resolution": 4},
        {"img_resolution": 16, "synthesis_kwargs": {"channel_base": 100, "channel_max": 20}},
        {"z_dim": 6, "c_dim": 2, "mapping_kwargs": {"embed_features": 3, "layer_features": 5, "num_layers": 3}},
        {"c_dim": 2, "mapping_kwargs": {"num_layers": 1, "w_avg_beta": None}},
        {"synthesis_kwargs": {"channel_base": 32, "use_noise": False}},
        {"synthesis_kwargs": {"channel_base": 32, "resample_filter": [1, 2, 1]}},
        {"synthesis_kwargs": {"channel_base": 32, "resample_filter": [1, 2, 3, 4, 4, 3, 2, 1]}},
        {"synthesis_kwargs": {"channel_base": 32, "resample_filter": [1]}},
    ],
)
def test_generators_of_other_shapes(kwargs, tmp_path):
    G = small(**kwargs)
    rebuilt = read_networks(save(tmp_path / "g.pt", G.state_dict()))[0]["G_ema"]
    z, c = torch.randn(2, G.z_dim), torch.eye(2)[:, : G.c_dim]
    assert torch.equal(rebuilt(z, c, noise_mode="none"), G(z, c, noise_mode="none"))


def test_channels_that_no_base_gives():
    assert fit_channels({4: 512, 8: 512, 16: 512, 32: 512, 64: 256}, "f") == (16384, 512)
    assert fit_channels({4: 25, 8: 12, 16: 6, 32: 3}, "f") == (100, 25)
    assert fit_channels({4: 16, 8: 16}, "f") == (128, 16)
    for channels in ({4: 8, 8: 16}, {4: 16, 8: 2, 16: 8}, {4: 0}):
        assert_refused("numbers of channels", fit_channels, channels, "f")


def without(state: dict, name: str) -> dict:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "neither a generator nor a discriminator"),
        (Encoder(4, 2).state_dict(), "neither a generator nor a discriminator of StyleGAN2-ADA (its tensors: "),
        (torch.nn.Linear(2, 2).state_dict(), "(its tensors: weight, bias, ...)"),
        (small().state_dict() | {"mapping.fc9.weight": torch.zeros(1)}, "not known: mapping.fc9"),
        (without(small().state_dict(), "synthesis.b8.conv1.weight"), "an incomplete StyleGAN2 network"),
        (without(small().state_dict(), "synthesis.b8.conv1.bias"), "missing: synthesis.b8.conv1.bias"),
        (small().state_dict() | {"synthesis.b8.conv1.bias": torch.zeros(5)}, "conv1.bias is [5], not [4]"),
        (small().state_dict() | {"synthesis.b32.conv1.weight": torch.zeros(5)}, "one of the resolutions 4, 8, ... 32"),
        (small().state_dict() | {"synthesis.b4.conv1.weight": torch.zeros([])}, "is missing or odd"),
        (small().state_dict() | {"step": 3}, "holds something other than tensors by name"),
        (small().state_dict() | {3: torch.zeros(1)}, "holds something other than tensors by name"),
    ],
)  # fmt: skip
def test_other_tensors_say_what_they_are(state, words, tmp_path):
    path = save(tmp_path / "other.pt", dict(state))
    assert "other.pt" in assert_refused(words, read_networks, path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch tripwire",)


@pytest.mark.parametrize("zipped", [True, False])
def test_more_than_tensors_is_refused_and_nothing_runs(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "evil.pt", {"G_ema": Evil()}, _use_new_zipfile_serialization=zipped)
    assert ".system, which no network file needs: refused" in assert_refused("evil.pt: names ", read_networks, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["evil.pt"]


def test_a_whole_module_is_refused(tmp_path):
    path = save(tmp_path / "module.pt", small())
    assert_refused("names facegen.networks.generator.Generator", read_networks, path)


def test_a_compressed_zip_that_unpacks_to_anything_is_refused(tmp_path):
    path = save(tmp_path / "plain.pt", small().state_dict())
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert_refused("compressed inside", read_networks, tmp_path / "bomb.pt")


def test_expanded_tensors_that_claim_more_than_the_file_are_refused(tmp_path):
    state = small().state_dict()
    state["synthesis.b4.const"] = torch.zeros(1).expand(10**9)
    assert_refused("claim more than the file holds", read_networks, save(tmp_path / "bomb.pt", state))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    generator = small()
    generator.synthesis.b4.const.data[0, 0, 0] = value
    assert_refused("infinite or missing numbers", read_networks, save(tmp_path / "g.pt", generator.state_dict()))


def test_damaged_and_missing_files(tmp_path):
    path = save(tmp_path / "g.pt", small().state_dict())
    for content in (path.read_bytes()[:5000], b"this is no file of torch"):
        path.write_bytes(content)
        assert_refused("g.pt: ", read_networks, path)
    assert_refused("holds a list, not tensors", read_networks, save(tmp_path / "list.pt", [torch.zeros(1)]))
    assert_refused("there is no such", read_networks, tmp_path / "missing.pt", error=FileNotFoundError)


def test_numpy_arrays_are_recognized_too():
    state = {name: tensor.numpy() for name, tensor in small().state_dict().items()}
    kind, arguments = recognize(state, "f")
    assert kind is Generator
    assert arguments["img_resolution"] == 8
