"""Pickles in the layout of stylegan2-ada for TensorFlow, made up from our own networks by the inverse mapping."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from facegen.beside.torch_utils.ops import upfirdn2d
from golden_numbers import golden
from golden_pairs import CONFIGS, golden_pair
from pickle_writers import Network, write_tensorflow_pickle
from refusals import assert_refused

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator, modulated_conv2d
from facegen.weights.family.pickles import read_networks

Variables = dict[str, np.ndarray]


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def dense(layer: torch.nn.Module, name: str) -> Variables:
    return {f"{name}/weight": numbers(layer.weight).T.copy(), f"{name}/bias": numbers(layer.bias)}


def kernel(weight: torch.Tensor, flip: bool = False) -> np.ndarray:
    """[out, in, y, x] to [y, x, in, out]."""
    weight = weight.flip([2, 3]) if flip else weight
    return numbers(weight.permute(2, 3, 1, 0).contiguous())


def styled(layer: torch.nn.Module, name: str, up: bool = False) -> Variables:
    """A modulated convolution; style biases start at 0 there and at 1 here."""
    variables = {
        f"{name}/weight": kernel(layer.weight, flip=up),
        f"{name}/bias": numbers(layer.bias),
        f"{name}/mod_weight": numbers(layer.affine.weight).T.copy(),
        f"{name}/mod_bias": numbers(layer.affine.bias) - 1,
    }
    if hasattr(layer, "noise_strength"):
        variables[f"{name}/noise_strength"] = numbers(layer.noise_strength)
    return variables


def generator_network(G: Generator, name: str = "G", **options: object) -> Network:
    """What stands for a generator in such a pickle."""
    mapping = {}
    if G.c_dim:
        mapping |= dense(G.mapping.embed, "LabelEmbed")
    for i in range(G.mapping.num_layers):
        mapping |= dense(getattr(G.mapping, f"fc{i}"), f"Dense{i}")
    synthesis: Variables = {"4x4/Const/const": numbers(G.synthesis.b4.const)[None]}
    noises = []
    for resolution in G.synthesis.block_resolutions:
        block, room = getattr(G.synthesis, f"b{resolution}"), f"{resolution}x{resolution}"
        if resolution > 4:
            synthesis |= styled(block.conv0, f"{room}/Conv0_up", up=True)
        synthesis |= styled(block.conv1, f"{room}/Conv1" if resolution > 4 else f"{room}/Conv")
        noises += [getattr(block, conv).noise_const for conv in ("conv0", "conv1") if _has_noise(block, conv)]
        if block.torgb is not None:
            synthesis |= styled(block.torgb, f"{room}/ToRGB")
        if resolution > 4 and block.architecture == "resnet":
            synthesis[f"{room}/Skip/weight"] = kernel(block.skip.weight, flip=True)
    synthesis |= {f"noise{i}": numbers(noise)[None, None] for i, noise in enumerate(noises)}
    components = {
        "mapping": Network("mapping", "training.networks.G_mapping", mapping),
        "synthesis": Network("synthesis", "training.networks.G_synthesis", synthesis),
    }
    own = {"lod": np.float32(0), "dlatent_avg": numbers(G.mapping.w_avg)}
    return Network(name, "training.networks.G_main", own, components, **options)


def _has_noise(block: torch.nn.Module, conv: str) -> bool:
    return hasattr(block, conv) and hasattr(getattr(block, conv), "noise_const")


def discriminator_network(D: Discriminator, **options: object) -> Network:
    """What stands for a discriminator in such a pickle."""
    variables: Variables = {"lod": np.float32(0)}
    if D.c_dim:
        variables |= dense(D.mapping.embed, "LabelEmbed")
        for i in range(D.mapping.num_layers):
            variables |= dense(getattr(D.mapping, f"fc{i}"), f"Mapping{i}")
    for resolution in [*D.block_resolutions, 4]:
        block, room = getattr(D, f"b{resolution}"), f"{resolution}x{resolution}"
        for layer, name in (("fromrgb", "FromRGB"), ("conv0", "Conv0"), ("conv1", "Conv1_down"), ("conv", "Conv")):
            if getattr(block, layer, None) is not None:
                variables[f"{room}/{name}/weight"] = kernel(getattr(block, layer).weight)
                variables[f"{room}/{name}/bias"] = numbers(getattr(block, layer).bias)
        if hasattr(block, "skip"):
            variables[f"{room}/Skip/weight"] = kernel(block.skip.weight)
    variables |= dense(D.b4.fc, "4x4/Dense0") | dense(D.b4.out, "Output")
    return Network("D", "training.networks.D_main", variables, **options)


def options_of(about: dict) -> tuple[dict, dict]:
    """The keyword arguments in TensorFlow's words, for those that no shape tells."""
    synthesis = about["G"]["synthesis_kwargs"]
    of_g = {"num_channels": 3, "resolution": 32, "label_size": 0, "func_name": "training.networks.G_main"}
    if "conv_clamp" in synthesis:
        of_g["conv_clamp"] = synthesis["conv_clamp"]
    if "activation" in synthesis:
        of_g["nonlinearity"] = synthesis["activation"]
    of_d = {"mapping_lrmul": 0.01, "mbstd_group_size": about["D"].get("epilogue_kwargs", {}).get("mbstd_group_size", 4)}
    if about["D"].get("conv_clamp") is not None:
        of_d["conv_clamp"] = about["D"]["conv_clamp"]
    return of_g, of_d


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(write_tensorflow_pickle(content, protocol))
    return path


