"""Training in bfloat16 on the CPU, forced on: the numbers are the same where the processor has no instructions for it.

A number in bfloat16 has 8 bits, so an operation rounds by up to u = 2^-9 of it, by 0.6 u in the mean square. A layer
rounds about six times (styles, weights, convolution, filter, scale and noise, activation), and errors of different
places are independent. Through three resolutions of two layers that is sqrt(36) * 0.6 u = 0.7 %, for G as for D.

A gradient goes through both, there and back, twice that. Most of its error is of another kind: where a number is
smaller than its error, some 0.3 % of all, the activation's slope is 1 instead of 0.2 or the other way round; errors of
0.8 at a share of 0.003 are 4 % in the mean square. They fall on other pixels in every batch.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import pytest
import torch
from trainings import CPU, narrow_options

from facegen.data.archive import FaceArchive
from facegen.networks import discriminator, generator, layers
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.networks.layers import bfloat16_on_cpu
from facegen.training.generator import compiling
from facegen.training.generator.losses import GanLoss
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.state import TrainingState, build_state
from facegen.training.generator.step import train_step

FORWARD = 0.015  # relative error: twice what is expected
# Medians of three batches:
GRADIENTS = 0.08  # of all gradients together, of their norm: twice what is expected
GRADIENT = 0.12  # of each weight's gradient; the worst of 90 (up to 0.10 with other weights)
UNLUCKY = 0.25  # in one batch, whose few pixels of the wrong slope count more (up to 0.19 in nine)
SINGLE = ("torgb.bias", "noise_strength")  # few numbers, sums in which much cancels: taken together for all layers


@pytest.fixture
def bfloat16(monkeypatch):
    """A processor that has it."""
    monkeypatch.setenv("FACEGEN_BFLOAT16", "1")


def networks() -> tuple[Generator, Discriminator]:
    """A pair at 32x32, with noise that counts; D takes all for real, else two halves of its gradient would cancel."""
    channels = {"channel_base": 512, "channel_max": 32}
    G = Generator(16, 3, 16, 32, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=channels)
    D = Discriminator(0, 32, 3, **channels)
    D.b4.out.bias.data.fill_(3)
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return G.train().requires_grad_(False), D.train().requires_grad_(False)


def batch(number: int = 8) -> dict[str, torch.Tensor]:
    labels = torch.eye(3)[torch.arange(number) % 3]
    return {"z": torch.randn(number, 16), "c": labels, "real": torch.rand(number, 3, 32, 32) * 2 - 1}


def gan_loss(G: Generator, D: Discriminator, **options: object) -> GanLoss:
    """The losses with constant noise, which is the same in all types."""
    G.synthesis.forward = partial(type(G.synthesis).forward, G.synthesis, noise_mode="const")
    return GanLoss(G, D, style_mixing_prob=0, **options)


def gradients(loss: GanLoss, phase: str, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gradients of the network in training, by the phase of one loss; random numbers are always the same."""
    torch.manual_seed(1)
    z, c, real = given["z"], given["c"], given["real"]
    calls = {
        "Gmain": lambda: loss.generator_main(z, c),
        "Greg": lambda: loss.generator_reg(z, c, 4),
        "Dmain": lambda: loss.discriminator_main(real, c, z, c),
        "Dreg": lambda: loss.discriminator_reg(real, c, 16),
    }
    network = loss.G if phase[0] == "G" else loss.D
    network.requires_grad_(True)
    calls[phase]()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    network.requires_grad_(False)
    return found


