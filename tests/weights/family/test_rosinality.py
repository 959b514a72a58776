"""Checkpoints of rosinality/stylegan2-pytorch, written here by its names and read back as our networks."""

import argparse
import math
from pathlib import Path

import pytest
import rosinality_model
import torch
import torch.nn.functional as F
from refusals import assert_refused
from small_networks import generator

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.weights.export.rosinality import export_rosinality
from facegen.weights.family.state_dict import read_networks

State = dict[str, torch.Tensor]
KERNEL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


WIDTHS = {4: 8, 8: 8, 16: 6, 32: 3}  # they are its own affair, so they are small here


def generator_state(resolution: int = 16, dim: int = 6, layers: int = 2) -> State:
    """A random generator in rosinality's names."""
    shapes = rosinality_model.shapes(resolution, dim, layers, widths=WIDTHS)
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    kernels = {name: KERNEL * 4 for name in shapes if name.endswith("kernel")}
    return state | kernels | {f"style.{i + 1}.weight": torch.randn(dim, dim) * 100 for i in range(layers)}


def discriminator_state(resolution: int = 16) -> State:
    """A random discriminator in rosinality's names."""
    first = WIDTHS[resolution]
    state = {"convs.0.0.weight": torch.randn(first, 3, 1, 1), "convs.0.1.bias": torch.randn(first)}
    for i, size in enumerate((size for size in (32, 16, 8) if size <= resolution), start=1):
        inputs, outputs = WIDTHS[size], WIDTHS[size // 2]
        state |= {
            f"convs.{i}.conv1.0.weight": torch.randn(inputs, inputs, 3, 3),
            f"convs.{i}.conv1.1.bias": torch.randn(inputs),
            f"convs.{i}.conv2.0.kernel": KERNEL,
            f"convs.{i}.conv2.1.weight": torch.randn(outputs, inputs, 3, 3),
            f"convs.{i}.conv2.2.bias": torch.randn(outputs),
            f"convs.{i}.skip.0.kernel": KERNEL,
            f"convs.{i}.skip.1.weight": torch.randn(outputs, inputs, 1, 1),
        }
    return state | {
        "final_conv.0.weight": torch.randn(8, 9, 3, 3),
        "final_conv.1.bias": torch.randn(8),
        "final_linear.0.weight": torch.randn(8, 128),
        "final_linear.0.bias": torch.randn(8),
        "final_linear.1.weight": torch.randn(1, 8),
        "final_linear.1.bias": torch.randn(1),
    }  # fmt: skip


def judge(state: State, x: torch.Tensor) -> torch.Tensor:
    """Its discriminator, spelled out: residual blocks, one minibatch-stddev map, two linear layers."""

    def conv(name: str, x: torch.Tensor, down: tuple[int, int] | None = None) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        weight = weight / math.sqrt(weight[0].numel())
        if down is None:
            return F.conv2d(x, weight, padding=weight.shape[2] // 2)
        return F.conv2d(rosinality_model.filtered(x, KERNEL, down), weight, stride=2)

    def activate(name: str, x: torch.Tensor) -> torch.Tensor:
        return rosinality_model.leaky(x + state[f"{name}.bias"][:, None, None])

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return F.linear(x, weight / math.sqrt(weight.shape[1]), state[f"{name}.bias"])

    x = activate("convs.0.1", conv("convs.0.0", x))
    i = 1
    while f"convs.{i}.skip.1.weight" in state:
        y = activate(f"convs.{i}.conv1.1", conv(f"convs.{i}.conv1.0", x))
        y = activate(f"convs.{i}.conv2.2", conv(f"convs.{i}.conv2.1", y, down=(2, 2)))
        x = (y + conv(f"convs.{i}.skip.1", x, down=(1, 1))) / math.sqrt(2)
        i += 1
    std = torch.sqrt(x.var(dim=0, unbiased=False) + 1e-8).mean()  # the whole batch is one group of up to four
    x = torch.cat([x, std.expand(len(x), 1, 4, 4)], dim=1)
    x = activate("final_conv.1", conv("final_conv.0", x))
    return linear("final_linear.1", rosinality_model.leaky(linear("final_linear.0", x.flatten(1))))


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(("resolution", "layers"), [(8, 1), (16, 2), (32, 8)])
def test_its_generator_makes_the_same_pictures(resolution, layers, tmp_path):
    state = generator_state(resolution, layers=layers)
    networks, metadata = read_networks(save(tmp_path / "g.pt", {"g_ema": state, "latent_avg": torch.ones(6)}))
    G = networks["G_ema"]
    assert isinstance(G, Generator)
    z = torch.randn(2, 6)
    w = rosinality_model.mapping(state, z)
    torch.testing.assert_close(G.mapping(z, None)[:, 0], w, rtol=1e-4, atol=1e-4)
    expected = rosinality_model.synthesis(state, w)
    torch.testing.assert_close(G(z, None, noise_mode="const"), expected, rtol=1e-4, atol=1e-3)
    assert expected.std() > 0.1
    assert torch.equal(G.mapping.w_avg, torch.ones(6))
    assert metadata["origin"]["format"] == "rosinality/stylegan2-pytorch"


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_its_discriminator_judges_the_same(resolution, tmp_path):
    state = discriminator_state(resolution)
    D = read_networks(save(tmp_path / "d.pt", {"d": state}))[0]["D"]
    assert isinstance(D, Discriminator)
    x = torch.randn(4, 3, resolution, resolution)
    torch.testing.assert_close(D(x, None), judge(state, x), rtol=1e-4, atol=1e-4)


def test_what_facegen_exports_comes_back(tmp_path):
    G = generator(c_dim=2)
    export_rosinality(G, tmp_path / "g.pt", class_index=1)
    back = read_networks(tmp_path / "g.pt")[0]["G_ema"]
    z, c = torch.randn(2, 8), torch.eye(2)[[1, 1]]
    expected = G(z, c, truncation_psi=0.5, noise_mode="const")
    torch.testing.assert_close(back(z, None, truncation_psi=0.5, noise_mode="const"), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dim", [4, 6])  # the root of 6 is rounded
def test_a_network_of_its_own_goes_back_to_the_bit(dim, tmp_path):
    G = Generator(dim, 2, dim, 8, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs={"channel_base": 32}).eval()
    export_rosinality(G, tmp_path / "g.pt", class_index=1)
    theirs = torch.load(tmp_path / "g.pt", weights_only=True)
    export_rosinality(read_networks(tmp_path / "g.pt")[0]["G_ema"], tmp_path / "again.pt")
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert torch.equal(again["latent_avg"], theirs["latent_avg"])
    assert again["g_ema"].keys() == theirs["g_ema"].keys()
    assert [name for name, tensor in theirs["g_ema"].items() if not torch.equal(again["g_ema"][name], tensor)] == []


def test_a_whole_checkpoint_of_a_training(tmp_path):
    content = {
        "g": generator_state(),
        "d": discriminator_state(),
        "g_ema": generator_state(),
        "g_optim": {"state": {}, "param_groups": []},
        "args": argparse.Namespace(size=16, path="faces"),
        "ada_aug_p": 0.1,
    }
    networks, metadata = read_networks(save(tmp_path / "100000.pt", content))
    assert list(networks) == ["G", "D", "G_ema"]
    assert torch.equal(networks["G"].synthesis.b8.conv0.weight, content["g"]["convs.0.conv.weight"][0])
    assert metadata["networks"]["G_ema"]["kwargs"]["synthesis_kwargs"]["channel_max"] == 8


def test_the_average_of_w_is_measured_where_the_file_has_none(tmp_path):
    path = save(tmp_path / "g.pt", {"g_ema": generator_state()})
    G = read_networks(path)[0]["G_ema"]
    mean = G.mapping(torch.randn(10_000, 6), None)[:, 0].mean(dim=0)
    # Two means of 10,000 draws: each is within a few hundredths of the standard deviation of w.
    assert (G.mapping.w_avg - mean).abs().max() < 0.1 * G.mapping(torch.randn(1000, 6), None).std()
    assert torch.equal(G.mapping.w_avg, read_networks(path)[0]["G_ema"].mapping.w_avg)


def test_a_state_dict_alone(tmp_path):
    assert list(read_networks(save(tmp_path / "g.pt", generator_state()))[0]) == ["G_ema"]
    assert list(read_networks(save(tmp_path / "d.pt", discriminator_state()))[0]) == ["D"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"convs.0.spade.weight": torch.zeros(1)}, "has the tensor convs.0.spade.weight, which rosinality's StyleGAN2"),
        ({"convs.0.conv.blur.kernel": torch.ones(4, 4)}, "convs.0.conv.blur.kernel is not the filter 1, 3, 3, 1"),
        ({"convs.0.conv.blur.kernel": torch.ones(2)}, "is not the filter"),
        ({"conv1.noise.weight": torch.zeros(3)}, "synthesis.b4.conv1.noise_strength has the shape [3]"),
        ({"conv1.activate.bias": torch.zeros(3)}, "synthesis.b4.conv1.bias is [3], not [8]"),
        ({"noises.noise_99": torch.zeros(1, 1, 4, 4)}, "not known: synthesis.b4503599627370496.conv0.noise"),
        ({"input.input": torch.zeros(0)}, "synthesis.b4.const is [0]"),
        ({"style.0.weight": torch.zeros(6, 6)}, "not known: mapping.fc-1.weight"),
    ],
)
def test_what_does_not_fit_is_named(change, words, tmp_path):
    path = save(tmp_path / "other.pt", {"g_ema": {**generator_state(), **change}})
    assert "other.pt: G_ema" in assert_refused(words, read_networks, path)


def test_a_missing_layer_is_named(tmp_path):
    state = generator_state()
    del state["convs.1.activate.bias"]
    for content, words in (
        ({"g_ema": state, "latent_avg": torch.ones(6)}, "missing: synthesis.b8.conv1.bias"),
        ({"g_ema": generator_state(), "latent_avg": torch.ones(5)}, "mapping.w_avg is [5], not [6]"),
    ):
        assert_refused(words, read_networks, save(tmp_path / "cut.pt", content))
