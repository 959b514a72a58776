"""The host never waits for a GPU within a training step, but where ADA moves."""

from __future__ import annotations

import pytest
import torch
from trainings import narrow_options
from without_gpu import META, Waits, refuse_constants

from facegen.data.archive import FaceArchive
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.augment.strengths import AUGPIPE_PRESETS
from facegen.training.generator.state import build_state
from facegen.training.generator.step import train_step
from facegen.training.run.stats import Collector


def small_state(archive, device, **chosen):
    chosen = {"p": 0.5, "mirror": True, "balance": 0.5, "augpipe": "bgcfnc", "ada_kimg": 1, **chosen}
    options = narrow_options(archive, cfg="auto", **chosen)
    return options, build_state(options, FaceArchive(archive), torch.device(device))


@pytest.fixture
def on_meta(face_archive, monkeypatch):
    """A training on the stand-in, after its first step: what is copied once for good has been copied."""
    monkeypatch.setattr(
        "facegen.training.generator.state.lazy_adam", lambda network, *_: torch.optim.SGD(network.parameters(), lr=1e-3)
    )
    options, state = small_state(face_archive, META)
    # The strength is known from where it was set; the stand-in could not be asked.
    state.augment.set_probability(0.5)
    state.ada.interval = 100
    train_step(state, options, META)
    return options, state


def test_a_step_of_all_phases_never_waits(on_meta, monkeypatch):
    options, state = on_meta
    collector = Collector()
    state.steps = 0  # both regularizations are due
    refuse_constants(monkeypatch)
    with Waits() as waits:
        for name, values in train_step(state, options, META).items():
            collector.report(name, values)
    assert waits.copies == []
    assert {"Loss/G/loss", "Loss/pl_penalty", "Loss/D/loss", "Loss/r1_penalty"} <= set(collector._moments)
    with pytest.raises(RuntimeError, match="meta"):  # this is where a tick waits
        collector.flush()


def test_the_stand_in_finds_what_is_waited_for():
    with Waits() as waits:
        torch.zeros(3).to(META)
        torch.zeros(2, device=META).copy_(torch.zeros(2))
        torch.zeros(3).to(META, non_blocking=True)
    assert waits.copies == [torch.Size([3]), torch.Size([2])]
    for read in (float, bool, torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy):
        with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
            read(torch.zeros([], device=META))


@pytest.mark.parametrize("preset", AUGPIPE_PRESETS)
@pytest.mark.parametrize("size", [16, 300])  # dense matrices, and filters
def test_augmentation_never_waits(preset, size, monkeypatch):
    pipe = AugmentPipe(AUGPIPE_PRESETS[preset]).to(META)
    pipe.set_probability(1.0)
    images = torch.zeros(2, 3, size, size, device=META)
    pipe(images)
    refuse_constants(monkeypatch)
    with Waits() as waits:
        pipe(images)
    assert waits.copies == []


def test_ada_asks_once_an_adjustment(face_archive, monkeypatch):
    _, state = small_state(face_archive, "cpu", augpipe="bg")
    asked = []
    original = torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "__float__", lambda tensor: asked.append(tensor.shape) or original(tensor))
    logits = torch.ones(4, 1)
    for _ in range(3):
        state.ada.update(logits)
        assert not state.ada.adjust(state.augment, 4)
    assert asked == []
    state.ada.update(logits)
    assert state.ada.adjust(state.augment, 4)
    # The sum of signs; besides p itself, which a GPU would not be asked for, and the new p, which is on the CPU.
    assert len(asked) <= 3
    assert state.augment.probability() == pytest.approx(0.516)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("batch_gpu", [None, 2])
def test_a_gpu_is_never_waited_for(face_archive, batch_gpu):
    device = torch.device("cuda")
    options, state = small_state(face_archive, device, batch_gpu=batch_gpu, mbstd_group=2)
    assert state.batches.resident
    collector = Collector()
    for step in range(20):
        # ADA moves in every fourth step.
        strict = step > 3 and step % 4 != 3
        try:
            torch.cuda.set_sync_debug_mode("error" if strict else "default")
            for name, values in train_step(state, options, device).items():
                collector.report(name, values)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(torch.tensor(summary.mean)) for summary in collector.flush().values())
