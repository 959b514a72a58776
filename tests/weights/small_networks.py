"""Small networks for the tests of weight files, and how two are compared."""

from __future__ import annotations

import torch
from torch import nn

from facegen.networks.discriminator import Discriminator
from facegen.networks.editor import Editor
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator

METADATA = {
    "groups": ["0-10", "11-20", "21+"],
    "template": [[0.3, 0.29], [0.69, 0.29], [0.5, 0.53], [0.32, 0.69], [0.67, 0.7]],
    "kimg": 0.1 + 0.2,  # a number that text has to keep to the last bit
    "license": "for research only – ünïcode",
    "training_options": {"batch": 16, "aug": "ada", "p": None, "cond": True},
}


def generator(seed: int = 0, c_dim: int = 3, **synthesis_kwargs: object) -> Generator:
    """A generator of 8x8 pictures, ready for use."""
    torch.manual_seed(seed)
    G = Generator(8, c_dim, 8, 8, 3, {"num_layers": 2}, {"channel_base": 64, **synthesis_kwargs})
    G.mapping.w_avg.normal_()
    return G.eval().requires_grad_(False)


def discriminator() -> Discriminator:
    """A discriminator of 8x8 pictures, ready for use."""
    torch.manual_seed(1)
    D = Discriminator(3, 8, 3, channel_base=64, block_kwargs={"freeze_layers": 1}, cmap_dim=5)
    return D.eval().requires_grad_(False)


def encoder(z_dim: int = 4, img_resolution: int = 64) -> Encoder:
    """An encoder without residual blocks, ready for use."""
    torch.manual_seed(2)
    return Encoder(z_dim, img_resolution, input_size=75, blocks=(0, 0, 0)).eval()


def editor() -> Editor:
    """An editor that changes every pixel, by its place and the ages, ready for use."""
    torch.manual_seed(3)
    network = Editor((8, 16), outer=8, inner_size=32, ages=(5, 80))
    for name, parameter in network.named_parameters():
        if name.endswith("style.weight") or name.startswith("last."):
            nn.init.normal_(parameter, std=0.3)
    return network.eval().requires_grad_(False)


def assert_same_weights(network: nn.Module, other: nn.Module) -> None:
    """Assert that both have the same tensors under the same names, to the bit."""
    state, expected = network.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
