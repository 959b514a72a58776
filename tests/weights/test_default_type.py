"""The caller's default type of torch does not matter: weights stay what they are, and faces are aged as ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from small_networks import generator

from facegen.networks.age_shift import soft_labels
from facegen.networks.latents import group_means
from facegen.weights.load import load_generator
from facegen.weights.native import save_networks


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_networks_are_read_and_measured_as_ever(suffix, tmp_path, request):
    G = generator()
    path = tmp_path / f"a.{suffix}"
    save_networks(path, {"G_ema": G}, {}) if suffix == "safetensors" else torch.save(G.state_dict(), path)
    means = group_means(G, samples=10)
    request.getfixturevalue("float64")
    loaded = load_generator(path)[0]
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    assert torch.equal(group_means(loaded, samples=10), means)


def test_ages_become_labels_as_ever(float64):
    labels = soft_labels(torch.tensor([10, 25]), [10.0, 20.0, 30.0])
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[1, 0, 0], [0, 0.5, 0.5]]
