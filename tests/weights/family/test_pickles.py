"""Network pickles in the layout of stylegan2-ada-pytorch; test_safe_pickle.py attacks their reader."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_numbers import FOLDER, assert_golden
from golden_pairs import CONFIGS, golden_pair
from pickle_writers import SOURCE, Persistent, persistent, write_pickle
from refusals import assert_refused
from small_networks import assert_same_weights

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.weights.family.pickles import read_networks

SMALL = {
    "z_dim": 4,
    "c_dim": 2,
    "w_dim": 4,
    "img_resolution": 8,
    "img_channels": 3,
    "mapping_kwargs": {"num_layers": 2},
    "synthesis_kwargs": {"channel_base": 32, "channel_max": 4},
}

CRITIC = {"c_dim": 0, "img_resolution": 8, "img_channels": 3, "channel_base": 32}


def expected(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in np.load(FOLDER / f"{name}_expected.npz").items()}


def write(path: Path, **content: object) -> Path:
    path.write_bytes(write_pickle(content))
    return path


def test_the_tiny_pickle_computes_what_the_reference_computes():
    networks, _ = read_networks(FOLDER / "legacy_tiny.pkl")
    numbers = expected("legacy_tiny")
    ws = networks["G_ema"].mapping(numbers["z"], numbers["c"])
    assert_golden(ws, numbers["ws"])
    assert_golden(networks["G_ema"].synthesis(ws, noise_mode="const"), numbers["img"])
    assert_golden(networks["D"](numbers["x"], numbers["c"]), numbers["logits"])


def test_an_older_pickle_gives_every_network_its_own_tensors_and_outputs():
    networks, _ = read_networks(FOLDER / "legacy_protocol3.pkl")
    numbers = expected("legacy_protocol3")
    assert list(networks) == ["G", "D", "G_ema"]  # what else is in the file is left out
    for name, network in networks.items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, numbers[f"state/{name}/{key}"]), f"{name}.{key}"
    for name in ("G", "G_ema"):
        ws = networks[name].mapping(numbers["z"], numbers["c"])
        assert_golden(ws, numbers[f"{name}/ws"])
        assert_golden(networks[name].synthesis(ws, noise_mode="const"), numbers[f"{name}/img"])
    assert_golden(networks["D"](numbers["x"], numbers["c"], force_fp32=True), numbers["logits"])


def test_networks_come_ready_to_use():
    networks, _ = read_networks(FOLDER / "legacy_protocol3.pkl")
    for network in networks.values():
        assert not network.training
        for tensor in network.state_dict().values():
            assert tensor.dtype == torch.float32
            assert tensor.is_contiguous()
            tensor.add_(1)  # own, writable memory
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_what_else_the_file_tells():
    _, metadata = read_networks(FOLDER / "legacy_protocol3.pkl")
    assert metadata["networks"]["G_ema"] == {
        "kind": "generator",
        "kwargs": {
            "z_dim": 16,
            "w_dim": 24,
            "mapping_kwargs": {"num_layers": 2},
            "synthesis_kwargs": {"channel_base": 64, "channel_max": 8, "num_fp16_res": 1, "conv_clamp": 256},
            "c_dim": 5,
            "img_resolution": 8,
            "img_channels": 3,
        },
    }
    origin = metadata["origin"]
    assert origin["format"] == "stylegan2-ada-pytorch"
    assert origin["training_set_kwargs"]["path"] == "faces.zip"
    assert origin["sources"]["D"]["lines"] == 1
    assert len(origin["sources"]["D"]["sha256"]) == 64
    json.dumps(dict(metadata))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_golden_configuration_survives_a_pickle(config, tmp_path):
    G, D, about = golden_pair(config)
    path = write(tmp_path / "all.pkl", G=persistent(G, about["G"]), D=persistent(D, about["D"]))
    networks, _ = read_networks(path)
    assert_same_weights(networks["G"], G)
    assert_same_weights(networks["D"], D)
    assert list(networks) == ["G", "D"]


def test_arguments_by_position_and_those_without_effect(tmp_path):
    record = persistent(
        Generator(**SMALL), {"synthesis_kwargs": {**SMALL["synthesis_kwargs"], "fp16_channels_last": True}}
    )
    record.meta["state"]["_init_args"] = (4, 2, 4, 8, 3, {"num_layers": 2, "w_avg_beta": 0.995})
    networks, metadata = read_networks(write(tmp_path / "a.pkl", G_ema=record))
    expected = {**SMALL, "mapping_kwargs": {"num_layers": 2, "w_avg_beta": 0.995}}
    assert metadata["networks"]["G_ema"]["kwargs"] == expected
    assert networks["G_ema"].c_dim == 2


@pytest.mark.parametrize(
    ("network", "kwargs", "name"),
    [(Generator(**SMALL), SMALL, "G_ema"), (Discriminator(**CRITIC), CRITIC, "D")],
)
def test_a_network_alone_in_its_file_gets_its_usual_name(tmp_path, network, kwargs, name):
    path = tmp_path / "alone.pkl"
    path.write_bytes(write_pickle(persistent(network, kwargs)))
    assert list(read_networks(path)[0]) == [name]


def test_one_network_under_two_names(tmp_path):
    record = persistent(Generator(**SMALL), SMALL)
    networks, _ = read_networks(write(tmp_path / "twice.pkl", G=record, G_ema=record))
    assert_same_weights(networks["G"], networks["G_ema"])
    networks["G"].synthesis.b4.const.zero_()
    assert networks["G_ema"].synthesis.b4.const.any()


def test_only_the_wanted_network_is_built(monkeypatch):
    built = []
    init = torch.nn.Module.__init__
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda self: (built.append(type(self)), init(self))[1])
    networks, header = read_networks(FOLDER / "legacy_protocol3.pkl", ("E", "G_ema", "G"))
    assert list(networks) == ["G_ema"]
    assert list(header.networks) == ["G", "D", "G_ema"]  # what the file holds
    assert built.count(Generator) == 1
    assert Discriminator not in built
    assert read_networks(FOLDER / "legacy_protocol3.pkl", ("encoder",))[0] == {}


def test_half_precision_weights_are_widened(tmp_path):
    half = Generator(**SMALL).half()
    networks, _ = read_networks(write(tmp_path / "half.pkl", G_ema=persistent(half, SMALL)))
    assert networks["G_ema"].synthesis.b4.const.dtype == torch.float32
    assert torch.equal(networks["G_ema"].synthesis.b4.const, half.synthesis.b4.const.float())


def stylegan3() -> Persistent:
    G = Generator(**SMALL)
    record = persistent(G, {**SMALL, "synthesis_kwargs": {}, "channel_base": 32768, "magnitude_ema_beta": 0.999})
    inner = persistent(G.mapping, class_name="SynthesisInput")
    record.meta["state"]["_modules"]["synthesis"].meta["state"]["_modules"]["input"] = inner
    return record


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (stylegan3(), "G is a generator of StyleGAN3: not supported"),
        (persistent(Generator(**SMALL), {**SMALL, "channel_base": 32768}), "it is of another code base"),
        (persistent(Generator(**SMALL), SMALL, "TriPlaneGenerator"), "of the class TriPlaneGenerator: not supported"),
        (persistent(Generator(**SMALL), {**SMALL, "c_dim": 3}), "mapping.embed.weight is [4, 2], not [4, 3]"),
        (persistent(Generator(**SMALL), {**SMALL, "c_dim": 0}), "not known: mapping.embed"),
        (persistent(Generator(**SMALL), {}), "missing 5 required positional arguments"),
        ("text", "G is not a pickled network"),
        (Persistent("Generator", {}), "a module without _modules"),
    ],
)
def test_other_networks_say_what_they_are(tmp_path, record, words):
    path = write(tmp_path / "other.pkl", G=record)
    assert "other.pkl: G" in assert_refused(words, read_networks, path)


@pytest.mark.parametrize(
    ("p", "told"),
    [
        (torch.tensor(0.25), 0.25),
        (torch.tensor([1.375], dtype=torch.float64), 1.375),
        (torch.tensor(0), 0),
        (torch.tensor(float("nan")), None),
        (torch.tensor(float("inf")), None),
        (torch.tensor(-0.5), None),
        (torch.tensor([0.1, 0.2]), None),
        ("0.3", None),
    ],
)
def test_the_strength_of_the_augmentation_is_told_where_it_is_one(tmp_path, p, told):
    pipe = Persistent(
        "AugmentPipe", {"_parameters": {}, "_modules": {}, "_buffers": {"p": p, "Hz_geom": torch.ones(2)}}
    )
    path = write(tmp_path / "ada.pkl", G_ema=persistent(Generator(**SMALL), SMALL), augment_pipe=pipe)
    assert read_networks(path)[1].augment_p == told


@pytest.mark.parametrize("pipe", [None, {"p": 0.3}, Persistent("AugmentPipe", {}), Persistent("A", {"_buffers": 5})])
def test_an_augmentation_without_a_strength_tells_none(tmp_path, pipe):
    path = write(tmp_path / "noaug.pkl", G_ema=persistent(Generator(**SMALL), SMALL), augment_pipe=pipe)
    assert "augment_p" not in read_networks(path)[1]


def test_a_missing_tensor_is_named(tmp_path):
    record = persistent(Generator(**SMALL), SMALL)
    del record.meta["state"]["_modules"]["mapping"].meta["state"]["_buffers"]["w_avg"]
    assert_refused("missing: mapping.w_avg", read_networks, write(tmp_path / "cut.pkl", G_ema=record))


def test_a_pickle_without_networks_says_so(tmp_path):
    path = write(tmp_path / "none.pkl", epoch=3)
    assert_refused("that has no network named G, D, G_ema", read_networks, path)
    path.write_bytes(write_pickle([1, 2]))
    assert_refused("a pickle, but not of networks", read_networks, path)


def test_a_truncated_file_says_so(tmp_path):
    data = (FOLDER / "legacy_protocol3.pkl").read_bytes()
    (tmp_path / "cut.pkl").write_bytes(data[: len(data) // 2])
    assert_refused("cut.pkl: a damaged pickle", read_networks, tmp_path / "cut.pkl")
    assert_refused("there is no such", read_networks, tmp_path / "missing.pkl", error=FileNotFoundError)


def test_embedded_source_that_raises_is_in_what_these_tests_write():
    # Else the tests above would show nothing about running it.
    with pytest.raises(RuntimeError, match="must never be executed"):
        exec(SOURCE)
