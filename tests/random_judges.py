"""Small random networks that look at pictures."""

from __future__ import annotations

from typing import Any

import torch

from facegen.data.archive import FaceArchive
from facegen.metrics.evaluate import Evaluator
from facegen.metrics.features import Detectors, Extractor


def random_extractor(name: str = "random") -> Extractor:
    """A random projection of pictures to six features and of these to four classes."""
    random = torch.Generator().manual_seed(7)
    project = torch.randn([3 * 4 * 4, 6], generator=random)
    classes = torch.randn([6, 4], generator=random)

    def features(images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 64, 4)
        return torch.tanh(small.flatten(1) @ project / 7)

    return Extractor(name, features, lambda x: x @ classes)


def random_detectors() -> Detectors:
    """Random networks for every metric; the distance is plain MSE."""
    return Detectors(
        random_extractor("one"), random_extractor("two"), lambda a, b: (a - b).square().mean(dim=(1, 2, 3))
    )


def compute(generator: torch.nn.Module, archive: FaceArchive, metrics: str, **how: Any) -> dict[str, float]:
    """The numbers of a generator, without bars."""
    return Evaluator(archive, metrics, progress=False, **how).measure(generator)