def small(**kwargs: object) -> Generator:
    arguments = {"z_dim": 4, "c_dim": 0, "w_dim": 4, "img_resolution": 8, "img_channels": 3}
    return Generator(**{**arguments, "synthesis_kwargs": {"channel_base": 32}, **kwargs})


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("config", CONFIGS)
def test_networks_come_back_tensor_by_tensor_with_the_same_outputs(config, protocol, tmp_path):
    G, D, about = golden_pair(config)
    of_g, of_d = options_of(about)
    content = (generator_network(G, **of_g), discriminator_network(D, **of_d), generator_network(G, "Gs", **of_g))
    networks, metadata = read_networks(write(tmp_path / "tf.pkl", content, protocol))

    assert list(networks) == ["G", "D", "G_ema"]
    assert metadata["origin"] == {"format": "stylegan2-ada (TensorFlow)"}
    json.dumps(dict(metadata))
    for name, network in (("G", G), ("D", D), ("G_ema", G)):
        state = networks[name].state_dict()
        assert set(state) == set(network.state_dict())
        for key, tensor in network.state_dict().items():
            # mod_bias is stored minus one: that costs the last bits.
            torch.testing.assert_close(state[key], tensor, rtol=0, atol=1e-6, msg=f"{name}.{key}")
    file = golden(f"networks_{config}")
    ws = networks["G_ema"].mapping(file["z"], file["c"])
    torch.testing.assert_close(ws, file["ws"], rtol=1e-4, atol=1e-4)
    image = networks["G_ema"].synthesis(ws, noise_mode="const")
    torch.testing.assert_close(image, G.synthesis(ws, noise_mode="const"), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(networks["D"](file["x"], file["c"]), D(file["x"], file["c"]), rtol=1e-4, atol=1e-4)


def test_an_upsampling_kernel_is_what_tensorflow_applies_after_upsampling(tmp_path):
    # There the layer is: upsample, then correlate with the stored kernel (Karras et al. 2020, fused into one step).
    G = small()
    stored = generator_network(G).content["components"]["synthesis"].content["variables"]
    weight = torch.from_numpy(dict(stored)["8x8/Conv0_up/weight"]).permute(3, 2, 0, 1)
    networks, _ = read_networks(write(tmp_path / "tf.pkl", generator_network(G)))
    layer = networks["G_ema"].synthesis.b8.conv0
    x, styles = torch.randn(2, 8, 4, 4), torch.randn(2, 8)
    theirs = torch.nn.functional.conv2d(
        upfirdn2d.upsample2d(x * styles[:, :, None, None], layer.resample_filter), weight, padding=1
    )
    ours = modulated_conv2d(
        x, layer.weight, styles, demodulate=False, up=2, padding=1, resample_filter=layer.resample_filter
    )
    # At the border one pads before and the other after the filter.
    torch.testing.assert_close(ours[:, :, 1:-1, 1:-1], theirs[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-4)


def test_arguments_that_only_the_keywords_tell(tmp_path):
    options = {"mapping_lrmul": 0.02, "w_avg_beta": 0.99, "conv_clamp": 256, "num_fp16_res": 4, "nonlinearity": "relu"}
    G = small(synthesis_kwargs={"channel_base": 32, "resample_filter": [1, 2, 1]})
    network = generator_network(G, resample_kernel=[1, 2, 1], fmap_base=8192, **options)
    networks, metadata = read_networks(write(tmp_path / "tf.pkl", network))
    kwargs = metadata["networks"]["G_ema"]["kwargs"]
    mapping = {"num_layers": 8, "layer_features": 4, "lr_multiplier": 0.02, "w_avg_beta": 0.99}
    assert kwargs["mapping_kwargs"] == mapping
    assert kwargs["synthesis_kwargs"] == {
        "channel_base": 32, "channel_max": 8, "architecture": "skip", "use_noise": True, "num_fp16_res": 4,
        "conv_clamp": 256, "activation": "relu", "resample_filter": [1, 2, 1],
    }  # fmt: skip
    assert networks["G_ema"].synthesis.b8.conv0.resample_filter.shape == (3, 3)


def test_a_single_network(tmp_path):
    assert list(read_networks(write(tmp_path / "g.pkl", generator_network(small())))[0]) == ["G_ema"]
    D = Discriminator(0, 8, 3, channel_base=32)
    assert list(read_networks(write(tmp_path / "d.pkl", discriminator_network(D)))[0]) == ["D"]


def changed(component: str, name: str, value: object) -> Network:
    """A generator with one variable added or replaced."""
    network = generator_network(small())
    part = network.content["components"][component]
    part.content["variables"] = [*((k, v) for k, v in part.content["variables"] if k != name), (name, value)]
    return network


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed("mapping", "LabelConcat/weight", np.zeros([10, 4])), "LabelConcat/weight, which StyleGAN2-ADA's"),
        (changed("synthesis", "8x8/Conv0_up/StyleMod/weight", np.zeros([4, 16])), "StyleMod/weight, which"),
        (changed("synthesis", "8x8/Conv1/weight", np.zeros([3, 3, 4])), "8x8/Conv1/weight has the shape [3, 3, 4]"),
        (changed("synthesis", "8x8/Conv1/weight", np.zeros([3, 3, 5, 4])), "of another shape"),
        (changed("synthesis", "8x8/Conv1/weight", "text"), "8x8/Conv1/weight is not an array"),
        # As an exponent this number would never be worked out.
        (changed("synthesis", "noise99999999999", np.zeros([1, 1, 4, 4])), "the variable synthesis/noise99999999999"),
        (changed("synthesis", "noise99", np.zeros([1, 1, 4, 4])), "not known: synthesis.b4503599627370496.conv0"),
        (changed("mapping", "Dense99/weight", np.zeros([4, 4])), "not known: mapping.fc99.weight"),
        (changed("synthesis", "8x8/Conv1/noise_strength", 10**400), "noise_strength is not an array"),
        (generator_network(small(), resample_kernel="evil"), "resample_filter cannot be 'evil'"),
        (generator_network(small(), nonlinearity="evil"), "cannot be built from its arguments"),
        (generator_network(small(), conv_clamp=[1]), "conv_clamp cannot be"),
        ((generator_network(small()),) * 2, "2 networks of TensorFlow, not G, D and Gs"),
        (Network("G", "training.networks.G_main", {}, {}), "neither a generator nor a discriminator"),
        (Network("G", "G_main", {}, {"synthesis": "text"}), "a network without variables"),
        (Network("G", "G_main", {"lod": np.float32(0), "dlatent_avg": None}, {}), "dlatent_avg is not an array"),
    ],
)
def test_other_files_say_what_they_are(content, words, tmp_path):
    path = write(tmp_path / "other.pkl", content)
    assert "other.pkl: " in assert_refused(words, read_networks, path)


