"""An encoder as plain facenet-pytorch saves it, `torch.save(network.state_dict())`, is an encoder here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from refusals import assert_refused
from torch import nn
from torch.nn import functional

from facegen.aging.transfer import AgeTransfer
from facegen.networks.generator import Generator
from facegen.weights.convert import convert
from facegen.weights.info import info
from facegen.weights.load import load_encoder, load_generator, read_networks
from facegen.weights.native import save_networks

Z = 16


@pytest.fixture(scope="module")
def trained() -> Callable[..., InceptionResnetV1]:
    """A function that returns a network whose batch normalization has seen something."""
    torch.manual_seed(0)
    network = InceptionResnetV1()
    nn.init.normal_(network.last_bn.running_mean)
    nn.init.uniform_(network.last_bn.running_var, 0.5, 2)
    nn.init.normal_(network.last_bn.weight)
    nn.init.normal_(network.last_bn.bias)

    def with_outputs(outputs: int) -> InceptionResnetV1:
        network.classify = True
        network.logits = nn.Linear(512, outputs)
        return network.eval()

    return with_outputs


def save(network: nn.Module, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


def test_its_outputs_are_those_of_the_network_itself(trained, tmp_path):
    network = trained(Z)
    encoder, header = load_encoder(save(network, tmp_path / "encoder.pt"))
    pictures = torch.rand(2, 3, encoder.input_size, encoder.input_size) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(encoder(pictures), network(pictures), atol=1e-4, rtol=1e-4)
    assert (encoder.target, encoder.z_dim) == ("z", Z)
    assert header["origin"]["format"] == "facenet-pytorch"


def test_without_logits_the_direction_is_that_of_its_512_features(tmp_path):
    network = InceptionResnetV1().eval()
    encoder, _ = load_encoder(save(network, tmp_path / "encoder.pth"))
    assert encoder.z_dim == 512
    pictures = torch.rand(2, 3, encoder.input_size, encoder.input_size) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(functional.normalize(encoder(pictures)), network(pictures), atol=1e-4, rtol=1e-3)


def test_faces_are_aged_with_it(trained, tmp_path):
    generator = Generator(Z, 3, Z, 16, 3, {"num_layers": 1}, {"channel_base": 64}).eval()
    save_networks(tmp_path / "g.safetensors", {"G_ema": generator}, {"groups": ["0-20", "21-60", "61+"]})
    path = save(trained(Z), tmp_path / "encoder.pt")
    transfer = AgeTransfer.from_files(tmp_path / "g.safetensors", path, device="cpu")
    rendered = transfer.render(torch.rand(1, 3, 16, 16), "all", input_ages=[30])
    assert rendered.aged.shape == (1, 3, 3, 16, 16)
    assert rendered.aged.isfinite().all()


def test_reading_draws_nothing_and_can_be_converted_and_told(trained, tmp_path):
    path = save(trained(Z), tmp_path / "encoder.pt")
    before = torch.get_rng_state()
    networks, _ = read_networks(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert read_networks(path, ("G_ema", "G"))[0] == {}
    wrapped = {f"module.{name}": tensor for name, tensor in torch.load(path, weights_only=True).items()}
    torch.save({"state_dict": wrapped}, tmp_path / "wrapped.pt")  # as DataParallel names them, in a checkpoint
    assert load_encoder(tmp_path / "wrapped.pt")[0].z_dim == Z
    assert info(path)["networks"]["encoder"]["kwargs"]["z_dim"] == Z
    convert(path, tmp_path / "encoder.safetensors")
    again, _ = load_encoder(tmp_path / "encoder.safetensors")
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in networks["encoder"].state_dict().items()
    )


def test_what_is_no_encoder_says_what_to_do(trained, tmp_path):
    for people in (8631, 10575):
        path = save(trained(people), tmp_path / "people.pt")
        assert_refused("`facegen train-encoder --init` can start one", load_encoder, path)
    state = trained(Z).state_dict()
    for name, damage in (
        ("block8.conv2d.weight", None),
        ("last_bn.running_var", None),
        ("logits.bias", None),
        ("logits.weight", torch.zeros(Z, 4)),
        ("repeat_1.0.branch0.conv.weight", torch.zeros(2)),
        ("conv2d_4b.bn.weight", torch.zeros(1).expand(10**9)),
    ):
        changed = {key: tensor for key, tensor in state.items() if key != name}
        torch.save(changed if damage is None else {**changed, name: damage}, tmp_path / "damaged.pt")
        assert_refused("", load_encoder, tmp_path / "damaged.pt")
    assert_refused("holds encoder, but no generator", load_generator, save(trained(Z), tmp_path / "encoder.pt"))
