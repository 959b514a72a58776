"""Winograd's minimal filtering F(4x4, 3x3) for 3x3 convolutions on the CPU (Lavin and Gray 2016, "Fast Algorithms for
Convolutional Neural Networks").

A 4x4 tile of the result needs a 6x6 tile of the picture. In a transformed space the convolution of a tile is 36
products, one matrix product over the channels each, instead of 16 * 9: a quarter of the multiplications. The error is
about 1e-5 of the largest value. These functions know nothing of derivatives; `convolution.py` uses them where they pay.
"""

from __future__ import annotations

import functools

import torch

TILE = 4
# Measured: with fewer channels the transforms cost more than the products save, with fewer tiles the weights' transform
# does. As many tiles are taken at a time as keep products efficient and the transforms' results in the cache, which a
# large picture leaves.
MIN_CHANNELS = 64
MIN_TILES = 64
TILES_AT_A_TIME = 128
MAX_ELEMENTS = 2**18  # in one picture


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
        and height * width * max(in_channels, out_channels) <= MAX_ELEMENTS
    )


@torch.no_grad()
def convolve(x: torch.Tensor, w: torch.Tensor, transposed: bool = False) -> torch.Tensor:
    """Correlate `[N, C, H, W]` with `[K, C, 3, 3]`, padded by 1; H and W are multiples of 4. `[N, K, H, W]`.

    With `transposed` it maps `[N, K, H, W]` to `[N, C, H, W]`, as the gradient does.
    """
    _, weights, result = _transforms(x.dtype)
    batch, _, height, width = x.shape
    if transposed:
        weights = weights.flip(1)  # the taps in reverse order
    w = (weights @ w.permute(2, 3, 0, 1).reshape(9, -1)).view(36, *w.shape[:2])
    w = w if transposed else w.mT
    out_channels = w.shape[2]
    shape = [batch, out_channels, height, width]
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    length = _chunk_length(x)
    transform = _DataTransform(x, length)
    products = x.new_empty([36, transform.tiles, out_channels])
    tiles = x.new_empty([transform.tiles, TILE**2, out_channels])
    result = result.expand(transform.tiles, -1, -1)
    for x_part, y_part in zip(x.split(length), y.permute(0, 2, 3, 1).split(length), strict=True):
        torch.bmm(transform(x_part).transpose(0, 1), w, out=products)
        torch.bmm(result, products.transpose(0, 1), out=tiles)
        parts = tiles.view(len(y_part), height // TILE, width // TILE, TILE, TILE, -1)
        y_part.view(len(y_part), height // TILE, TILE, width // TILE, TILE, -1).copy_(parts.transpose(2, 3))
    return y


@torch.no_grad()
def weight_gradient(x: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Return `[K, C, 3, 3]`, the gradient of `convolve`'s weights, from `x` and the gradient `[N, K, H, W]`."""
    _, weights, result = _transforms(x.dtype)
    channels, out_channels = x.shape[1], grad.shape[1]
    length = _chunk_length(x)
    transform = _DataTransform(x, length)
    cut = x.new_empty([transform.tiles, TILE**2, out_channels])
    grads = x.new_empty([transform.tiles, 36, out_channels])
    total = x.new_empty([36, out_channels, channels])
    result = result.t().expand(transform.tiles, -1, -1)
    for i, (x_part, grad_part) in enumerate(zip(x.split(length), grad.split(length), strict=True)):
        _cut(grad_part.permute(0, 2, 3, 1), TILE, cut)
        torch.bmm(result, cut, out=grads)
        # beta 0 sets the sum, beta 1 adds to it
        total.baddbmm_(grads.permute(1, 2, 0), transform(x_part).transpose(0, 1), beta=min(i, 1))
    return (weights.t() @ total.flatten(1)).view(3, 3, out_channels, channels).permute(2, 3, 0, 1)


def _chunk_length(x: torch.Tensor) -> int:
    """Return how many pictures to take at a time, so that their transforms stay in the cache."""
    wanted = max(TILES_AT_A_TIME * TILE**2 // (x.shape[2] * x.shape[3]), 1)
    return max(n for n in range(1, min(wanted, len(x)) + 1) if len(x) % n == 0)


class _DataTransform:
    """Transforms one chunk of pictures after another, in the same memory."""

    def __init__(self, x: torch.Tensor, length: int) -> None:
        _, channels, height, width = x.shape
        self.tiles = length * height * width // TILE**2
        self.matrix = _transforms(x.dtype)[0]
        self.padded = x.new_zeros([length, height + 2, width + 2, channels])
        self.cut = x.new_empty([self.tiles, (TILE + 2) ** 2, channels])
        self.transformed = torch.empty_like(self.cut)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Turn `[length, C, H, W]` into `[tiles, 36, C]`, to be read before the next call."""
        self.padded[:, 1:-1, 1:-1] = x.permute(0, 2, 3, 1)
        _cut(self.padded, TILE + 2, self.cut)
        # One small product per tile, which stays in the cache, is twice as fast as one of 36 rows for all tiles.
        return torch.bmm(self.matrix.expand(self.tiles, -1, -1), self.cut, out=self.transformed)


def _cut(x: torch.Tensor, size: int, out: torch.Tensor) -> None:
    """Cut `[N, H, W, C]` into tiles, a step of 4 apart, written as `[tiles, size * size, C]`."""
    tiles = x.unfold(1, size, TILE).unfold(2, size, TILE).permute(0, 1, 2, 4, 5, 3)
    out.view(tiles.shape).copy_(tiles)


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
    scaled = torch.tensor(weights, dtype=torch.float64) / 24
    matrices = torch.tensor(data, dtype=torch.float64), scaled, torch.tensor(result, dtype=torch.float64)
    B, G, A = (torch.kron(matrix, matrix).to(dtype) for matrix in matrices)
    return B, G, A
