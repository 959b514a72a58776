"""Winograd's minimal filtering F(4x4, 3x3) for 3x3 convolutions on the CPU (Lavin and Gray 2016, "Fast Algorithms for
Convolutional Neural Networks").

A 4x4 tile of the result needs a 6x6 tile of the picture. In a transformed space the convolution of a tile is 36
products, one matrix product over the channels each, instead of 16 * 9: a quarter of the multiplications. The error is
about 1e-5 of the largest value. These functions know nothing of derivatives; `convolution.py` uses them where they pay.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

TILE = 4
# Measured on two cores: with fewer channels the transforms cost more than the products save, with fewer tiles the
# weights' transform does, and pictures that leave the cache between two steps are slower than direct convolution.
MIN_CHANNELS = 64
MIN_TILES = 64
CHUNK = 2**14  # tiles times channels that are transformed at a time


def pays(x: torch.Tensor, in_channels: int, out_channels: int) -> bool:
    """Tell whether a convolution of `x` (3x3, padding 1, stride 1) is faster here than in PyTorch."""
    batch, _, height, width = x.shape
    tiles = height * width // TILE**2
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and height % TILE == width % TILE == 0
        and min(in_channels, out_channels) >= MIN_CHANNELS
        and batch * tiles >= MIN_TILES
        and tiles * max(in_channels, out_channels) <= 2 * CHUNK
    )


@torch.no_grad()
def convolve(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Correlate `[N, C, H, W]` with `[K, C, 3, 3]`, padded by 1; H and W are multiples of 4. `[N, K, H, W]`."""
    data, weights, result = _transforms(x.dtype)
    (out_channels, channels), (batch, _, height, width) = w.shape[:2], x.shape
    w = (weights @ w.permute(2, 3, 1, 0).reshape(9, -1)).view(36, channels, out_channels)
    shape = [batch, out_channels, height, width]
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for x_part, y_part in zip(_chunks(x), y.permute(0, 2, 3, 1).split(_chunk_length(x)), strict=True):
        products = torch.bmm((data @ _tiles(x_part, TILE + 2)).view(36, -1, channels), w)
        tiles = (result @ products.flatten(1)).view(TILE, TILE, len(y_part), height // TILE, width // TILE, -1)
        y_part.view(len(y_part), height // TILE, TILE, width // TILE, TILE, -1).copy_(tiles.permute(2, 3, 0, 4, 1, 5))
    return y


@torch.no_grad()
def weight_gradient(x: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Return `[K, C, 3, 3]`, the gradient of `convolve`'s weights, from `x` and the gradient `[N, K, H, W]`."""
    data, weights, result = _transforms(x.dtype)
    channels, out_channels = x.shape[1], grad.shape[1]
    total = x.new_zeros([36, out_channels, channels])
    for x_part, grad_part in zip(_chunks(x), grad.permute(0, 2, 3, 1).split(_chunk_length(x)), strict=True):
        grad_part = (result.t() @ _tiles(grad_part, TILE)).view(36, -1, out_channels)
        total.baddbmm_(grad_part.mT, (data @ _tiles(x_part, TILE + 2)).view(36, -1, channels))
    return (weights.t() @ total.flatten(1)).view(3, 3, out_channels, channels).permute(2, 3, 0, 1)


def _chunk_length(x: torch.Tensor) -> int:
    """Return how many pictures to take at a time, so that what is made of them stays in the cache."""
    return max(CHUNK * TILE**2 // x[0].numel(), 1)


def _chunks(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Split `[N, C, H, W]` into padded `[n, H + 2, W + 2, C]`."""
    return F.pad(x.permute(0, 2, 3, 1), [0, 0, 1, 1, 1, 1]).split(_chunk_length(x))


def _tiles(x: torch.Tensor, size: int) -> torch.Tensor:
    """Cut `[N, H, W, C]` into tiles, a step of 4 apart; `[size * size, tiles * C]`."""
    tiles = x.unfold(1, size, TILE).unfold(2, size, TILE)
    return tiles.permute(4, 5, 0, 1, 2, 3).reshape(size**2, -1)


@functools.cache
def _transforms(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return B^T `[36, 36]`, G `[36, 9]` and A^T `[16, 36]` of Lavin and Gray, section 4.3, for flattened tiles.

    Along both axes at once a transform is the Kronecker product of the matrix with itself.
    """
    data = [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
    weights = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # over 24
    result = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    data, weights, result = (torch.tensor(rows, dtype=torch.float64) for rows in (data, weights, result))
    weights = weights / 24
    return tuple(torch.kron(matrix, matrix).to(dtype) for matrix in (data, weights, result))
