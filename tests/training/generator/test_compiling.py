"""`--compile`: the same training, in compiled networks that nobody else sees."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import write_faces
from trainings import CPU, go_on, narrow_options, train, train_whole_and_resumed

from facegen.ages import AgeGroups
from facegen.data.archive import FaceArchive
from facegen.training.generator import compiling, loop
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.state import build_state
from facegen.training.generator.step import train_step
from facegen.training.run.folder import read_options, read_stats


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Faces of 8x8 pixels: what has fewer layers takes less time to compile."""
    groups = AgeGroups.parse("0-20,21-60,61-")
    return write_faces(tmp_path_factory.mktemp("archive") / "faces.zip", [5, 30, 40, 70] * 5, groups, size=8)


def small_options(archive: Path, **chosen: object) -> TrainOptions:
    return narrow_options(archive, resolution=8, **{"cfg": "auto", "p": 0.3, "mirror": True, **chosen})


def steps(
    options: TrainOptions, count: int, backend: str | None, device: torch.device = CPU
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """Weights and the losses of G after so many steps, the first of which has both regularizations."""
    torch.compiler.reset()
    state = build_state(options, FaceArchive(options.data), device)
    if backend:
        assert compiling.compile_networks(state.loss, backend) is None
    losses = []
    for _ in range(count):
        losses.append(train_step(state, options, device)["Loss/G/loss"])
    networks = {"G": state.G, "D": state.D, "G_ema": state.G_ema}
    return {f"{name}.{key}": x for name, network in networks.items() for key, x in network.state_dict().items()}, losses


def assert_same_training(one, other, tolerance: float) -> None:
    assert list(one[0]) == list(other[0])  # names of parameters, too
    for first, second in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(first, second, atol=tolerance, rtol=tolerance)
    for name, tensor in one[0].items():
        # Adam's first steps are as large for a small gradient as for a large one, whatever its last bits are.
        torch.testing.assert_close(other[0][name], tensor, atol=10 * tolerance, rtol=10 * tolerance, msg=name)


@pytest.mark.parametrize(("batch_gpu", "backend"), [(None, "aot_eager"), (2, "eager")])  # which takes a third of that
def test_the_training_is_the_same(archive, batch_gpu, backend):
    options = small_options(archive, batch_gpu=batch_gpu, mbstd_group=2)
    assert_same_training(steps(options, 3, None), steps(options, 3, backend), 1e-4)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a C++ compiler on a busy core
def test_the_training_is_the_same_in_compiled_code(archive):
    options = small_options(archive)
    assert_same_training(steps(options, 3, None), steps(options, 3, "inductor"), 1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_training_is_the_same_on_a_gpu(archive, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    options, device = small_options(archive, fp32=True), torch.device("cuda")
    assert_same_training(steps(options, 2, None, device), steps(options, 2, "inductor", device), 1e-3)


def test_networks_are_called_compiled_but_for_second_derivatives(archive):
    calls = []

    def backend(graph, inputs):
        def run(*args):
            calls.append(torch.is_grad_enabled())
            return graph(*args)

        return run

    torch.compiler.reset()
    options = small_options(archive)
    state = build_state(options, FaceArchive(archive), CPU)
    assert compiling.compile_networks(state.loss, backend) is None
    calls.clear()
    train_step(state, options, CPU)
    # Gmain: G, D. Dmain: G without gradients, D twice.
    assert len(calls) == 5
    assert calls.count(False) == 1


def test_a_resumed_run_ends_like_one_that_went_through(archive, tmp_path, monkeypatch):
    # What a backend computes is tested above; this one takes the least time.
    monkeypatch.setattr(loop, "compile_networks", partial(compiling.compile_networks, backend="eager"))
    whole, half = train_whole_and_resumed(archive, tmp_path, kimg=0.016, compile=True, mbstd_group=2)
    assert read_options(whole, TrainOptions).compile
    # A run may change to networks that are not compiled, and back.
    for compile in (False, True):
        kimg = read_stats(half)[-1]["step"] + 0.008
        go_on(half, kimg=kimg, compile=compile)
        assert read_options(half, TrainOptions).compile == compile


def test_without_a_compiler_it_trains_all_the_same_and_says_so(archive, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("backend='inductor' raised:\n\nNo working C++ compiler found\nand what else there is to say")

    monkeypatch.setattr(torch, "compile", fail)
    run = train(archive, tmp_path, kimg=0.008, compile=True)
    told = [line for line in (run / "log.txt").read_text().splitlines() if line.startswith("not compiled")]
    assert len(told) == 1
    assert told[0].endswith("without it: backend='inductor' raised: No working C++ compiler found")
    assert "finished" in (run / "log.txt").read_text()
