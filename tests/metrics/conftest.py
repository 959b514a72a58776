"""A small archive, a narrow generator and small random networks that look at pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from random_judges import random_detectors, random_extractor

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter
from facegen.metrics.features import Detectors, Extractor
from facegen.networks.generator import Generator

GROUP_SIZES = {"0-20": 24, "21-60": 12, "61+": 3}


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
    random = np.random.default_rng(0)
    with (
        Image.open(get_sample_data("grace_hopper.jpg")) as photo,
        ArchiveWriter(path, groups=AgeGroups.from_labels(list(GROUP_SIZES))) as writer,
    ):
        for label, count in enumerate(GROUP_SIZES.values()):
            for i in range(count):
                left, top = random.integers(120, 240), random.integers(20, 140)
                crop = photo.crop((left, top, left + 200, top + 200)).resize((16, 16))
                writer.add(f"{label}-{i}.jpg", crop, label=label, age=label * 30 + 5)
    return path


@pytest.fixture
def generator() -> Generator:
    """Conditional, 16x16, untrained, with noise that shows."""
    torch.manual_seed(1)
    G = Generator(
        z_dim=8,
        c_dim=3,
        w_dim=8,
        img_resolution=16,
        img_channels=3,
        mapping_kwargs={"num_layers": 2},
        synthesis_kwargs={"channel_base": 64, "channel_max": 8},
    )
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return G.eval().requires_grad_(False)


@pytest.fixture
def make_extractor() -> Callable[..., Extractor]:
    """A function (name) -> a small random network that looks at pictures."""
    return random_extractor


@pytest.fixture
def detectors() -> Detectors:
    """Small random networks for every metric."""
    return random_detectors()
