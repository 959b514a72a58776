"""Projection: the w whose picture comes closest to a target (Karras et al. 2020, "Analyzing and Improving the Image
Quality of StyleGAN", appendix D).

w and the noise of every layer are optimized together. w starts from the mean of w and is shaken less and less; the
noise is kept from storing the picture, by a price on what it has in common with itself a pixel away, at every scale.
The numbers are those that were published.
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

# Pictures are compared at this many pixels at most, as published, and at least: LPIPS at 256 would take a network of 64
# four times as long and see nothing more.
MOST_PIXELS, LEAST_PIXELS = 256, 128

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

    def drawn_noise(*shape: int) -> torch.Tensor:
        return torch.randn([1, *shape], generator=random, dtype=torch.float32, device="cpu").to(start.device)

    w = start.detach().float().clone().requires_grad_()
    buffers = dict(generator.synthesis.named_buffers())
    noise = {
        name: drawn_noise(1, *buffer.shape).repeat(len(w), 1, 1, 1).requires_grad_()
        for name, buffer in buffers.items()
        if name.endswith("noise_const")
    }
    variables = [w, *noise.values()]
    optimizer = torch.optim.Adam(variables, betas=(0.9, 0.999))
    for step in range(steps):
        done = step / steps
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * learning_rate(done)
        shaken = drawn_noise(*w.shape[1:]) * (spread.to(w) * SHAKE * max(0.0, 1 - done / SHAKE_END) ** 2)[:, None, None]
        with torch.enable_grad(), convolution.first_derivatives():
            ws = (w + shaken).expand(-1, generator.num_ws, -1)
            how = {"noise_mode": "const", "force_fp32": True}
            losses = loss(functional_call(generator.synthesis, noise, (ws,), how))
            price = sum((self_likeness(part).sum() for part in noise.values()), start=torch.zeros_like(losses).sum())
            gradients = torch.autograd.grad(losses.sum() + NOISE_WEIGHT * price, variables, allow_unused=True)
        if not losses.isfinite().all():
            raise FacegenError(f"step {step + 1} of {steps}: the distance to the target is no finite number: stopped")
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.grad = gradient
        optimizer.step()
        with torch.no_grad():
            for part in noise.values():
                part -= part.mean(dim=(2, 3), keepdim=True)
                part *= part.square().mean(dim=(2, 3), keepdim=True).rsqrt()
        found = w.detach().expand(-1, generator.num_ws, -1).clone()
        yield Projection(step + 1, found, losses.detach(), {k: part.detach().clone() for k, part in noise.items()})


def learning_rate(done: float) -> float:
    """The learning rate's factor when that share of the steps is done: up as a line, level, and down as a cosine."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / RAMP_DOWN))
    return down * min(1.0, done / RAMP_UP)


def self_likeness(noise: torch.Tensor) -> torch.Tensor:
    """How much noise `[N, 1, H, W]` has in common with itself a pixel away, at all scales: `[N]`, 0 for white noise."""
    total = torch.zeros(len(noise), device=noise.device)
    while True:
        for side in (2, 3):
            total = total + (noise * noise.roll(1, dims=side)).mean(dim=(1, 2, 3)).square()
        if noise.shape[2] <= SMALLEST_NOISE:
            return total
        noise = functional.avg_pool2d(noise, 2)


def _sized(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures as judges see them: large ones averaged down, small ones enlarged."""
    side = pictures.shape[-1]
    if side > MOST_PIXELS:
        return functional.interpolate(pictures, (MOST_PIXELS, MOST_PIXELS), mode="area")
    if side < LEAST_PIXELS:
        return functional.interpolate(pictures, (LEAST_PIXELS, LEAST_PIXELS), mode="bilinear")
    return pictures
