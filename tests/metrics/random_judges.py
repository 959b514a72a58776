"""Small random networks that look at pictures; also run as a script: a short training with metrics, for torchrun."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
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


def train(archive: str, outdir: str, metrics: str) -> Path:
    """Train a narrow network for four steps, measure it, and return the run's folder."""
    from facegen.training.generator import loop, measure
    from facegen.training.generator.options import resolve_options

    measure.load_detectors = lambda *args, **kwargs: random_detectors()
    chosen = {"cfg": "tiny", "batch": 4, "kimg": 0.016, "tick": 0.008, "snap": 2, "aug": "noaug"}
    options = resolve_options(data=archive, outdir=outdir, resolution=16, metrics=metrics, **chosen)
    return loop.train_generator(replace(options, channel_base=128, channel_max=16, latent=16), progress=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(str(train(*sys.argv[1:]))))
