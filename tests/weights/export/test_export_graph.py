import json
import sys

import pytest
import torch
from refusals import assert_refused
from small_networks import discriminator, editor
from small_networks import generator as small_generator
from torch import nn

from facegen.networks.editor import Editor
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.weights.export import graph as export_graph
from facegen.weights.export.graph import export_onnx, export_torchscript

# Graphs compute the same operations in another order.
TOLERANCE = 1e-4
BATCHES = (1, 2, 3, 7)


def generator(c_dim: int = 3, **synthesis_kwargs) -> Generator:
    """A generator in which the noise shows."""
    G = small_generator(0, c_dim, num_fp16_res=1, **synthesis_kwargs)
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return G


def encoder(img_resolution: int, input_size: int = 80, target: str = "z") -> Encoder:
    E = Encoder(6, img_resolution, input_size, blocks=(0, 1, 0), target=target, num_ws=5)
    nn.init.normal_(E.head.weight)
    if target != "z":
        E.w_mean.normal_()
    return E.eval().requires_grad_(False)


EDITED = ("image", "ages", "targets")


def assert_edits(network: Editor, graph) -> None:
    """Assert that a graph gives picture, change and mask as the network does, at any size and of any number."""
    for batch, height, width in ((1, 16, 16), (3, 32, 32), (1, 128, 128), (3, 192, 192), (1, 256, 256), (2, 51, 70)):
        faces = torch.rand(batch, 3, height, width) * 2 - 1
        values = dict(zip(EDITED, (faces, *(5 + 75 * torch.rand(2, batch))), strict=True))
        change, mask = network.change(*values.values())
        assert change.std() > 0.1  # else all graphs are alike
        for found, wanted in zip(graph(**values), (network(*values.values()), change, mask), strict=True):
            torch.testing.assert_close(torch.as_tensor(found), wanted, rtol=0, atol=TOLERANCE)


def inputs(network: nn.Module, batch: int) -> dict[str, torch.Tensor]:
    if isinstance(network, Encoder):
        return {"image": torch.rand(batch, 3, network.img_resolution, network.img_resolution) * 2 - 1}
    z = {"z": torch.randn(batch, network.z_dim)}
    return {**z, "c": torch.eye(network.c_dim)[torch.arange(batch) % network.c_dim]} if network.c_dim else z


def expected(network: nn.Module, values: dict[str, torch.Tensor], psi: float) -> torch.Tensor:
    if isinstance(network, Encoder):
        return network(values["image"])
    return network(values["z"], values.get("c"), truncation_psi=psi, noise_mode="const")


def assert_onnx(network: nn.Module, path, psi: float = 1.0) -> None:
    import onnxruntime

    assert export_onnx(network, path, truncation_psi=psi, metadata={"groups": ["ü"]}) < TOLERANCE
    session = onnxruntime.InferenceSession(path)
    assert json.loads(session.get_modelmeta().custom_metadata_map["facegen"]) == {"groups": ["ü"]}
    assert b"site-packages" not in path.read_bytes()  # no paths of this machine
    for batch in BATCHES:
        values = inputs(network, batch)
        assert [i.name for i in session.get_inputs()] == list(values)
        (result,) = session.run(None, {name: x.numpy() for name, x in values.items()})
        torch.testing.assert_close(torch.from_numpy(result), expected(network, values, psi), rtol=0, atol=TOLERANCE)


# torch's exporter takes 10 s and more for the smallest network on a slow core, so one such test is always run.


def test_onnx_of_a_generator(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert_onnx(generator(), tmp_path / "g.onnx", psi=0.7)


OTHERS = [
    lambda: generator(0, architecture="resnet", conv_clamp=0.5, use_noise=False),
    lambda: generator(2, architecture="orig", activation="swish", resample_filter=[1, 2, 1, 1]),
    lambda: encoder(64),  # enlarges
    lambda: encoder(128),  # makes smaller, with antialiasing
    lambda: encoder(80),
    lambda: encoder(80, target="w"),
    lambda: encoder(64, target="w+"),
]


@pytest.mark.slow
@pytest.mark.parametrize("network", OTHERS)
def test_onnx_of_other_networks(tmp_path, network):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert_onnx(network(), tmp_path / "x.onnx")


@pytest.mark.parametrize(("network", "psi"), [(generator, 0.7), *((other, 1.0) for other in OTHERS)])
def test_torchscript(tmp_path, network, psi):
    network, path = network(), tmp_path / "x.pt"
    assert export_torchscript(network, path, truncation_psi=psi, metadata={"groups": ["ü"]}) < TOLERANCE
    extra = {"facegen.json": ""}
    graph = torch.jit.load(str(path), _extra_files=extra)
    assert json.loads(extra["facegen.json"]) == {"groups": ["ü"]}
    for batch in BATCHES:
        values = inputs(network, batch)
        result = graph(*values.values())
        torch.testing.assert_close(result, expected(network, values, psi), rtol=0, atol=TOLERANCE)


def test_exporting_changes_neither_the_network_nor_later_random_numbers(tmp_path):
    G = generator()
    before, state = {name: tensor.clone() for name, tensor in G.state_dict().items()}, torch.get_rng_state()
    export_torchscript(G, tmp_path / "g.pt")
    assert torch.equal(torch.get_rng_state(), state)
    assert not G.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in G.state_dict().items())


def test_onnx_of_an_editor_takes_pictures_of_any_size(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, path = editor(), tmp_path / "e.onnx"
    assert export_onnx(network, path) < TOLERANCE
    session = onnxruntime.InferenceSession(path)
    assert [i.name for i in session.get_inputs()] == list(EDITED)
    assert [o.name for o in session.get_outputs()] == ["picture", "change", "mask"]
    assert_edits(network, lambda **values: session.run(None, {name: x.numpy() for name, x in values.items()}))


def test_torchscript_of_an_editor_takes_pictures_of_any_size(tmp_path):
    network, path = editor(), tmp_path / "e.pt"
    assert export_torchscript(network, path) < TOLERANCE
    assert_edits(network, torch.jit.load(str(path)))


@pytest.mark.parametrize("export", [export_onnx, export_torchscript])
def test_refuses_other_networks(tmp_path, export):
    assert_refused("a discriminator has no use", export, discriminator(), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_computes_something_else_or_no_numbers_is_not_written(tmp_path, monkeypatch):
    (tmp_path / "g.pt").write_text("old")
    export, path = export_torchscript, tmp_path / "g.pt"
    assert_refused("g.pt: differs by nan", export, generator(), path, truncation_psi=float("nan"))
    monkeypatch.setattr(export_graph, "MAX_DIFFERENCE", 0.0)
    assert_refused("g.pt: differs by ", export, generator(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert_refused("pip install 'facegen[onnx]'", export_onnx, generator(), tmp_path / "g.onnx")
