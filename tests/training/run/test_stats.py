import math

import pytest
import torch

from facegen.training.run.stats import Collector


def test_mean_and_deviation_over_several_reports():
    collector = Collector()
    values = torch.randn(50)
    collector.report("score", values[:7])
    collector.report("score", values[7:49].reshape(6, 7, 1))
    collector.report("score", values[49])  # a scalar
    summary = collector.flush()["score"]
    assert summary.num == 50
    assert summary.mean == pytest.approx(float(values.mean()), abs=1e-6)
    assert summary.std == pytest.approx(float(values.std(correction=0)), rel=1e-6)


def test_names_are_apart():
    collector = Collector()
    collector.report("Loss/G/loss", torch.tensor([1.0, 3.0]))
    collector.report("Loss/D/loss", torch.tensor([5.0]))
    summaries = collector.flush()
    assert set(summaries) == {"Loss/G/loss", "Loss/D/loss"}
    assert (summaries["Loss/G/loss"].mean, summaries["Loss/G/loss"].std) == (2, 1)
    assert (summaries["Loss/D/loss"].mean, summaries["Loss/D/loss"].std) == (5, 0)


def test_flush_forgets():
    collector = Collector()
    collector.report("a", torch.tensor(1.0))
    collector.flush()
    assert collector.flush() == {}
    collector.report("a", torch.tensor(5.0))
    assert collector.flush()["a"].mean == 5


def test_small_spread_around_a_large_mean():
    # In float32 the difference of two sums of 1e10 would be rounding alone.
    collector = Collector()
    collector.report("kimg", torch.tensor([100000.0, 100001.0, 100002.0]))
    assert collector.flush()["kimg"].std == pytest.approx(math.sqrt(2 / 3), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64, torch.bool])
def test_other_types(dtype):
    collector = Collector()
    collector.report("sign", torch.tensor([0, 1, 1, 1]).to(dtype))
    assert collector.flush()["sign"].mean == 0.75


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_shows(value):
    # A loop must be able to see that a loss has burst.
    collector = Collector()
    collector.report("loss", torch.tensor([1.0, value]))
    assert not math.isfinite(collector.flush()["loss"].mean)


def test_keeps_no_graph():
    collector = Collector()
    weight = torch.ones(3, requires_grad=True)
    collector.report("loss", weight * 2)
    assert all(not moments.requires_grad for moments in collector._moments.values())
    assert collector.flush()["loss"].mean == 2


def test_an_empty_tensor_adds_nothing():
    collector = Collector()
    collector.report("loss", torch.zeros(0))
    collector.report("loss", torch.tensor([2.0, 4.0]))
    assert collector.flush()["loss"].mean == 3


def test_nothing_but_empty_tensors_is_no_summary():
    collector = Collector()
    collector.report("loss", torch.zeros(0))
    assert "loss" not in collector.flush()
