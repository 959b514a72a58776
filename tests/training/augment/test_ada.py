import pytest
import torch

from facegen.errors import FacegenError
from facegen.training.augment.ada import AdaController
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.augment.strengths import Strengths

POSITIVE, NEGATIVE = torch.full([8, 1], 0.7), torch.full([8, 1], -2.0)


def pipe_at(p: float) -> AugmentPipe:
    pipe = AugmentPipe(Strengths(xflip=1))
    pipe.p.fill_(p)
    return pipe


def run(ada: AdaController, pipe: AugmentPipe, minibatches: int, logits: torch.Tensor = POSITIVE) -> list[bool]:
    moved = []
    for _ in range(minibatches):
        ada.update(logits)
        moved.append(ada.adjust(pipe, batch_size=8))
    return moved


def test_p_rises_by_the_rule_every_fourth_minibatch():
    ada, pipe = AdaController(), pipe_at(0)
    assert run(ada, pipe, 8) == [False, False, False, True] * 2
    # 8 images x 4 minibatches, twice, of the 500,000 images that take p from 0 to 1
    assert float(pipe.p) == pytest.approx(2 * 8 * 4 / 500_000)
    assert ada.sign_mean == 1


def test_p_reaches_1_in_kimg():
    pipe = pipe_at(0)
    run(AdaController(interval=2, kimg=4), pipe, minibatches=500)  # 4000 images
    assert float(pipe.p) == pytest.approx(1, abs=1e-4)


def test_p_falls_but_not_below_0():
    ada, pipe = AdaController(kimg=1), pipe_at(0.05)
    run(ada, pipe, 4, NEGATIVE)
    assert float(pipe.p) == pytest.approx(0.05 - 0.032)
    run(ada, pipe, 4, NEGATIVE)
    assert float(pipe.p) == 0


@pytest.mark.parametrize(("positive", "direction"), [(7, -1), (8, 0), (9, 1)])
def test_the_mean_of_all_signs_is_compared_with_the_target(positive, direction):
    # 10 outputs with p of them positive: mean sign (2 p - 10) / 10; 8 positive are exactly on target.
    logits = torch.cat([torch.full([positive], 0.01), torch.full([10 - positive], -100.0)])
    ada, pipe = AdaController(target=0.6, kimg=1), pipe_at(0.5)
    for part in logits.split(3):
        ada.update(part)
    for _ in range(4):
        ada.adjust(pipe, batch_size=10)
    assert ada.sign_mean == pytest.approx((2 * positive - 10) / 10)
    assert float(pipe.p) == pytest.approx(0.5 + direction * 0.04)


def test_signs_of_one_interval_do_not_count_in_the_next():
    ada, pipe = AdaController(), pipe_at(0.5)
    run(ada, pipe, 4, POSITIVE)
    run(ada, pipe, 4, NEGATIVE)
    assert ada.sign_mean == -1


def test_without_real_images_p_stays():
    ada, pipe = AdaController(interval=1), pipe_at(0.5)
    assert ada.adjust(pipe, batch_size=8) is False
    assert float(pipe.p) == 0.5


def test_update_keeps_no_graph():
    ada = AdaController()
    ada.update(torch.ones(4, requires_grad=True) * 2)
    assert not ada._sum.requires_grad


@pytest.mark.parametrize("stop_after", [4, 6])
def test_resume_is_exact(stop_after):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 1, generator=generator) + 0.5 for _ in range(16)]
    ada, pipe = AdaController(target=0.3, kimg=1), pipe_at(0.2)
    expected, state = [], None
    for number, logits in enumerate(batches, 1):
        ada.update(logits)
        ada.adjust(pipe, batch_size=8)
        expected.append((float(pipe.p), ada.sign_mean))
        if number == stop_after:
            state = ada.state_dict(), {name: value.clone() for name, value in pipe.state_dict().items()}

    ada, pipe = AdaController(target=0.3, kimg=1), pipe_at(0)
    ada.load_state_dict(state[0])
    pipe.load_state_dict(state[1])
    for number, logits in enumerate(batches[stop_after:], stop_after):
        ada.update(logits)
        ada.adjust(pipe, batch_size=8)
        assert (float(pipe.p), ada.sign_mean) == expected[number]
    assert len({p for p, _ in expected}) == 3  # it went up and down


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"target": 60}, "lies in -1..1"), ({"interval": 0}, "interval >= 1"), ({"kimg": 0}, "kimg > 0")],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(FacegenError, match=message):
        AdaController(**arguments)
