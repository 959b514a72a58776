"""The image-space filter of the augmentation pipeline: four octaves, each louder or softer (Karras et al. 2020b)."""

from __future__ import annotations

from functools import lru_cache

import torch

from facegen.device import to_device

BANDS = 4
# Expected power of each band in a natural image (1/f): what the gains are normalized by.
EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # tensors made in inference mode would poison the cache for training
def band_filters() -> torch.Tensor:
    """Zero-phase filters `[4, 43]` of the bands 0..pi/8, pi/8..pi/4, pi/4..pi/2, pi/2..pi. They add up to 1.

    H(z) H(1/z) / 2 of the sym2 wavelet is a half-band low pass with these seven taps; one minus it is the high pass.
    A coarser band is made of the same two at twice the spacing.
    """
    low = torch.tensor([-1.0, 0.0, 9.0, 16.0, 9.0, 0.0, -1.0], dtype=torch.float64) / 32
    high = -low
    high[3] += 1
    bands: list[torch.Tensor] = []
    passed = torch.ones(1, dtype=torch.float64)  # what the low passes of the finer octaves have left
    for octave in range(BANDS - 1):
        bands.insert(0, _convolve(passed, _spread(high, 2**octave)))
        passed = _convolve(passed, _spread(low, 2**octave))
    bands.insert(0, passed)
    longest = max(len(band) for band in bands)
    margins = [(longest - len(band)) // 2 for band in bands]
    return torch.stack([
        torch.nn.functional.pad(band, (margin, margin)) for band, margin in zip(bands, margins, strict=True)
    ])  # fmt: skip


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def band_matrices(length: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """`[4, length, length]`: each band's filter along a row of pixels reflected at both ends."""
    filters = band_filters()
    reach = filters.shape[1] // 2
    pixel = torch.arange(length)[:, None] + torch.arange(-reach, reach + 1)
    period = max(2 * (length - 1), 1)
    source = (pixel % period).minimum(-pixel % period)
    matrices = torch.zeros(BANDS, length, length, dtype=torch.float64)
    weights = filters[:, None, :].expand(-1, length, -1)
    matrices.scatter_add_(2, source.expand(BANDS, -1, -1), weights)
    return matrices.to(device, dtype)


def amplify_bands(images: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """Filter each image `[N, C, H, W]` along both axes with the sum of the bands weighted by `gains` `[N, 4]`."""
    gains = to_device(gains, images.device, images.dtype)
    vertical, horizontal = (
        torch.einsum("nb,bij->nij", gains, band_matrices(length, images.device, images.dtype))
        for length in images.shape[2:]
    )
    return vertical[:, None] @ (images @ horizontal[:, None].mT)


def _spread(taps: torch.Tensor, spacing: int) -> torch.Tensor:
    """taps(z ** spacing): zeros between the taps."""
    spread = taps.new_zeros(spacing * (len(taps) - 1) + 1)
    spread[::spacing] = taps
    return spread


def _convolve(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    padded = torch.nn.functional.pad(a[None, None], (len(b) - 1, len(b) - 1))
    return torch.nn.functional.conv1d(padded, b.flip(0)[None, None])[0, 0]
