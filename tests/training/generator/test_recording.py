"""Recorded phases: the training is the one without recordings."""

from __future__ import annotations

import pytest
import torch
from trainings import CPU, narrow_options

from facegen.data.archive import FaceArchive
from facegen.training.draws import DrawnNumbers
from facegen.training.generator.parts import PhasesInParts
from facegen.training.generator.recording import Phases, Recording, clean_gradients
from facegen.training.generator.state import build_state
from facegen.training.generator.step import train_step


def small_state(archive, device=CPU, **chosen):
    options = narrow_options(archive, **{"cfg": "auto", "p": 0.3, "mirror": True, "mbstd_group": 2, **chosen})
    return options, build_state(options, FaceArchive(archive), device)


@pytest.fixture
def recorded(monkeypatch):
    """Names of recorded phases. On the CPU, a replay is a run whose results go where the first one's did."""
    names = []

    def record(self, phase):
        names.append(getattr(phase, "func", phase).__name__)
        random = getattr(phase, "func", phase).__self__.random
        self._observed = phase(*self._inputs)
        clean_gradients(self._network)
        kept = [parameter.grad for parameter in self._network.parameters()]

        def run_again():
            random.recorded = self._drawn
            self._drawn.begin()
            for parameter in self._network.parameters():
                parameter.grad = None
            observed = phase(*self._inputs)
            clean_gradients(self._network)
            random.recorded = None
            for one, parameter in zip(kept, self._network.parameters(), strict=True):
                assert (one is None) == (parameter.grad is None)
                if one is not None:
                    one.copy_(parameter.grad)
            for name, values in observed.items():
                self._observed[name].copy_(values)

        self._run_again = run_again

    monkeypatch.setattr(Recording, "_require_memory", lambda self: None)
    monkeypatch.setattr(Recording, "_try_out", lambda self, phase, network: phase(*self._inputs))
    monkeypatch.setattr(Recording, "_record", record)
    return names


def train(options, state, steps, device=CPU):
    return [train_step(state, options, device) for _ in range(steps)]


def assert_same(state, other, observed, expected, tolerance):
    for one, two in zip(observed, expected, strict=True):
        assert list(one) == list(two)
        for name in one:
            torch.testing.assert_close(one[name], two[name], atol=tolerance, rtol=tolerance, msg=name)
    for network in ("G", "D", "G_ema"):
        others = getattr(other, network).state_dict()
        for name, one in getattr(state, network).state_dict().items():
            label = f"{network}.{name}"
            torch.testing.assert_close(one, others[name], atol=10 * tolerance, rtol=10 * tolerance, msg=label)
    torch.testing.assert_close(state.loss.pl_mean.cpu(), other.loss.pl_mean.cpu(), atol=tolerance, rtol=tolerance)


def test_the_training_is_the_same(face_archive, recorded):
    # Without numbers that the CPU draws within phases: on the CPU these come from the generator of the noise, too.
    chosen = {"aug": "noaug", "p": 0, "style_mixing": 0}
    options, plain = small_state(face_archive, **chosen)
    _, replayed = small_state(face_archive, **chosen)
    replayed.phases = Phases(replayed.loss)
    torch.manual_seed(0)
    expected = train(options, plain, 33)
    torch.manual_seed(0)
    assert_same(replayed, plain, train(options, replayed, 33), expected, 1e-5)
    assert recorded == ["generator_main", "discriminator_main", "generator_reg", "discriminator_reg"]


