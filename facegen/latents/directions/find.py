"""Directions in w along which the styles of a generator change most, and how far w lie apart along them.

SeFa (Shen & Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs"): every layer turns its w into a style
by a matrix. The directions are the eigenvectors of A^T A, with these matrices stacked to A, found without any picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from facegen.aging.edit import layer_indices
from facegen.errors import FacegenError
from facegen.latents.mapping import map_latents
from facegen.latents.options import ORDERS
from facegen.networks.generator import Generator

SAMPLES = 4096  # w whose spread is taken


@torch.no_grad()
def directions(generator: Generator, layers: str | Sequence[int] | None = None, order: str = ORDERS[0]) -> torch.Tensor:
    """Return directions in w, float32 `[w_dim, n]`: columns of length 1, strongest first, their largest entry positive.

    Args:
        generator: any.
        layers: what moves, see `layer_indices`; None for all.
        order: `sefa` lets every channel of a style count the same, as the authors do; `fork` takes the matrices as they
            are, and that of the first layer of colors along, so that a number means what it does in dvschultz's fork.

    Raises:
        FacegenError: no such layers, or none among them but one of colors, which has no directions.
    """
    if order not in ORDERS:
        raise FacegenError(f"order {order!r}: choose one of {', '.join(ORDERS)}")
    chosen = layer_indices(layers, generator.num_ws)
    weights = [weight.double().cpu() for layer, weight in _style_weights(generator, order) if layer in chosen]
    if not weights:
        raise FacegenError(
            f"layers {layers} only turn features into colors and have no directions; choose other layers"
        )
    matrix = torch.cat(weights)
    if order == "sefa":
        matrix = matrix / matrix.norm(dim=1, keepdim=True).clamp(min=1e-30)
    vectors = torch.linalg.svd(matrix, full_matrices=False).Vh.T
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors).float()


def _style_weights(generator: Generator, order: str) -> list[tuple[int, torch.Tensor]]:
    """Which w each matrix turns into a style, and the matrix `[channels, w_dim]`, from 4x4 up."""
    found, layer = [], 0
    for resolution in generator.synthesis.block_resolutions:
        block = getattr(generator.synthesis, f"b{resolution}")
        convolutions = [block.conv1] if block.in_channels == 0 else [block.conv0, block.conv1]
        for convolution in convolutions:
            found.append((layer, convolution.affine.weight))
            layer += 1
        if order == "fork" and block.in_channels == 0 and block.torgb is not None:
            found.append((layer, block.torgb.affine.weight))
    return found


@torch.no_grad()
def spread(generator: Generator, vectors: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of w along directions `[w_dim, n]`, over faces of all classes: `[n]`.

    It makes steps comparable: the w of one network lie far apart, those of another close together.
    """
    device = next(generator.parameters()).device
    random = torch.Generator().manual_seed(0)
    z = torch.randn([SAMPLES, generator.z_dim], generator=random, dtype=torch.float32, device="cpu")
    labels = torch.zeros([SAMPLES, generator.c_dim])
    if generator.c_dim:
        labels[torch.arange(SAMPLES), torch.arange(SAMPLES) % generator.c_dim] = 1
    w = map_latents(generator, z.to(device), labels)[:, 0]
    return (w @ vectors.to(w)).std(dim=0).to(vectors.device)
