"""A small archive, a narrow generator and small random networks that look at pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import small_generator, write_faces
from random_judges import random_detectors, random_extractor

from facegen.ages import AgeGroups
from facegen.metrics.features import Detectors, Extractor
from facegen.networks.generator import Generator


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts with an empty cache, and nothing is downloaded."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FACEGEN_CACHE", str(cache))
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    return cache


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of one photo, 16x16, in three unevenly filled age groups, the last too small for some metrics."""
    path = tmp_path_factory.mktemp("metrics") / "faces.zip"
    return write_faces(path, [5] * 24 + [35] * 12 + [65] * 3, AgeGroups.parse("0-20,21-60,61-"))


@pytest.fixture
def generator() -> Generator:
    """Conditional, 16x16, untrained, with noise that shows."""
    G = small_generator(3)
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return G.requires_grad_(False)


@pytest.fixture
def make_extractor() -> Callable[..., Extractor]:
    """A function (name) -> a small random network that looks at pictures."""
    return random_extractor


@pytest.fixture
def detectors() -> Detectors:
    """Small random networks for every metric."""
    return random_detectors()
