"""Recorded generators: when they record, what they return, and that they go on without."""

from __future__ import annotations

import pytest
import torch

from facegen.networks import graphed
from facegen.networks.generator import Generator
from facegen.networks.graphed import GraphedGenerator


@pytest.fixture
def generator():
    torch.manual_seed(0)
    synthesis = {"channel_base": 128, "channel_max": 16}
    return Generator(8, 3, 12, 16, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=synthesis).eval()


def latents(number: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(number, 8, device=device), torch.eye(3, device=device)[torch.arange(number) % 3]


class StandIn:
    """A CUDA graph on the CPU: runs the recorded call again, into the same memory."""

    recorded: list[int]

    def __init__(self, generator, z, c, options):
        type(self).recorded.append(len(z))
        self._z, self._c, self._images = z.clone(), c.clone(), None
        self._run = lambda: generator(self._z, self._c, **options)

    def replay(self, z, c):
        self._z.copy_(z)
        self._c.copy_(c)
        self._images = self._run() if self._images is None else self._images.copy_(self._run())
        return self._images.clone()


@pytest.fixture
def recorded(monkeypatch):
    """Sizes of the batches that were recorded."""
    StandIn.recorded = []
    monkeypatch.setattr(graphed, "_Recording", StandIn)
    monkeypatch.setattr(graphed, "can_record", lambda z, generator: not generator.training)
    return StandIn.recorded


def test_the_second_batch_of_a_size_is_recorded_and_all_are_right(generator, recorded):
    generate = GraphedGenerator(generator, noise_mode="const", truncation_psi=0.7)
    kept = []
    for size in (4, 4, 4, 3, 4):  # the last batch of many is smaller, once
        z, c = latents(size)
        with torch.no_grad():
            kept.append((generate(z, c), generator(z, c, noise_mode="const", truncation_psi=0.7)))
    assert recorded == [4]
    for pictures, expected in kept:  # none was overwritten by a later one
        assert torch.equal(pictures, expected)


def test_noise_is_what_it_is_without(generator, recorded):
    with torch.no_grad():
        for layer in generator.modules():
            if hasattr(layer, "noise_strength"):
                layer.noise_strength.fill_(1.0)
    generate, (z, c) = GraphedGenerator(generator), latents(2)
    for seed in range(4):
        torch.manual_seed(seed)
        pictures = generate(z, c)
        torch.manual_seed(seed)
        with torch.no_grad():
            assert torch.equal(pictures, generator(z, c))
    assert recorded == [2]


def test_weights_that_change_in_place_count(generator, recorded):
    generate, (z, c) = GraphedGenerator(generator, noise_mode="none"), latents(2)
    before = [generate(z, c) for _ in range(3)][-1]
    with torch.no_grad():
        generator.synthesis.b16.torgb.bias.add_(1)
    torch.testing.assert_close(generate(z, c), before + 1)


def test_a_network_in_training_is_only_called(generator, recorded):
    generator.train()
    generate = GraphedGenerator(generator)
    for _ in range(3):
        generate(*latents(2))
    assert recorded == []


def test_without_a_gpu_it_only_calls(generator, monkeypatch):
    monkeypatch.setattr(graphed, "_Recording", None)
    generate, (z, c) = GraphedGenerator(generator, noise_mode="const"), latents(2)
    pictures = [generate(z, c) for _ in range(3)]
    assert torch.equal(pictures[0], pictures[2])
    assert not pictures[0].requires_grad


def test_where_recording_fails_it_goes_on_with_one_warning(generator, monkeypatch):
    tries = []

    def fail(*arguments):
        tries.append(arguments)
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(graphed, "_Recording", fail)
    monkeypatch.setattr(graphed, "can_record", lambda z, generator: True)
    generate, (z, c) = GraphedGenerator(generator, noise_mode="const"), latents(2)
    expected = generate(z, c)
    with pytest.warns(UserWarning, match=r"runs without \(operation not permitted when stream is capturing\)"):
        assert torch.equal(generate(z, c), expected)
    assert torch.equal(generate(z, c), expected)
    assert len(tries) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("noise_mode", ["const", "random"])
def test_on_a_gpu_replays_are_what_calls_are(generator, noise_mode):
    generator = generator.cuda()
    with torch.no_grad():
        for layer in generator.modules():
            if hasattr(layer, "noise_strength"):
                layer.noise_strength.fill_(1.0)
    generate = GraphedGenerator(generator, noise_mode=noise_mode)
    kept = []
    for seed, size in enumerate((4, 4, 4, 3, 4)):
        z, c = latents(size, "cuda")
        torch.manual_seed(seed)
        pictures = generate(z, c)
        torch.manual_seed(seed)
        with torch.no_grad():
            kept.append((pictures, generator(z, c, noise_mode=noise_mode)))
    assert len(generate._recordings) == 1
    for pictures, expected in kept:
        torch.testing.assert_close(pictures, expected, atol=1e-4, rtol=1e-4)
