"""As little of the change as makes a face look its age."""

from __future__ import annotations

import pytest
import torch

from facegen.aging.strength import CLOSE, LOOKS, MOST, solve_strengths


def faces_that_look(own: torch.Tensor, years: torch.Tensor):
    """Read faces whose looks move by `years` `[N, A]` at strength 1, in proportion; count the looks in `.looks`."""

    def read(strengths: torch.Tensor) -> torch.Tensor:
        read.looks += 1
        read.pictures += int((~strengths.isnan()).sum())
        return own[:, None] + strengths * years

    read.looks = read.pictures = 0
    return read


def test_the_least_strength_that_is_enough():
    own, targets = torch.tensor([40.0, 20.0]), torch.tensor([10.0, 40.0, 60.0, 70.0])
    read = faces_that_look(own, 1.3 * (targets[None] - own[:, None]))
    strengths, looks = solve_strengths(read, own, targets)
    assert read.looks <= LOOKS
    exact = (1 - CLOSE / (targets[None] - own[:, None]).abs()).clamp(min=0) / 1.3
    assert (strengths >= exact - 1e-4).all()  # enough,
    assert (strengths <= exact + 0.12).all()  # and hardly more
    torch.testing.assert_close(looks, own[:, None] + strengths * 1.3 * (targets[None] - own[:, None]))


def test_a_face_of_that_age_stays_as_it_is():
    strengths, looks = solve_strengths(faces_that_look(torch.tensor([45.0]), torch.tensor([[9.0]])), *ages(45, 46))
    assert strengths.tolist() == [[0]]
    assert looks.tolist() == [[45]]


@pytest.mark.parametrize("years", [10.0, 0.0, -5.0])
def test_what_is_not_enough_is_the_most_that_is_allowed(years):
    read = faces_that_look(torch.tensor([40.0]), torch.tensor([[years]]))
    strengths, looks = solve_strengths(read, *ages(40, 80))
    assert strengths.tolist() == [[pytest.approx(MOST)]]
    assert looks.tolist() == [[pytest.approx(40 + MOST * years)]]
    assert read.pictures == 1  # what is not enough at the most needs no other look


def test_looks_that_jump_end_too():
    """The estimator of a face may jump, as soon as a wrinkle is seen."""

    def read(strengths: torch.Tensor) -> torch.Tensor:
        return torch.where(strengths > 0.9, 70.0, 40.0)

    strengths, looks = solve_strengths(read, *ages(40, 70))
    assert 0.9 < strengths.item() < 1.15
    assert looks.item() == 70


def ages(own: float, target: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([float(own)]), torch.tensor([float(target)])
