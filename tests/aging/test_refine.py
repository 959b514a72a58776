"""Refinement, on random networks: it comes closer, it keeps what it should keep, it ends in time."""

from __future__ import annotations

import time

import pytest
import torch

from facegen.aging.edit import Edit
from facegen.aging.refine import refine
from facegen.aging.transfer import AgeTransfer
from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(8, 10, 8, 8, 3, {"num_layers": 2}, {"channel_base": 64}).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def estimator() -> AgeEstimator:
    torch.manual_seed(1)
    return AgeEstimator(widths=(4, 4), depths=(1, 1), input_size=8).eval().requires_grad_(False)


def draw(generator: Generator, ws: torch.Tensor) -> torch.Tensor:
    return generator.synthesis(ws, noise_mode="const")


def start_and_faces(generator: Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where to start, and faces of which the generator is able."""
    ws, wanted = torch.randn(2, count, generator.num_ws, 8)
    return ws, draw(generator, wanted).clamp(-1, 1)


@pytest.mark.parametrize("judged", [False, True])
def test_faces_come_closer_and_the_generator_stays(generator: Generator, estimator: AgeEstimator, judged: bool):
    ws, faces = start_and_faces(generator, 2)
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    moves = torch.randn(2, 3, generator.num_ws, 8)
    pivots, tuned = refine(generator, faces, ws, steps=40, moves=moves, estimator=estimator if judged else None)
    assert pivots.shape == ws.shape
    assert len(tuned) == 2
    for index in range(2):
        one = slice(index, index + 1)
        at_start, at_pivot, at_end = (
            (draw(network, w[one]) - faces[one]).square().mean()
            for network, w in ((generator, ws), (generator, pivots), (tuned[index], pivots))
        )
        assert at_pivot < 0.8 * at_start
        assert at_end < 0.8 * at_pivot
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(parameter.requires_grad for parameter in [*generator.parameters(), *tuned[0].parameters()])
    assert all(parameter.grad is None for parameter in generator.parameters())


def test_faces_are_refined_each_for_itself(generator: Generator):
    ws, faces = start_and_faces(generator, 2)
    together, _ = refine(generator, faces, ws, steps=20)
    alone, _ = refine(generator, faces[1:], ws[1:], steps=20)
    # Adam divides by the root of squares: the last bits of a batch's gradients grow a little on the way.
    torch.testing.assert_close(together[1:], alone, atol=1e-3, rtol=1e-3)


def test_the_tuned_generator_is_held_to_other_faces(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    """What is not near the face changes less than it would."""
    ws, faces = start_and_faces(generator, 1)
    z, c = torch.randn(30, 8), torch.eye(10).repeat(3, 1)
    others = generator.mapping(z, c).lerp(ws, 0.5)

    def change(hold: float) -> float:
        monkeypatch.setattr("facegen.aging.refine.HOLD", hold)
        _, (tuned,) = refine(generator, faces, ws, steps=40)
        return float((draw(tuned, others) - draw(generator, others)).square().mean())

    assert change(40.0) < 0.7 * change(0.0)


def test_ages_are_watched_over(generator: Generator, estimator: AgeEstimator, monkeypatch: pytest.MonkeyPatch):
    """With the age's loss the face at other ages looks as old as it did, more than without it."""
    ws, faces = start_and_faces(generator, 1)
    moves = 2 * torch.randn(1, 2, generator.num_ws, 8)
    with torch.no_grad():
        estimator = AgeEstimator(widths=(4, 4), depths=(1, 1), input_size=8).eval().requires_grad_(False)
        estimator.head.weight.mul_(30)  # untrained it calls every face 50
        before = estimator.predict(draw(generator, ws + moves[0]))

    def drift(weight: float) -> float:
        monkeypatch.setattr("facegen.aging.refine.AGE", weight)
        pivots, (tuned,) = refine(generator, faces, ws, steps=40, moves=moves, estimator=estimator)
        return float((estimator.predict(draw(tuned, pivots + moves[0])) - before).abs().mean())

    assert drift(3.0) < 0.7 * drift(0.0)


def test_the_fused_optimizer_takes_the_same_steps(
    generator: Generator, estimator: AgeEstimator, monkeypatch: pytest.MonkeyPatch
):
    """On the CPU it mistakes a gradient that lies in memory in another order than its parameter."""
    ws, faces = start_and_faces(generator, 1)
    (fused,) = refine(generator, faces, ws, steps=10, estimator=estimator)[1]
    adam = torch.optim.Adam
    monkeypatch.setattr("torch.optim.Adam", lambda parameters, fused, **others: adam(parameters, **others))
    (plain,) = refine(generator, faces, ws, steps=10, estimator=estimator)[1]
    for (name, one), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_a_processor_with_bfloat16_computes_in_it(generator: Generator, monkeypatch: pytest.MonkeyPatch):
    """The face comes closer in float32, too, in which it is drawn later."""
    monkeypatch.setenv("FACEGEN_BFLOAT16", "1")
    ws, faces = start_and_faces(generator, 1)
    before, types = draw(generator, ws), set()
    hook = generator.synthesis.b8.conv1.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    try:
        pivots, (tuned,) = refine(generator, faces, ws, steps=40)
    finally:
        hook.remove()
    assert types == {torch.bfloat16}
    assert (draw(tuned, pivots) - faces).square().mean() < 0.64 * (before - faces).square().mean()


def test_the_strength_of_the_noise_stays(generator: Generator):
    ws, faces = start_and_faces(generator, 1)
    _, (tuned,) = refine(generator, faces, ws, steps=10)
    changed = {
        name
        for (name, tensor), old in zip(tuned.named_parameters(), generator.parameters(), strict=True)
        if not torch.equal(tensor, old)
    }
    assert {"synthesis.b8.conv1.weight", "synthesis.b4.conv1.affine.weight"} <= changed
    assert not any(name.endswith("noise_strength") or name.startswith("mapping") for name in changed)


def test_it_ends_in_time(generator: Generator):
    ws, faces = start_and_faces(generator, 2)
    refine(generator, faces, ws, steps=2)  # the first call of anything takes longer
    start = time.monotonic()
    pivots, _ = refine(generator, faces, ws, steps=1_000_000, seconds=0.5)
    assert 0.8 < time.monotonic() - start < 10  # two faces; a busy machine may be slow to notice
    assert (pivots - ws).abs().max() > 0


def test_one_step_is_enough_to_ask_for(generator: Generator):
    ws, faces = start_and_faces(generator, 1)
    pivots, tuned = refine(generator, faces, ws, steps=1)
    assert torch.isfinite(draw(tuned[0], pivots)).all()


def test_the_bar_says_which_face(generator: Generator, capsys: pytest.CaptureFixture[str]):
    faces, ws = torch.zeros(2, 3, 8, 8), torch.zeros(2, generator.num_ws, generator.w_dim)
    refine(generator, faces, ws, steps=2, progress=True, first=8, count=10)
    told = capsys.readouterr().err
    assert "refining face 9 of 10" in told
    assert "refining face 10 of 10" in told
    refine(generator, faces[:1], ws[:1], steps=2, progress=True)
    assert "face" not in capsys.readouterr().err


@pytest.mark.parametrize("target", ["z", "w+"])
def test_age_transfer_refines(generator: Generator, estimator: AgeEstimator, target: str):
    encoder = Encoder(8, 8, 75, (0, 0, 0), target=target, num_ws=generator.num_ws).eval()
    transfer = AgeTransfer(generator, encoder, age_estimator=estimator, device="cpu")
    _, faces = start_and_faces(generator, 2)
    plain = transfer.render(faces, [20, 70], input_ages=[30, 40])
    refined = transfer.render(faces, [20, 70], input_ages=[30, 40], edit=Edit(refine=30))
    assert refined.aged.shape == plain.aged.shape == (2, 2, 3, 8, 8)
    distances = [(part.reconstructions - faces).square().mean(dim=(1, 2, 3)) for part in (plain, refined)]
    assert (distances[1] < 0.9 * distances[0]).all()
    again = transfer.render(faces, [20, 70], input_ages=[30, 40])
    torch.testing.assert_close(again.aged, plain.aged)  # the transfer's own generator is as it was


def test_a_function_is_told_of_every_step_and_can_end_it(generator: Generator):
    ws, faces = start_and_faces(generator, 2)
    told: list[tuple[int, int]] = []
    refine(generator, faces, ws, steps=10, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 16) for done in range(1, 17)]  # 4 for the latents of both, 6 for each generator

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        refine(generator, faces, ws, steps=10, progress=stop)
