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
    seeds = (options.seed,) if options.seeds is None else options.seeds
    if options.seeds is not None:
        zs = latents_of_seeds(options.seeds, space.generator.z_dim)
    else:
        zs = np.random.RandomState(options.seed).randn(3, space.generator.z_dim).astype(np.float32)
    name = f"digression-seed{'s' * (len(seeds) > 1)}_" + "_".join(map(str, seeds))
    return Digression(name, options.frames, _ws(space, options, zs, label), _consts(space, options))


def _ws(space: LatentSpace, options: DigressionOptions, zs: np.ndarray, label: Label) -> Iterator[torch.Tensor]:
    """The w of every frame, of z on a circle around the first of three, in the plane of all."""
    radius = options.radius_small * (zs.shape[1] / USUAL_Z) ** 0.5
    axes = plane(zs)
    places = around(options.frames, options.turns[0])
    for first in range(0, len(places), space.drawing.batch):
        z = zs[0] + radius * places[first : first + space.drawing.batch] @ axes
        yield from space.from_z(torch.from_numpy(z.astype(np.float32)), label.weights[None])


def _consts(space: LatentSpace, options: DigressionOptions) -> Iterator[torch.Tensor]:
    """The constant of every frame, on a circle around the network's own whose plane the seed decides."""
    const = space.generator.synthesis.get_parameter("b4.const").detach()
    radius = options.radius_large * (const.numel() / USUAL_CONST) ** 0.5
    directions = np.random.RandomState([options.seed, 1]).randn(2, const.numel())
    axes = plane(np.concatenate([np.zeros([1, const.numel()]), directions]))
    for place in around(options.frames, options.turns[1]):
        yield const + torch.from_numpy(radius * place @ axes).to(const).reshape(const.shape)


def plane(latents: np.ndarray) -> np.ndarray:
    center = latents[0]
    x, y = latents[1:] - center
    y = y - x * (x @ y) / max(x @ x, 1e-12)
    return np.stack([x / np.linalg.norm(x), y / np.linalg.norm(y)])


def around(frames: int, turns: int = 1) -> np.ndarray:
    angles = 2 * np.pi * turns * np.arange(frames) / frames
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)
