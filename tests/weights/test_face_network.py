"""Face recognition networks of other programs' files: which one it is, and that it computes what it did there."""

from __future__ import annotations

from pathlib import Path

import torch
from facenet_pytorch import InceptionResnetV1
from mxnet_writer import params
from refusals import assert_refused
from torch import nn

from facegen.networks.mobile_facenet import FrozenPReLU, MobileFaceNet
from facegen.weights.face_network import CONVS, load_face_network


def unfolded() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A MobileFaceNet with batch normalizations of random statistics, and its arrays as InsightFace names them."""
    torch.manual_seed(0)
    network, names, arrays = MobileFaceNet(), iter(CONVS), {}

    def norm(module: nn.BatchNorm1d | nn.BatchNorm2d, name: str) -> nn.Module:
        tensors = (module.weight, module.bias, module.running_mean, module.running_var)
        for tensor, part in zip(tensors, ("gamma", "beta", "moving_mean", "moving_var"), strict=True):
            nn.init.uniform_(tensor, 0.5, 1.5)
            arrays[f"{name}_{part}"] = tensor.detach()
        return module

    for key, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            name = next(names)
            nn.init.zeros_(module.bias)
            arrays[f"{name}_conv2d_weight"] = module.weight.detach()
            parent, _, own = key.rpartition(".")
            normed = nn.Sequential(module, norm(nn.BatchNorm2d(module.out_channels, eps=1e-3), f"{name}_batchnorm"))
            setattr(network.get_submodule(parent), own, normed)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0, 0.5)
            arrays[f"{name}_relu_gamma"] = module.weight.detach()
    arrays |= {"fc1_weight": network.last.weight.detach(), "pre_fc1_bias": network.last.bias.detach()}
    network.last = nn.Sequential(network.last, norm(nn.BatchNorm1d(128, eps=2e-5), "fc1"))
    return network.eval(), arrays


def test_mobile_facenet_computes_what_its_file_means(tmp_path: Path):
    whole, arrays = unfolded()
    path = tmp_path / "net"  # the content tells, not the name
    path.write_bytes(params({f"arg:{name}": tensor for name, tensor in arrays.items()}))
    found = load_face_network(path)
    images = torch.rand(2, 3, found.size, found.size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images.requires_grad_()
    features = found.network(images)
    assert features.shape == (2, 128)
    torch.testing.assert_close(features, whole(images), rtol=1e-4, atol=1e-4 * float(features.detach().std()))
    features.square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in found.network.parameters())


def test_mobile_facenet_of_other_weights_is_refused(tmp_path: Path):
    _, arrays = unfolded()
    path = tmp_path / "a.params"
    path.write_bytes(params({name: x for name, x in arrays.items() if name != "res_4_block5_conv_dw_relu_gamma"}))
    assert_refused("MobileFaceNet", load_face_network, path)
    for tensor in (torch.zeros(64, 3, 5, 5), torch.full((64, 3, 3, 3), torch.nan), torch.zeros(3)):
        path.write_bytes(params({**arrays, "conv_1_conv2d_weight": tensor}))
        assert_refused("a.params", load_face_network, path)


def test_a_file_of_facenet_pytorch_is_one_too(tmp_path: Path):
    network = InceptionResnetV1().eval()
    torch.save(network.state_dict(), tmp_path / "net.pt")
    found = load_face_network(tmp_path / "net.pt")
    images = torch.zeros(1, 3, found.size, found.size)
    torch.testing.assert_close(found.network(images), network(images), rtol=0, atol=0)
    assert_refused("gone.pt", load_face_network, tmp_path / "gone.pt", error=FileNotFoundError)


def test_frozen_slopes_compute_as_prelu_does():
    torch.manual_seed(0)
    frozen, prelu = FrozenPReLU(5), nn.PReLU(5)
    with torch.no_grad():
        frozen.weight.copy_(torch.randn(5))
        prelu.weight.copy_(frozen.weight)
    one = torch.randn(2, 5, 3, 3, requires_grad=True)
    other = one.detach().clone().requires_grad_()
    weights = torch.randn(2, 5, 3, 3)
    (frozen(one) * weights).sum().backward()
    (prelu(other) * weights).sum().backward()
    assert torch.equal(frozen(one), prelu(other))
    assert torch.allclose(one.grad, other.grad)
    assert frozen.weight.grad is None
