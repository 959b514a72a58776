"""Recorded passes: the training is the one without recordings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from facegen.data.archive import FaceArchive
from facegen.training import checkpoint, gan, recording
from facegen.training.options import resolve_options
from facegen.training.recording import RecordedPasses

CPU = torch.device("cpu")


def small_state(archive, device=CPU, **chosen):
    chosen = {"batch": 4, "p": 0.3, "mirror": True, "mbstd_group": 2, **chosen}
    options = resolve_options(data=str(archive), outdir="", resolution=16, cfg="auto", **chosen)
    options = replace(options, channel_base=128, channel_max=16, latent=16)
    return options, checkpoint.build(options, FaceArchive(archive), device)


class StandIn(torch.autograd.Function):
    """A recording on the CPU: gradients come from memory that the next replay of this recording overwrites."""

    @staticmethod
    def forward(ctx, recording, *tensors):
        ctx.recording = recording
        with torch.enable_grad():
            ctx.inputs = [x.detach().requires_grad_(x.requires_grad) for x in tensors[: recording.count]]
            ctx.output = recording.call(*ctx.inputs)
        return ctx.output.detach()

    @staticmethod
    def backward(ctx, grad):
        wanted = [x for x in (*ctx.inputs, *ctx.recording.parameters) if x.requires_grad]
        found = iter(torch.autograd.grad(ctx.output, wanted, grad))
        results = []
        for i, x in enumerate((*ctx.inputs, *ctx.recording.parameters)):
            if not x.requires_grad:
                results.append(None)
                continue
            kept = ctx.recording.gradients.setdefault(i, torch.empty_like(x))
            results.append(kept.copy_(next(found)).detach())
        return None, *results


class Recording:
    made: list[str]

    def __init__(self, call, inputs, differentiable):
        self.call, self.count, self.differentiable = call, len(inputs), differentiable
        self.parameters = list(call.parameters())
        self.gradients = {}
        type(self).made.append(f"{type(call.network).__name__} {'with' if differentiable else 'without'} gradients")

    def __call__(self, *inputs):
        if not self.differentiable:
            return self.call(*inputs)
        return StandIn.apply(self, *inputs, *self.parameters)


@pytest.fixture
def on_the_cpu(monkeypatch):
    Recording.made = []
    monkeypatch.setattr(recording, "_record", Recording)
    return Recording.made


def train(options, state, steps, device=CPU):
    observed = [gan.train_step(state, options, device) for _ in range(steps)]
    return [{name: values.clone() for name, values in step.items()} for step in observed]


def assert_same(state, other, observed, expected, tolerance):
    for one, two in zip(observed, expected, strict=True):
        for name in one:
            torch.testing.assert_close(one[name], two[name], atol=tolerance, rtol=tolerance, msg=name)
    for network in ("G", "D", "G_ema"):
        pairs = zip(
            getattr(state, network).state_dict().items(), getattr(other, network).state_dict().values(), strict=True
        )
        for (name, one), two in pairs:
            torch.testing.assert_close(one, two, atol=10 * tolerance, rtol=10 * tolerance, msg=f"{network}.{name}")


def test_the_training_is_the_same(face_archive, on_the_cpu):
    options, plain = small_state(face_archive)
    _, recorded = small_state(face_archive)
    recorded.loss.recorded = RecordedPasses(recorded.G.synthesis, recorded.D)
    torch.manual_seed(0)
    expected = train(options, plain, 5)
    torch.manual_seed(0)
    observed = train(options, recorded, 5)
    assert_same(recorded, plain, observed, expected, 1e-5)
    # What G learns from, what D learns from (fake and real have memory of their own), and the fakes for that.
    assert sorted(on_the_cpu) == [
        "Discriminator with gradients",
        "Discriminator with gradients",
        "Discriminator with gradients",
        "SynthesisNetwork with gradients",
        "SynthesisNetwork without gradients",
    ]


def test_a_batch_of_another_size_is_recorded_for_itself(face_archive, on_the_cpu):
    _, state = small_state(face_archive)
    passes = RecordedPasses(state.G.synthesis, state.D)
    ws = torch.randn(4, state.G.num_ws, state.G.w_dim)
    with torch.no_grad():
        for size in (4, 4, 4, 2, 2):
            assert len(passes.synthesis(ws[:size])) == size
    assert len(on_the_cpu) == 2


def test_where_recording_fails_it_goes_on_with_one_warning(face_archive, monkeypatch):
    tries = []

    def fail(*arguments):
        tries.append(arguments)
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(recording, "_record", fail)
    options, state = small_state(face_archive)
    state.loss.recorded = RecordedPasses(state.G.synthesis, state.D)
    train(options, state, 1)
    with pytest.warns(UserWarning, match=r"runs without \(operation not permitted when stream is capturing\)"):
        train(options, state, 1)
    train(options, state, 1)
    assert len(tries) == 1


@pytest.mark.parametrize("chosen", [{"batch_gpu": 2}, {"compile": True}])
def test_parts_and_compiled_networks_are_not_recorded(face_archive, monkeypatch, chosen):
    _, state = small_state(face_archive, **chosen)
    assert state.loss.recorded is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("fp32", [True, False])
def test_the_training_is_the_same_on_a_gpu(face_archive, monkeypatch, fp32):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    device = torch.device("cuda")
    options, recorded = small_state(face_archive, device, fp32=fp32)
    torch.manual_seed(0)
    observed = train(options, recorded, 4, device)
    assert len(recorded.loss.recorded._recordings) == 5
    _, plain = small_state(face_archive, device, fp32=fp32)
    plain.loss.recorded = None
    torch.manual_seed(0)
    # Adam's first steps are as large for a small gradient as for a large one, whatever its last bits are.
    assert_same(recorded, plain, observed, train(options, plain, 4, device), 1e-3 if fp32 else 2e-2)
