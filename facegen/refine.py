"""Refinement: the generator's picture of one face comes closer to its photo, by minutes of a GPU or seconds of a CPU.

Two halves. First the latent: w+ is optimised from the encoder's answer (Karras et al. 2020, "Analyzing and Improving
the Image Quality of StyleGAN", appendix D, is the projector whose schedule this takes; Abdal et al. 2019 for w+). Then
the generator: a copy of it is tuned around the found w, the pivot, until it draws this face (Roich et al. 2021,
"Pivotal Tuning"), and held elsewhere to what it drew before.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

Features = Callable[[torch.Tensor], Sequence[torch.Tensor]]

LATENT_SHARE = 0.4  # of steps and time; the rest tunes the generator
LATENT_LR = 0.05
PULL = 0.02  # of the distance to the encoder's answer, in units of the variance of w
TUNE_LR = 1e-3
HOLD = 1.0  # of the pictures of other ages and other faces, which shall stay
PIXELS = 4.0
FEATURES = 1.0


def refine(
    generator: nn.Module,
    faces: torch.Tensor,
    ws: torch.Tensor,
    *,
    steps: int,
    seconds: float | None = None,
    features: Features | None = None,
    seed: int = 0,
    progress: bool = False,
) -> tuple[torch.Tensor, list[nn.Module]]:
    """Bring the generator's pictures of faces closer to them.

    Args:
        generator: Stays as it is.
        faces: float `[N, 3, H, W]` in -1..1, of the generator's size.
        ws: `[N, num_ws, w_dim]`, where to start.
        steps: For each face, over both halves.
        seconds: For each face; ends both halves early, so that the result depends on the machine. None for no limit.
        features: Maps pictures to feature maps whose distance counts beside that of the pixels, for example
            `AgeEstimator.features`.
        seed: Of the faces that the tuned generator is held to.
        progress: Show a bar with the time left.

    Returns:
        ws `[N, num_ws, w_dim]`, and for each face a generator of its own that draws it there.
    """
    latent_steps = round(LATENT_SHARE * steps)
    tune_steps = steps - latent_steps
    latent_seconds = None if seconds is None else LATENT_SHARE * seconds * len(faces)
    tune_seconds = None if seconds is None else (1 - LATENT_SHARE) * seconds
    with tqdm(total=latent_steps + tune_steps * len(faces), desc="refining", disable=not progress, leave=False) as bar:
        ws = refine_latents(
            generator, faces, ws, steps=latent_steps, seconds=latent_seconds, features=features, on_step=bar.update
        )
        generators = [
            tune_generator(
                generator,
                face[None],
                w[None],
                steps=tune_steps,
                seconds=tune_seconds,
                features=features,
                seed=seed,
                on_step=bar.update,
            )
            for face, w in zip(faces, ws, strict=True)
        ]
    return ws, generators


def refine_latents(
    generator: nn.Module,
    faces: torch.Tensor,
    ws: torch.Tensor,
    *,
    steps: int,
    seconds: float | None = None,
    features: Features | None = None,
    on_step: Callable[[], object] = lambda: None,
) -> torch.Tensor:
    """Optimise w+ `[N, num_ws, w_dim]` of N faces together, each for itself; see `refine`."""
    with torch.no_grad():
        spread = _spread_of_w(generator)
        wanted = _Likeness(faces, features)
    start = ws.detach()
    offset = torch.zeros_like(start, requires_grad=True)  # in units of the spread
    optimizer = torch.optim.Adam([offset], betas=(0.9, 0.99))
    for done in _until(steps, seconds):
        optimizer.param_groups[0]["lr"] = LATENT_LR * _ramp(done)
        with torch.enable_grad():
            pictures = generator.synthesis(start + offset * spread, noise_mode="const").expand(-1, 3, -1, -1)
            loss = (wanted(pictures) + PULL * offset.square().mean(dim=(1, 2))).sum()
            (offset.grad,) = torch.autograd.grad(loss, [offset])
        optimizer.step()
        on_step()
    return (start + offset * spread).detach()


def tune_generator(
    generator: nn.Module,
    face: torch.Tensor,
    pivot: torch.Tensor,
    *,
    steps: int,
    seconds: float | None = None,
    features: Features | None = None,
    seed: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> nn.Module:
    """Return a copy of the generator that draws one face `[1, 3, H, W]` at its pivot `[1, num_ws, w_dim]`.

    It is held (Roich et al. 2021, section 3.3): in every step random faces of random groups, moved towards the pivot,
    must look as before.
    """
    tuned = copy.deepcopy(generator).eval()
    parameters = list(tuned.synthesis.requires_grad_(True).parameters())
    optimizer = torch.optim.Adam(parameters, lr=TUNE_LR, betas=(0.9, 0.99))
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        wanted = _Likeness(face, features)
    for done in _until(steps, seconds):
        optimizer.param_groups[0]["lr"] = TUNE_LR * _ramp(done)
        with torch.no_grad():
            others = pivot.lerp(_random_ws(generator, 1, random), 0.5)
            before = generator.synthesis(others, noise_mode="const")
        with torch.enable_grad():
            pictures = tuned.synthesis(torch.cat([pivot, others]), noise_mode="const")
            loss = wanted(pictures[:1].expand(-1, 3, -1, -1)).sum()
            loss = loss + HOLD * PIXELS * functional.mse_loss(pictures[1:], before)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        on_step()
    return tuned.requires_grad_(False)


class _Likeness:
    """Distance of pictures to faces `[N, 3, H, W]`: pixels, and features scaled to length 1 as LPIPS does."""

    def __init__(self, faces: torch.Tensor, features: Features | None) -> None:
        self.faces = faces
        self.features = features
        self.maps = [] if features is None else [functional.normalize(part, dim=1) for part in features(faces)]

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Distances `[N]`."""
        distance = PIXELS * (pictures - self.faces).square().mean(dim=(1, 2, 3))
        if self.features is None:
            return distance
        for one, other in zip(self.features(pictures), self.maps, strict=True):
            gap = (functional.normalize(one, dim=1) - other).square().sum(dim=1).mean(dim=(1, 2))
            distance = distance + FEATURES / len(self.maps) * gap
        return distance