class InDouble:
    """The module torch as the networks see it, but that what they call float32 is float64."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


@pytest.fixture
def in_double(monkeypatch):
    """Call to let networks compute in float64; returns what makes doubles of tensors by name."""

    def switch(*pair: torch.nn.Module) -> None:
        for module in (generator, discriminator, layers):
            monkeypatch.setattr(module, "torch", InDouble())
        monkeypatch.setattr(layers._here, "dtype", torch.float64)
        for network in pair:
            network.double()

    return switch


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


# --- Numbers --------------------------------------------------------------------------------------------------------


def test_pictures_and_logits(in_double):
    G, D = networks()
    given = batch()
    with torch.no_grad():
        with bfloat16_on_cpu():
            pictures = G(given["z"], given["c"], noise_mode="const")
            logits = D(given["real"], given["c"])
        assert pictures.dtype == logits.dtype == torch.float32
        in_double(G, D)
        expected = G(given["z"].double(), given["c"].double(), noise_mode="const")
        expected_logits = D(given["real"].double(), given["c"].double())
    assert expected.dtype == torch.float64
    assert 1e-4 < relative(pictures, expected) < FORWARD  # above that: it is bfloat16
    assert 1e-4 < relative(logits, expected_logits) < FORWARD


@pytest.mark.parametrize("phase", ["Gmain", "Dmain"])
def test_gradients_of_the_weights(in_double, phase):
    G, D = networks()
    batches = [batch() for _ in range(3)]
    single = [gradients(gan_loss(G, D, bfloat16=True), phase, given) for given in batches]
    assert {gradient.dtype for found in single for gradient in found.values()} == {torch.float32}
    in_double(G, D)
    loss = gan_loss(G, D)
    double = [gradients(loss, phase, {name: x.double() for name, x in given.items()}) for given in batches]

    errors: dict[str, list[float]] = {}
    for found, expected in zip(single, double, strict=True):
        assert found.keys() == expected.keys()
        for kind in SINGLE if phase == "Gmain" else ():
            names = [name for name in found if name.endswith(kind)]
            for each in (found, expected):
                each[kind] = torch.cat([each.pop(name).flatten() for name in names])
        for name, gradient in found.items():
            errors.setdefault(name, []).append(relative(gradient, expected[name]))
        whole, right = (torch.cat([x.double().flatten() for x in part.values()]) for part in (found, expected))
        errors.setdefault("all", []).append(relative(whole, right))
    for name, found in errors.items():
        assert median(found) < (GRADIENTS if name == "all" else GRADIENT), name
        assert max(found) < UNLUCKY, name


@pytest.mark.parametrize("phase", ["Greg", "Dreg"])
def test_second_derivatives_are_those_of_float32(phase):
    G, D = networks()
    given = batch()
    found = gradients(gan_loss(G, D, bfloat16=True), phase, given)
    expected = gradients(gan_loss(G, D), phase, given)
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name


def test_what_is_in_which_type():
    G, D = networks()
    loss = gan_loss(G, D, bfloat16=True)
    seen: dict[str, set[torch.dtype]] = {}

    def note(name: str, module: torch.nn.Module, inputs: tuple, output: object) -> None:
        seen.setdefault(name, set()).update(x.dtype for x in (inputs[0], output) if isinstance(x, torch.Tensor))

    for prefix, network in (("G.", G), ("D.", D)):
        for name, module in network.named_modules():
            module.register_forward_hook(partial(note, (prefix + name).rstrip(".")))
    for phase in ("Gmain", "Dmain"):
        gradients(loss, phase, batch(4))
    halves = {name for name, types in seen.items() if types == {torch.bfloat16}}
    singles = {name for name, types in seen.items() if types == {torch.float32}}
    for side in (8, 16, 32):
        assert {f"G.synthesis.b{side}.{layer}" for layer in ("conv0", "conv1", "torgb")} <= halves
        assert {f"D.b{side}.{layer}" for layer in ("conv0", "conv1", "skip")} <= halves
    assert {"G.mapping", "G.synthesis.b4.conv1", "G.synthesis.b4.torgb", "D.b4.conv"} <= singles
    assert {"G.synthesis", "D"} <= singles  # what comes out
    assert {f"G.synthesis.b{side}.conv1.affine" for side in (4, 8, 16, 32)} <= singles

    seen.clear()
    with torch.no_grad():
        G(batch(4)["z"], batch(4)["c"])
    for phase in ("Greg", "Dreg"):
        gradients(loss, phase, batch(4))
    assert set().union(*seen.values()) == {torch.float32}


def test_nothing_but_float32_can_be_asked_for():
    G, _ = networks()
    given = batch(4)
    with torch.no_grad():
        expected = G(given["z"], given["c"], noise_mode="const")
        with bfloat16_on_cpu():
            assert torch.equal(G(given["z"], given["c"], noise_mode="const", force_fp32=True), expected)
        with pytest.raises(ZeroDivisionError), bfloat16_on_cpu():
            raise ZeroDivisionError
        assert torch.equal(G(given["z"], given["c"], noise_mode="const"), expected)


def test_other_threads_compute_in_float32():
    G, _ = networks()
    given = batch(4)
    with torch.no_grad():
        expected = G(given["z"], given["c"], noise_mode="const")
        with bfloat16_on_cpu(), ThreadPoolExecutor(1) as pool:
            of_other = pool.submit(torch.no_grad()(G), given["z"], given["c"], noise_mode="const").result()
            mine = G(given["z"], given["c"], noise_mode="const")
    assert torch.equal(of_other, expected)
    assert not torch.equal(mine, expected)


# --- Steps ----------------------------------------------------------------------------------------------------------


def small_options(archive: Path, **chosen: object) -> TrainOptions:
    return narrow_options(archive, **{"p": 0.3, "mirror": True, **chosen})


def steps(options: TrainOptions, count: int, backend: str | None = None) -> tuple[TrainingState, list[float]]:
    """The state and the losses of G after so many steps."""
    torch.compiler.reset()
    state = build_state(options, FaceArchive(options.data), CPU)
    if backend:
        assert compiling.compile_networks(state.loss, backend) is None
    return state, [float(train_step(state, options, CPU)["Loss/G/loss"].mean()) for _ in range(count)]


def test_parts_of_a_batch_learn_like_the_whole(face_archive, bfloat16):
    four, two = (small_options(face_archive, batch=8, batch_gpu=size, mbstd_group=2) for size in (4, 2))
    # The same random numbers; sums of gradients are rounded in other places.
    assert steps(two, 3)[1] == pytest.approx(steps(four, 3)[1], rel=0.01)


def test_compiled_networks_learn_the_same(face_archive, bfloat16):
    options = small_options(face_archive)
    (state, losses), (compiled, again) = steps(options, 3), steps(options, 3, "eager")
    assert state.loss.bfloat16
    # Roundings fall elsewhere where an operation is replaced by others.
    assert again == pytest.approx(losses, rel=0.01)
    single = steps(replace(options, fp32=True), 3)[1]
    assert again != pytest.approx(single, rel=1e-7)
    for name, tensor in compiled.G.state_dict().items():
        # Adam's first steps are as large for a small gradient as for a large one: three steps apart at most, each way.
        torch.testing.assert_close(tensor, state.G.state_dict()[name], atol=8 * options.lr, rtol=0, msg=name)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a C++ compiler on a busy core
def test_compiled_code_learns_the_same(face_archive, bfloat16):
    options = small_options(face_archive)
    assert steps(options, 3, "inductor")[1] == pytest.approx(steps(options, 3)[1], rel=0.01)