def test_drawn_augmentations_are_those_of_a_call(face_archive):
    _, state = small_state(face_archive)
    images = torch.randn(4, 3, 16, 16)
    torch.manual_seed(1)
    expected = [state.augment(images) for _ in range(3)]
    torch.manual_seed(1)
    drawn = state.random.recorded = DrawnNumbers(CPU)
    found = [state.augment(images, state.random)]
    for _ in range(2):
        drawn.begin()
        drawn.draw_again()
        found.append(state.augment(images, state.random))
    for one, two in zip(found, expected, strict=True):
        # Wider margins make other coordinates, which float32 rounds by 2^-24 of some 100 samples.
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("probability", [0, 0.5, 1])
def test_drawn_style_mixing_is_that_of_a_call(face_archive, probability):
    _, state = small_state(face_archive)
    loss, z, c = state.loss, torch.randn(4, 16), torch.eye(3)[[0, 1, 2, 0]]
    loss.style_mixing_prob = probability
    torch.manual_seed(1)
    expected = [loss.map_latents(z, c) for _ in range(6)]
    torch.manual_seed(1)
    drawn = loss.random.recorded = DrawnNumbers(CPU)
    found = [loss.map_latents(z, c)]
    for _ in range(5):
        drawn.begin()
        drawn.draw_again()
        found.append(loss.map_latents(z, c))
    torch.testing.assert_close(torch.stack(found), torch.stack(expected))


def test_where_recording_fails_it_goes_on_with_one_warning(face_archive, monkeypatch):
    tries = []

    def fail(self, phase):
        tries.append(phase)
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(Recording, "_require_memory", lambda self: None)
    monkeypatch.setattr(Recording, "_try_out", lambda self, phase, network: phase(*self._inputs))
    monkeypatch.setattr(Recording, "_record", fail)
    options, plain = small_state(face_archive)
    _, failing = small_state(face_archive)
    failing.phases = Phases(failing.loss)
    torch.manual_seed(0)
    expected = train(options, plain, 4)
    torch.manual_seed(0)
    observed = train(options, failing, 1)
    with pytest.warns(UserWarning, match=r"runs without \(operation not permitted when stream is capturing\)"):
        observed += train(options, failing, 1)
    observed += train(options, failing, 2)
    assert len(tries) == 1
    assert_same(failing, plain, observed, expected, 0)


def test_on_the_cpu_nothing_is_recorded(face_archive):
    assert not small_state(face_archive)[1].phases.works


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("chosen", [{"batch_gpu": 2}, {"compile": True}, {"augpipe": "bgcfnc"}])
def test_parts_compiled_networks_and_other_augmentations_are_not_recorded(face_archive, chosen):
    phases = small_state(face_archive, torch.device("cuda"), **chosen)[1].phases
    assert isinstance(phases, PhasesInParts) or not phases.works


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("fp32", [True, False])
def test_the_training_is_the_same_on_a_gpu(face_archive, monkeypatch, fp32):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    device = torch.device("cuda")
    options, replayed = small_state(face_archive, device, fp32=fp32)
    torch.manual_seed(0)
    observed = train(options, replayed, 18, device)
    assert len(replayed.phases._recordings) == 4
    _, plain = small_state(face_archive, device, fp32=fp32)
    plain.phases.works = False
    torch.manual_seed(0)
    expected = train(options, plain, 18, device)
    # Rounding grows from step to step: few steps are compared closely.
    for step in range(18):
        for name in expected[step]:
            if name.startswith("Loss/signs"):  # a score near 0 may have either
                continue
            tolerance = (1e-3 if fp32 else 3e-2) * (1 + step)
            torch.testing.assert_close(observed[step][name], expected[step][name], atol=tolerance, rtol=tolerance)


def test_a_state_of_a_cpu_seeds_a_gpu_by_where_it_is(face_archive, monkeypatch):
    _, state = small_state(face_archive)
    seeds = []
    saved = state.random.state_dict()
    assert saved["rng_cuda"] == [] or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    before = torch.get_rng_state()
    state.random.load_state_dict({"rng_cpu": before, "rng_cuda": []})
    state.random.load_state_dict({"rng_cpu": before, "rng_cuda": []})
    torch.rand(1)
    state.random.load_state_dict({"rng_cpu": torch.get_rng_state(), "rng_cuda": []})
    assert seeds[0] == seeds[1] != seeds[2]
    assert all(0 <= seed < 2**63 for seed in seeds)
