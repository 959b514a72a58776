"""How close a face comes to itself when it is decoded at its own age."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from facegen.evaluation.bootstrap import Estimate, estimate_mean
from facegen.images import to_float

BATCH = 32

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
    mse = squared_errors(inputs, reconstructions)
    # Equal pictures have no noise; one level in one pixel of a large picture is about this much.
    psnr = -10 * np.log10(np.maximum(mse, 1e-10))
    ssim = structural_similarities(inputs, reconstructions)
    return ReconstructionScores(
        mse=estimate_mean(mse, counts),
        psnr=estimate_mean(psnr, counts),
        ssim=None if ssim is None else estimate_mean(ssim, counts),
        lpips=None if lpips is None else estimate_mean(_distances(lpips, inputs, reconstructions), counts),
    )


def squared_errors(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """Mean squared error of pixels in 0..1 of each pair of pictures, uint8 `[N, 3, H, W]`: float64 `[N]`."""
    parts = zip(one.split(BATCH), other.split(BATCH), strict=True)
    errors = [((a.double() - b.double()) / 255).square().mean(dim=(1, 2, 3)) for a, b in parts]
    return torch.cat(errors).numpy()


def structural_similarities(one: torch.Tensor, other: torch.Tensor) -> np.ndarray | None:
    """SSIM of each pair of pictures, uint8 `[N, 3, H, W]`: `[N]`; None where torchmetrics is not installed."""
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim
    except ImportError:
        return None
    parts = zip(one.split(BATCH), other.split(BATCH), strict=True)
    found = [ssim(a.float() / 255, b.float() / 255, data_range=1.0, reduction="none") for a, b in parts]
    return torch.cat([cast(torch.Tensor, part).reshape(-1) for part in found]).double().numpy()


@torch.no_grad()
def _distances(lpips: Distance, one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    parts = zip(one.split(BATCH), other.split(BATCH), strict=True)
    found = [lpips(to_float(a), to_float(b)).cpu() for a, b in parts]
    return torch.cat(found).double().numpy()
