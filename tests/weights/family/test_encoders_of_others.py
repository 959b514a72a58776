"""Checkpoints of pSp, e4e, ReStyle and SAM: an encoder, and its generator under `decoder.`; and wrapped networks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from refusals import assert_refused
from small_networks import generator as small_generator
from test_rosinality import discriminator_state, generator_state

from facegen.cli import main
from facegen.networks.latents import group_means
from facegen.weights.family.state_dict import read_networks
from facegen.weights.info import info
from facegen.weights.load import load_generator
from facegen.weights.read import read_state_dict

State = dict[str, torch.Tensor]
AVERAGE = torch.linspace(-1, 1, 6)
ENCODER = {"encoder.input_layer.0.weight": torch.zeros(4, 3, 3, 3), "encoder.body.0.weight": torch.zeros(2)}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def pictures(path: Path) -> torch.Tensor:
    generator, _ = load_generator(path)
    z = torch.randn(2, generator.z_dim, generator=torch.Generator().manual_seed(0))
    return generator(z, torch.zeros(2, 0), truncation_psi=0.5, noise_mode="const")


CHECKPOINTS = {
    "pSp": {"opts": {"dataset_type": "ffhq_encode"}, "latent_avg": AVERAGE.repeat(6, 1)},
    "e4e": {
        "opts": argparse.Namespace(encoder_type="Encoder4Editing"),
        "latent_avg": AVERAGE,
        "discriminator_state_dict": {"0.weight": torch.zeros(2)},
        "global_step": 3,
    },
    "ReStyle": {"opts": {"n_iters_per_batch": 5}, "latent_avg": AVERAGE[None]},
    "SAM": {"more": {"pretrained_encoder.body.0.weight": torch.zeros(2)}, "latent_avg": AVERAGE.repeat(6, 1)},
    "without an average": {},
    "an average of None": {"latent_avg": None},
}


@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_the_generator_is_taken(kind, wrapper, tmp_path):
    about = dict(CHECKPOINTS[kind])
    decoder = generator_state()
    state = {**ENCODER, **about.pop("more", {}), **prefixed("decoder.", decoder)}
    path = save(tmp_path / "checkpoint.pt", {"state_dict": prefixed(wrapper, state), **about})
    average = {"latent_avg": AVERAGE} if isinstance(about.get("latent_avg"), torch.Tensor) else {}
    bare = save(tmp_path / "bare.pt", {"g_ema": decoder, **average})
    assert torch.equal(pictures(path), pictures(bare))
    facts = info(path)
    assert "decoder" in facts["format"]
    assert facts["refused"] is None
    assert list(facts["networks"]) == ["G_ema"]
    assert facts["left_out"] == ["encoder", *(["pretrained_encoder"] if kind == "SAM" else [])]


def test_the_average_is_measured_where_the_file_has_none(tmp_path):
    path = save(tmp_path / "a.pt", {"state_dict": {**ENCODER, **prefixed("decoder.", generator_state())}})
    generator, _ = load_generator(path)
    assert torch.equal(generator.mapping.w_avg, group_means(generator, samples=10_000)[0])


def test_layers_with_averages_of_their_own_give_their_mean(tmp_path):
    average = torch.stack([AVERAGE, 3 * AVERAGE])
    path = save(tmp_path / "a.pt", {"g_ema": generator_state(), "latent_avg": average})
    torch.testing.assert_close(load_generator(path)[0].mapping.w_avg, 2 * AVERAGE)


def test_a_decoder_in_stylegan2_ada_s_names(tmp_path):
    generator = small_generator()
    path = save(tmp_path / "a.pt", {**ENCODER, **prefixed("decoder.module.", generator.state_dict())})
    found = load_generator(path)[0].state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in generator.state_dict().items())


def test_convert_says_that_the_encoder_is_left_out(tmp_path):
    path = save(tmp_path / "a.pt", {"state_dict": {**ENCODER, **prefixed("decoder.", generator_state())}})
    result = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / "out.safetensors")])
    assert result.exit_code == 0, result.output
    assert "left out: encoder" in result.output
    facts = info(tmp_path / "out.safetensors")
    assert "left_out" not in facts
    assert torch.equal(pictures(tmp_path / "out.safetensors"), pictures(path))
    assert "left out" in CliRunner().invoke(main, ["info", str(path)]).output


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ENCODER, "encoder of another program, without a generator"),
        ({**ENCODER, "decoder.conv.weight": torch.zeros(3)}, "its decoder: neither a generator nor a discriminator"),
        ({**ENCODER, "decoder.3": 3}, "its decoder holds something other than tensors by name (3): not a state dict"),
    ],
)
def test_without_a_generator_it_says_so(state, words, tmp_path):
    path = save(tmp_path / "a.pt", {"state_dict": state})
    message = assert_refused(words, read_networks, path)
    assert "G_ema" not in message
    assert words in info(path)["refused"]


@pytest.mark.parametrize("content", [{"model": {"a": torch.zeros(1)}, "epoch": 3}, {"state_dict": {"x": 1}}])
def test_a_file_of_something_else_is_not_said_to_hold_g_ema(content, tmp_path):
    message = assert_refused("not a state dict", read_networks, save(tmp_path / "a.pt", content))
    assert "G_ema" not in message


@pytest.mark.parametrize("name", ["g", "G_ema", "", "d"])
@pytest.mark.parametrize("wrapper", ["module.", "module._orig_mod."])
def test_wrapped_networks(name, wrapper, tmp_path):
    state = {"g": generator_state, "d": discriminator_state}.get(name, small_generator().state_dict)()
    files = []
    for prefix in ("", wrapper):
        content = prefixed(prefix, state)
        files.append(save(tmp_path / f"{prefix}pt.pt", {name: content} if name else content))
    plain, wrapped = (read_networks(path)[0] for path in files)
    assert plain.keys() == wrapped.keys()
    for key in plain:
        one, other = plain[key].state_dict(), wrapped[key].state_dict()
        assert all(torch.equal(one[tensor], other[tensor]) for tensor in one)


def test_a_name_that_only_some_share_is_no_wrapper(tmp_path):
    state = {"module.a": torch.zeros(1), "b": torch.ones(1)}
    assert read_state_dict(save(tmp_path / "a.pt", state)).keys() == state.keys()
    assert read_state_dict(save(tmp_path / "b.pt", prefixed("module.", state))).keys() == state.keys()