@pytest.mark.parametrize("state", [None, [], "text", {}, {"variables": 3}, {"variables": [("name",)]}])
def test_a_network_without_a_proper_state_says_so(state, tmp_path):
    network = generator_network(small())
    network.content = state
    assert_refused("damaged", read_networks, write(tmp_path / "a.pkl", network))


def test_missing_variables_are_named(tmp_path):
    network = generator_network(small())
    part = network.content["components"]["synthesis"]
    part.content["variables"] = [pair for pair in part.content["variables"] if pair[0] != "8x8/Conv1/bias"]
    assert_refused("missing: synthesis.b8.conv1.bias", read_networks, write(tmp_path / "cut.pkl", network))


def test_a_label_that_is_embedded_but_not_mapped(tmp_path):
    # The default of TensorFlow's discriminator.
    D = Discriminator(3, 8, 3, channel_base=32, mapping_kwargs={"num_layers": 1})
    network = discriminator_network(D)
    network.content["variables"] = [pair for pair in network.content["variables"] if "Mapping0" not in pair[0]]
    networks, metadata = read_networks(write(tmp_path / "d.pkl", network))
    assert metadata["networks"]["D"]["kwargs"]["mapping_kwargs"]["num_layers"] == 0
    assert networks["D"](torch.randn(2, 3, 8, 8), torch.eye(3)[:2]).shape == (2, 1)
