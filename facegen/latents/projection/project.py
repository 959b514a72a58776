"""Projection: the w whose picture is closest to a target (Karras et al. 2020, "Analyzing and Improving the Image
Quality of StyleGAN", appendix D).

w and the noise of every layer are optimized together. w starts at the mean of w, with random noise added that fades
over the steps. A penalty on the noise's correlation with itself one pixel away, at every scale, keeps it from storing
the picture. The numbers are the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional

from facegen.beside import convolution
from facegen.errors import FacegenError
from facegen.latents.mapping import map_latents
from facegen.networks.generator import Generator

MEAN_SAMPLES, MEAN_SEED, AT_ONCE = 10_000, 123, 1000  # of w
LEARNING_RATE = 0.1
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # shares of the steps
SHAKE, SHAKE_END = 0.05, 0.75  # of w: by that share of its spread at first, until that share of the steps
NOISE_WEIGHT = 1e5
SMALLEST_NOISE = 8  # pixels, at which the noise's pyramid ends

# Pictures are compared at this many pixels at most, as published, and at least: seen at 64, faces of 64 pixels came out
# worse (lite, 3 photos, 300 steps); seen at 96 or 128 they are alike (lite, 4 photos, 100 steps in w+), and LPIPS takes
# 0.6 of the time at 96.
MOST_PIXELS, LEAST_PIXELS = 256, 96

Loss = Callable[[torch.Tensor], torch.Tensor]  # pictures [N, 1 or 3, H, W], about -1..1, to a number for each [N]


class Judge(Protocol):
    """A network that tells how different pictures look, such as `facegen.metrics.perceptual.PerceptualDistance`."""

    def features(self, images: torch.Tensor) -> list[torch.Tensor]: ...

    def between(self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor: ...


class Likeness:
    """The loss of looking unlike targets, `[N, 3, H, W]` in -1..1; what a judge sees in them is computed once."""

    def __init__(self, judge: Judge, targets: torch.Tensor) -> None:
        self.judge = judge
        with torch.no_grad():
            self._wanted = judge.features(_sized(targets))

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """How different N pictures `[N, 1 or 3, H, W]` look from the targets: `[N]`."""
        return self.judge.between(self.judge.features(_sized(pictures.expand(-1, 3, -1, -1))), self._wanted)


@dataclass(frozen=True)
class MeanW:
    """The mean `[w_dim]` of the w of a label, and their spread: the root of their mean squared distance to it."""

    center: torch.Tensor
    spread: float


@dataclass(frozen=True)
class Projection:
    """How far the projection of N targets has come.

    step: how many steps are done.
    ws: `[N, num_ws, w_dim]`.
    losses: `[N]`, of the pictures before the step.
    noise: of every layer, by the name that it has in `generator.synthesis`: `[N, 1, H, W]`.
    """

    step: int
    ws: torch.Tensor
    losses: torch.Tensor
    noise: dict[str, torch.Tensor]


def mean_w(generator: Generator, label: torch.Tensor) -> MeanW:
    """Return mean and spread of the w of a label `[c_dim]`, over the published 10,000 latents."""
    zs = np.random.RandomState(MEAN_SEED).randn(MEAN_SAMPLES, generator.z_dim)
    parts = [
        map_latents(generator, z, label.expand(len(z), -1))[:, 0]  # of all layers they would take gigabytes
        for z in torch.from_numpy(zs.astype(np.float32)).split(AT_ONCE)
    ]
    ws = torch.cat(parts)
    center = ws.mean(dim=0)
    return MeanW(center, float((ws - center).square().sum(dim=1).mean().sqrt()))


def project(
    generator: Generator, loss: Loss, start: torch.Tensor, spread: torch.Tensor, *, steps: int = 1000, seed: int = 303
) -> Iterator[Projection]:
    """Project N targets at once, each for itself; yields after every step how far it has come.

    It computes in float32, whatever the network is built for. The generator stays as it is, its noise too.

    Args:
        generator: in evaluation mode.
        loss: of pictures, such as a `Likeness`; or any other that has a gradient, such as CLIP's distance to words.
        start: `[N, 1, w_dim]` for one w of all layers, or `[N, num_ws, w_dim]` for one w each, the space w+.
        spread: `[N]`, of w around each start, see `mean_w`.
        steps: at least 1.
        seed: seeds all noise; every target gets the same, so that it does not matter which ones are projected together.

    Raises:
        FacegenError: the loss is no finite number.
    """
    random = torch.Generator().manual_seed(seed)
    w = start.detach().float().clone().requires_grad_()
    noise = _Noise(generator, len(w), random)
    variables = [w, *noise.tensors]
    optimizer = torch.optim.Adam(variables, betas=(0.9, 0.999))
    for step in range(steps):
        done = step / steps
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * learning_rate(done)
        size = spread.to(w) * SHAKE * max(0.0, 1 - done / SHAKE_END) ** 2
        shaken = _drawn([1, *w.shape[1:]], random).to(w.device) * size[:, None, None]
        with torch.enable_grad(), convolution.first_derivatives():
            ws = (w + shaken).expand(-1, generator.num_ws, -1)
            how = {"noise_mode": "const", "force_fp32": True}
            losses = loss(functional_call(generator.synthesis, noise.buffers(), (ws,), how))
            total = losses.sum() + NOISE_WEIGHT * self_likeness(noise.tensors).sum()
            gradients = torch.autograd.grad(total, variables, allow_unused=True)
        if not losses.isfinite().all():
            raise FacegenError(
                f"step {step + 1} of {steps}: the distance to the target is not a finite number: stopped"
            )
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.grad = gradient
        optimizer.step()
        noise.normalize()
        found = w.detach().expand(-1, generator.num_ws, -1).clone()
        yield Projection(step + 1, found, losses.detach(), {k: x.detach().clone() for k, x in noise.buffers().items()})


class _Noise:
    """The noise of N pictures in every layer.

    tensors: `[N, layers, H, W]` for every size, large ones first: one for all layers of a size saves calls.
    """

    def __init__(self, generator: Generator, count: int, random: torch.Generator) -> None:
        buffers = [(name, x) for name, x in generator.synthesis.named_buffers() if name.endswith("noise_const")]
        sides = sorted({len(buffer) for _, buffer in buffers}, reverse=True)
        self._names = [[name for name, buffer in buffers if len(buffer) == side] for side in sides]
        device = next(generator.parameters()).device
        self.tensors = [
            _drawn([1, len(names), side, side], random).to(device).repeat(count, 1, 1, 1).requires_grad_()
            for names, side in zip(self._names, sides, strict=True)
        ]

    def buffers(self) -> dict[str, torch.Tensor]:
        """By the names that they have in the synthesis network, `[N, 1, H, W]`."""
        return {
            name: tensor[:, index : index + 1]
            for names, tensor in zip(self._names, self.tensors, strict=True)
            for index, name in enumerate(names)
        }

    @torch.no_grad()
    def normalize(self) -> None:
        """Bring all noise back to mean 0 and variance 1."""
        for tensor in self.tensors:
            tensor -= tensor.mean(dim=(2, 3), keepdim=True)
            tensor *= tensor.square().mean(dim=(2, 3), keepdim=True).rsqrt()


def _drawn(shape: Sequence[int], random: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float32, device="cpu")


def learning_rate(done: float) -> float:
    """The learning rate's factor when that share of the steps is done: up as a line, level, and down as a cosine."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / RAMP_DOWN))
    return down * min(1.0, done / RAMP_UP)


def self_likeness(noise: Sequence[torch.Tensor]) -> torch.Tensor:
    """How much noise has in common with itself a pixel away, at all scales: `[N]`, 0 for white noise.

    Args:
        noise: `[N, layers, H, W]` of every size, each half as large as the one before. Noise is averaged down to all
            sizes from its own to SMALLEST_NOISE.
    """
    total, finer = torch.zeros([]), None
    for here in noise:
        if finer is not None and finer.shape[2] > SMALLEST_NOISE:
            here = torch.cat([functional.avg_pool2d(finer, 2), here], dim=1)
        for dimension in (2, 3):
            total = total + (here * here.roll(1, dims=dimension)).mean(dim=(2, 3)).square().sum(dim=1)
        finer = here
    return total


def _sized(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures as judges see them: large ones averaged down, small ones enlarged."""
    side = pictures.shape[-1]
    if side > MOST_PIXELS:
        return functional.interpolate(pictures, (MOST_PIXELS, MOST_PIXELS), mode="area")
    if side < LEAST_PIXELS:
        return functional.interpolate(pictures, (LEAST_PIXELS, LEAST_PIXELS), mode="bilinear")
    return pictures
