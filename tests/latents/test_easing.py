import numpy as np
import pytest

from facegen.latents.walks.easing import EASINGS

TIMES = np.linspace(0, 1, 1001)


@pytest.mark.parametrize("name", EASINGS)
def test_it_begins_at_0_and_ends_at_1(name):
    way = EASINGS[name](TIMES)
    assert way.shape == TIMES.shape
    assert way[[0, -1]] == pytest.approx([0, 1], abs=1e-9)
    assert np.abs(np.diff(way)).max() < 0.25  # no jumps


@pytest.mark.parametrize("name", ["linear", "easeInOutQuad", "circularEaseOut", "circularEaseOut2"])
def test_it_never_turns_back(name):
    assert (np.diff(EASINGS[name](TIMES)) > 0).all()


def test_values_halfway():
    halfway = {name: float(ease(np.array([0.5]))[0]) for name, ease in EASINGS.items()}
    assert halfway["linear"] == halfway["easeInOutQuad"] == 0.5
    assert halfway["circularEaseOut"] == pytest.approx(0.75**0.5)
    assert halfway["circularEaseOut2"] == pytest.approx(0.75**0.25)
    assert halfway["backEaseOut"] == pytest.approx(1.375)
    assert EASINGS["easeInOutQuad"](np.array([0.25])) == pytest.approx([0.125])


def test_a_bounce_meets_the_floor_and_jumps_lower_each_time():
    bounce = EASINGS["bounceEaseOut"]
    assert bounce(np.array([4 / 11, 8 / 11, 9 / 10])) == pytest.approx([1, 1, 1])
    assert bounce(np.array([6 / 11, (8 / 11 + 9 / 10) / 2, 0.95])) == pytest.approx([0.7, 0.91, 0.973])
    assert bounce(TIMES).max() <= 1 + 1e-9
