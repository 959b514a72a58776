"""Names of metrics."""

from __future__ import annotations

import pytest

from facegen.errors import FacegenError
from facegen.metrics.names import Metric, Paths, parse_metric, parse_metrics


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("fid50k_full", Metric("fid50k_full", "fid", 50_000, True)),
        ("fid5k", Metric("fid5k", "fid", 5000)),
        ("fid500_full", Metric("fid500_full", "fid", 500, True)),
        ("kid50k_full", Metric("kid50k_full", "kid", 50_000, True)),
        ("pr50k3_full", Metric("pr50k3_full", "pr", 50_000, True, 3)),
        ("pr5005", Metric("pr5005", "pr", 500, False, 5)),
        ("is50k", Metric("is50k", "is", 50_000)),
        ("ppl2_wend", Metric("ppl2_wend", "ppl", 50_000, paths=Paths())),
        ("ppl2_wend1k", Metric("ppl2_wend1k", "ppl", 1000, paths=Paths())),
        ("ppl_wend64", Metric("ppl_wend64", "ppl", 64, paths=Paths(crop=True))),
        ("ppl_wfull", Metric("ppl_wfull", "ppl", 50_000, paths=Paths(ends=False, crop=True))),
        ("ppl_zend", Metric("ppl_zend", "ppl", 50_000, paths=Paths("z", crop=True))),
        ("ppl_zfull2k", Metric("ppl_zfull2k", "ppl", 2000, paths=Paths("z", ends=False, crop=True))),
    ],
)
def test_names(name, metric):
    assert parse_metric(name) == metric


@pytest.mark.parametrize(
    "name",
    [
        "fid",
        "FID50k",
        "fid50kfull",
        "fid50k_full_",
        "fid-5",
        "pr50k",
        "pr50k0",
        "is50k_full",
        "lpips",
        "fid5m",
        "ppl2_zend",
    ],
)
def test_wrong_names(name):
    with pytest.raises(FacegenError, match=name):
        parse_metric(name)


@pytest.mark.parametrize("name", ["fid0", "fid1", "is1_", "pr33", "fid10001k", "fid99999999999"])
def test_too_few_and_too_many(name):
    with pytest.raises(FacegenError, match=name):
        parse_metric(name)


def test_lists():
    assert [m.name for m in parse_metrics(" fid5k_full, is5k,,fid5k_full")] == ["fid5k_full", "is5k"]
    assert parse_metrics("none") == parse_metrics("None") == parse_metrics("") == parse_metrics([]) == []
    with pytest.raises(FacegenError, match=r"unknown metric 'fdi5k'.*fid50k_full"):
        parse_metrics("is5k,fdi5k")


def test_names_of_numbers():
    assert parse_metric("pr5k3_full").results == ["pr5k3_full_precision", "pr5k3_full_recall"]
    assert parse_metric("is5k").results == ["is5k_mean", "is5k_std"]
    assert parse_metric("ppl2_wend").results == ["ppl2_wend"]
