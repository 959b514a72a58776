from __future__ import annotations

import pytest
import torch

from facegen.errors import FacegenError
from facegen.networks.age_shift import AgeShift, group_mean_shift

AGES = [5.0, 15.0, 35.0]


@pytest.fixture
def shift() -> AgeShift:
    torch.manual_seed(0)
    shift = AgeShift(3, 4, 6, AGES)
    torch.nn.init.normal_(shift.table)
    return shift


def test_middle_ages_lie_at_their_group(shift: AgeShift):
    assert torch.allclose(shift.place(torch.tensor(AGES)), shift.table)


def test_ages_between_are_interpolated_and_those_beyond_held(shift: AgeShift):
    places = shift.place(torch.tensor([20.0, 0.0, 99.0]))
    assert torch.allclose(places[0], 0.75 * shift.table[1] + 0.25 * shift.table[2], atol=1e-6)
    assert torch.equal(places[1], shift.table[0])
    assert torch.allclose(places[2], shift.table[2], atol=1e-6)


def test_a_shift_there_and_back_changes_nothing(shift: AgeShift):
    ws, young, old = torch.randn(2, 4, 6), torch.tensor([5.0, 10.0]), torch.tensor([30.0, 20.0])
    there = shift(ws, young, old)
    assert not torch.allclose(there, ws, atol=0.1)
    assert torch.allclose(shift(there, old, young), ws, atol=1e-6)


def test_group_means_make_a_shift():
    means = torch.randn(3, 6)
    shift = group_mean_shift(means, 4, AGES)
    moved = shift(means[:1, None].expand(-1, 4, -1), torch.tensor([5.0]), torch.tensor([35.0]))
    assert torch.allclose(moved, means[2].expand(1, 4, 6), atol=1e-6)


def test_one_group_moves_nothing():
    ws = torch.randn(1, 4, 6)
    assert torch.allclose(AgeShift(1, 4, 6, [30.0])(ws, torch.tensor([3.0]), torch.tensor([80.0])), ws)


@pytest.mark.parametrize("ages", [[5.0, 15.0], [5.0, 5.0, 7.0], [9.0, 5.0, 7.0]])
def test_ages_must_grow(ages: list[float]):
    with pytest.raises(FacegenError, match="3 growing ages"):
        AgeShift(3, 4, 6, ages)
