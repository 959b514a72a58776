"""Flesh digression: a face on a circle in z, while what it is made of, the network's constant, goes around as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from facegen.latents.labels import Label
from facegen.latents.options import DigressionOptions
from facegen.latents.seeds import latents_of_seeds
from facegen.latents.space import LatentSpace
from facegen.latents.walks.loops import around, circle, plane
from facegen.latents.walks.paths import ws_of_z

# The radii are meant for networks of this length of z, and of this many numbers in the constant: others' are in
# proportion, so that they look alike.
USUAL_Z, USUAL_CONST = 512, 512 * 4 * 4


@dataclass(frozen=True)
class Digression:
    """What is drawn: `total` frames, of each its w `[num_ws, w_dim]` and its constant `[channels, 4, 4]`."""

    name: str
    total: int
    ws: Iterator[torch.Tensor]
    consts: Iterator[torch.Tensor]


def digression(space: LatentSpace, options: DigressionOptions, label: Label) -> Digression:
    """Plan a digression; the frames are computed as they are asked for, and nothing in the network changes.

    Both circles are gone around a whole number of times, so that the video repeats without a jump.
    """
    z_dim = space.generator.z_dim
    if options.seeds is None:
        zs = np.random.RandomState(options.seed).randn(3, z_dim).astype(np.float32)
        name = f"digression-seed_{options.seed}"
    else:
        zs = latents_of_seeds(options.seeds, z_dim)
        name = "digression-seeds_" + "_".join(map(str, options.seeds))
    radius = options.radius_small * (z_dim / USUAL_Z) ** 0.5
    z = torch.from_numpy(circle(zs, 2 * radius, options.frames, options.turns[0]))
    ws = ws_of_z(space, z, label.weights.expand(len(z), -1))
    return Digression(name, options.frames, ws, _consts(space, options))


def _consts(space: LatentSpace, options: DigressionOptions) -> Iterator[torch.Tensor]:
    """The constant of every frame, on a circle around the network's own whose plane the seed decides."""
    const = space.generator.synthesis.get_parameter("b4.const").detach()
    radius = options.radius_large * (const.numel() / USUAL_CONST) ** 0.5
    directions = np.random.RandomState([options.seed, 1]).randn(2, const.numel())
    axes = plane(np.concatenate([np.zeros([1, const.numel()]), directions]))
    for place in around(options.frames, options.turns[1]):
        yield const + torch.from_numpy(radius * place @ axes).to(const).reshape(const.shape)