def _until(steps: int, seconds: float | None) -> Iterator[float]:
    """Before every step the share that is done, 0 to 1, until steps or seconds are used up."""
    start = time.monotonic()
    for step in range(steps):
        done = step / steps
        if seconds is not None:
            done = max(done, (time.monotonic() - start) / seconds)
        if done >= 1:
            return
        yield done


def _ramp(done: float) -> float:
    """The learning rate's factor: up over the first twentieth, down over the last quarter as a cosine (appendix D)."""
    down = min(1.0, (1 - done) / 0.25)
    return min(1.0, (done + 0.01) / 0.05) * (0.5 - 0.5 * math.cos(math.pi * down))


def _random_ws(generator: nn.Module, count: int, random: torch.Generator) -> torch.Tensor:
    """w `[count, num_ws, w_dim]` of random faces of random groups."""
    device = next(generator.parameters()).device
    z = torch.randn([count, generator.z_dim], generator=random).to(device)
    groups = torch.randint(max(generator.c_dim, 1), [count], generator=random)
    labels = functional.one_hot(groups, max(generator.c_dim, 1)).float()[:, : generator.c_dim].to(device)
    return generator.mapping(z, labels, skip_w_avg_update=True)


def _spread_of_w(generator: nn.Module, samples: int = 1000) -> torch.Tensor:
    """How far random w lie from their mean: the root mean square over all numbers."""
    ws = _random_ws(generator, samples, torch.Generator().manual_seed(0))[:, 0]
    return (ws - ws.mean(dim=0)).square().mean().sqrt()
