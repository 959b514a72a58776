import pytest
import rosinality_model
import torch
from refusals import assert_refused

from facegen.networks.generator import Generator
from facegen.weights.export.rosinality import convert, export_rosinality

TOLERANCE = 1e-4  # float32 through a whole network in another order


def generator(c_dim: int = 3, resolution: int = 16, dim: int = 16, layers: int = 2, **kwargs) -> Generator:
    """A small generator in which every tensor matters."""
    mapping_kwargs = {"num_layers": layers, **kwargs.pop("mapping_kwargs", {})}
    synthesis_kwargs = {"channel_base": 256, "channel_max": 24, **kwargs.pop("synthesis_kwargs", {})}
    G = Generator(dim, c_dim, dim, resolution, kwargs.pop("img_channels", 3), mapping_kwargs, synthesis_kwargs)
    assert not kwargs
    for name, parameter in G.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            scale = G.mapping.fc0.bias_gain if name.startswith("mapping.fc") else 1
            parameter.data += 0.3 / scale * torch.randn_like(parameter)
    G.mapping.w_avg.normal_()
    return G.eval().requires_grad_(False)


def one_hot(G: Generator, index: int, batch: int) -> torch.Tensor:
    return torch.eye(G.c_dim)[[index] * batch]


@pytest.mark.parametrize(
    ("resolution", "synthesis_kwargs"),
    [
        (8, {}),
        (16, {"use_noise": False}),
        (16, {"resample_filter": [1, 2, 3, 1]}),  # lopsided: a flip shows
        (64, {"channel_base": 1024}),
    ],
)
def test_unconditional_network_makes_the_same_pictures(resolution, synthesis_kwargs):
    G = generator(0, resolution, synthesis_kwargs=synthesis_kwargs)
    state, arguments = convert(G)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == rosinality_model.shapes(**arguments)
    z = torch.randn(2, 16)
    w = rosinality_model.mapping(state, z)
    torch.testing.assert_close(w, G.mapping(z, None)[:, 0], rtol=0, atol=TOLERANCE)
    expected = G(z, None, noise_mode="const")
    assert expected.std() > 0.1
    torch.testing.assert_close(rosinality_model.synthesis(state, w), expected, rtol=0, atol=TOLERANCE)


def test_one_class_of_a_conditional_network_makes_the_same_pictures():
    G = generator(3, 8)
    z = torch.randn(2, 16)
    images = []
    for index in range(3):
        state, _ = convert(G, index)
        images.append(rosinality_model.synthesis(state, rosinality_model.mapping(state, z)))
        expected = G(z, one_hot(G, index, 2), noise_mode="const")
        torch.testing.assert_close(images[-1], expected, rtol=0, atol=TOLERANCE)
    assert (images[0] - images[1]).abs().max() > 0.01


def test_another_learning_rate_and_depth_of_the_mapping():
    G = generator(2, 8, layers=3, mapping_kwargs={"lr_multiplier": 0.1, "embed_features": 5})
    state, arguments = convert(G, 1)
    assert arguments == {"size": 8, "style_dim": 16, "n_mlp": 3, "channel_multiplier": 1}
    z = torch.randn(4, 16)
    expected = G.mapping(z, one_hot(G, 1, 4))[:, 0]
    torch.testing.assert_close(rosinality_model.mapping(state, z), expected, rtol=0, atol=TOLERANCE)


def test_the_smallest_table_that_has_room_is_taken():
    narrow = generator(0, 64, synthesis_kwargs={"channel_base": 16384, "channel_max": 256})
    assert convert(narrow)[1]["channel_multiplier"] == 1
    wide = generator(0, 64, synthesis_kwargs={"channel_base": 32768, "channel_max": 512})
    state, arguments = convert(wide)
    assert arguments["channel_multiplier"] == 2
    # Without filling up, the synthesis network's weights are ours to the bit.
    assert torch.equal(state["convs.6.conv.weight"][0], wide.synthesis.b64.conv0.weight)


def test_the_file_holds_what_rosinalitys_scripts_read(tmp_path):
    G = generator(3, 8)
    arguments = export_rosinality(G, tmp_path / "g.pt", class_index=2)
    content = torch.load(tmp_path / "g.pt", weights_only=True)
    assert set(content) == {"g_ema", "latent_avg"}
    assert torch.equal(content["latent_avg"], G.mapping.w_avg)
    expected, expected_arguments = convert(G, 2)
    assert arguments == expected_arguments
    assert all(torch.equal(content["g_ema"][name], tensor) for name, tensor in expected.items())
    # no storage is shared with the network or holds more than its tensor
    assert all(t.untyped_storage().nbytes() == t.numel() * 4 for t in content["g_ema"].values())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"img_channels": 1}, "only RGB"),
        ({"resolution": 4}, "resolution must be 8 to 1024"),
        ({"synthesis_kwargs": {"architecture": "resnet"}}, "'resnet' is not 'skip'"),
        ({"synthesis_kwargs": {"activation": "relu"}}, "not 'lrelu'"),
        ({"mapping_kwargs": {"activation": "swish"}}, "not 'lrelu'"),
        ({"mapping_kwargs": {"layer_features": 8}}, "one length, got [8, 16]"),
        ({"synthesis_kwargs": {"resample_filter": [1, 1]}}, "not 4 taps"),
        ({"synthesis_kwargs": {"channel_base": 65536, "channel_max": 1024}}, "more channels"),
    ],
)
def test_refuses_what_cannot_be_expressed(tmp_path, kwargs, message):
    G = generator(0, **{"resolution": 8, **kwargs})
    assert_refused(message, export_rosinality, G, tmp_path / "g.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("c_dim", "index", "message"),
    [(3, None, "choose one age group"), (3, 3, "no class 3"), (3, -1, "no class -1"), (0, 0, "no class 0")],
)
def test_refuses_classes_that_are_none(c_dim, index, message):
    assert_refused(message, convert, generator(c_dim, 8), index)
