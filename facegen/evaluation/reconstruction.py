"""How close a face comes to itself when it is decoded at its own age."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from facegen.evaluation.bootstrap import Estimate, estimate_mean
from facegen.figures.plots import check_settings
from facegen.images import to_float
from facegen.metrics.features import BATCH

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ReconstructionScores:
    """Means over people.

    Attributes:
        mse: Mean squared error of pixels in 0..1; 0 is best.
        psnr: Peak signal-to-noise ratio in dB, the mean over pictures.
        ssim: Structural similarity (Wang et al. 2004); 1 is best. None without torchmetrics.
        lpips: Perceptual distance (Zhang et al. 2018); 0 is best. None without its weights.
    """

    mse: Estimate
    psnr: Estimate
    ssim: Estimate | None
    lpips: Estimate | None


def reconstruction_scores(
    inputs: torch.Tensor, reconstructions: torch.Tensor, counts: np.ndarray, *, lpips: Distance | None = None
) -> ReconstructionScores:
    """Compare pictures, uint8 `[N, 3, H, W]` both.

    Args:
        counts: As returned by `bootstrap.draw_counts`.
        lpips: From two stacks of pictures in -1..1 to distances `[N]`, on the device of its own weights.
    """
    mse = _distances(_squared_errors, inputs, reconstructions)
    # Equal pictures have no noise; one level in one pixel of a large picture is about this much.
    psnr = -10 * np.log10(np.maximum(mse, 1e-10))

    def measure(distance: Distance | None) -> Estimate | None:
        return None if distance is None else estimate_mean(_distances(distance, inputs, reconstructions), counts)

    return ReconstructionScores(
        mse=estimate_mean(mse, counts),
        psnr=estimate_mean(psnr, counts),
        ssim=measure(_structural_similarity()),
        lpips=measure(lpips and (lambda a, b: lpips(to_float(a), to_float(b)))),
    )


def _squared_errors(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return ((one.double() - other.double()) / 255).square().mean(dim=(1, 2, 3))


def _structural_similarity() -> Distance | None:
    """SSIM of uint8 pictures; None where torchmetrics is not installed."""
    try:
        check_settings()  # torchmetrics imports matplotlib
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim
    except ImportError:
        return None

    def distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        found = ssim(one.float() / 255, other.float() / 255, data_range=1.0, reduction="none")
        assert isinstance(found, torch.Tensor)  # a pair only for those who ask for the picture, too
        return found

    return distance


@torch.no_grad()
def _distances(distance: Distance, one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """What a distance says of each pair of pictures, uint8 `[N, 3, H, W]` both: float64 `[N]`."""
    parts = zip(one.split(BATCH), other.split(BATCH), strict=True)
    return torch.cat([distance(a, b).reshape(-1).cpu() for a, b in parts]).double().numpy()
