"""Refinement: what the generator makes of one face comes closer to its photo, and still ages.

Two halves. First the latent: w+ is optimized from the encoder's answer (Karras et al. 2020, "Analyzing and Improving
the Image Quality of StyleGAN", appendix D, is the projector whose schedule this takes; Abdal et al. 2019 for w+). Then
the generator: a copy of it is tuned around the found w, the pivot, until it draws this face (Roich et al. 2021,
"Pivotal Tuning").

Either half can reach any likeness but may lose the ages: far from where the generator was trained, a step in w does
not change the age (Tov et al. 2021, section 3, call it the tradeoff between distortion and editability). So w is pulled
toward its start, the tuned generator must still draw other faces as before, and if there is an age estimator, the aged
face must look as old as it did before.

On a processor with bfloat16, the generator computes in it while a face is refined, in two thirds of the time. What is
shown later is drawn in float32.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch.nn import functional
from tqdm import tqdm

from facegen.beside import convolution
from facegen.device import cpu_has_bfloat16
from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.generator import Generator
from facegen.networks.latents import draw
from facegen.networks.layers import bfloat16_on_cpu

LATENT_SHARE = 0.4  # share of steps and time for the latent; the rest tunes the generator
LATENT_LR = 0.05
TUNE_LR = 1e-3
HELD_PIXELS = 16 * 64**2  # in pictures of other faces that are drawn in one batch, each for a step
# Weights of the losses; pixels count as mean squared error of levels -1..1.
PIXELS = 2.0
FEATURES = 3.0
AGE = 0.3  # a decade
PULL = 0.4  # mean squared distance of w to its start, in units of its variance
HOLD = 10.0  # mean squared error of other faces

Report = Callable[[int, int], None]  # gets the number of steps done, and of all steps


class _Bar(Protocol):
    def update(self, steps: int = 1) -> object: ...


class _Told:
    """Tells a function of the steps, as a bar would show them."""

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def update(self, steps: int = 1) -> None:
        self._done += steps
        self._report(self._done, self._total)


def refine(
    generator: Generator,
    faces: torch.Tensor,
    ws: torch.Tensor,
    *,
    steps: int,
    seconds: float | None = None,
    moves: torch.Tensor | None = None,
    estimator: AgeEstimator | None = None,
    progress: bool | Report = False,
    first: int = 0,
    count: int | None = None,
) -> tuple[torch.Tensor, list[Generator]]:
    """Bring the generator's pictures of faces closer to them.

    Args:
        generator: Stays as it is.
        faces: float `[N, 3, H, W]` in -1..1, of the generator's size.
        ws: `[N, num_ws, w_dim]`, where to start.
        steps: For each face, over both halves.
        seconds: For each face; ends both halves early, so that the result depends on the machine. None for no limit.
        moves: `[N, A, num_ws, w_dim]`, what is added to w to see the face at other ages.
        estimator: Its features judge likeness beside the pixels, and it watches over the ages of the `moves`.
        progress: Show a progress bar per face; or a function that is called after every step.
            What it raises ends the work.
        first, count: These faces are those from number `first`, counted from 0, of so many; for the bar.

    Returns:
        ws `[N, num_ws, w_dim]`, and for each face a generator of its own that draws it there.
    """
    if moves is None:
        moves = torch.zeros_like(ws)[:, None]
    latent_steps = round(LATENT_SHARE * steps)
    tune_steps = steps - latent_steps
    latent_seconds = None if seconds is None else LATENT_SHARE * seconds * len(faces)
    tune_seconds = None if seconds is None else (1 - LATENT_SHARE) * seconds
    total = latent_steps + tune_steps * len(faces)
    with (
        tqdm(total=total, desc="refining", unit="step", disable=progress is not True, leave=False) as bar,
        bfloat16_on_cpu(faces.device.type == "cpu" and cpu_has_bfloat16()),
    ):
        told: _Bar = _Told(progress, total) if callable(progress) else bar
        goal = Goal(generator, faces, ws, moves, estimator)
        pivots = refine_latents(generator, goal, _until(latent_steps, latent_seconds, told))
        generators = []
        for index in range(len(faces)):
            if (count or len(faces)) > 1:
                bar.set_description(f"refining face {first + index + 1} of {count or len(faces)}")
            schedule = _until(tune_steps, tune_seconds, told)
            pivot = pivots[index : index + 1]
            generators.append(tune_generator(generator, goal.of(index), pivot, schedule))
    return pivots, generators


class Goal:
    """What refined pictures of N faces should be; arguments as for `refine`."""

    def __init__(
        self,
        generator: Generator,
        faces: torch.Tensor,
        start: torch.Tensor,
        moves: torch.Tensor,
        estimator: AgeEstimator | None,
    ) -> None:
        if estimator is not None and faces.device.type == "cpu":
            # As the generator's pictures are: nothing to rearrange in a step.
            estimator = copy.deepcopy(estimator).to(memory_format=torch.channels_last)
        self.faces, self.start, self.moves, self.estimator = faces, start, moves, estimator
        if estimator is not None:
            with torch.no_grad():
                self.maps = [functional.normalize(part, dim=1) for part in estimator.features(faces)]
                self.ages = torch.stack(
                    [estimator.predict(draw(generator, start + move)) for move in moves.unbind(1)], dim=1
                )

    def of(self, index: int) -> Goal:
        """The goal for one of the faces."""
        one = slice(index, index + 1)
        goal = copy.copy(self)
        goal.faces, goal.start, goal.moves = self.faces[one], self.start[one], self.moves[one]
        if self.estimator is not None:
            goal.maps, goal.ages = [part[one] for part in self.maps], self.ages[one]
        return goal

    def loss(self, drawn: torch.Tensor, age: int | None) -> torch.Tensor:
        """Distance `[N]` of pictures to the faces.

        Args:
            drawn: `[N, 3, H, W]`; with an estimator `[2 * N, 3, H, W]`, first the faces, then the same at another age.
            age: To which of the moves that belongs, an index; None without an estimator.
        """
        count = len(self.faces)
        loss = PIXELS * (drawn[:count] - self.faces).square().mean(dim=(1, 2, 3))
        if self.estimator is None:
            return loss
        maps = self.estimator.features(drawn)  # both at once: most of a call's cost is not arithmetic
        for one, other in zip(maps, self.maps, strict=True):
            # As in LPIPS (Zhang et al. 2018, equation 1), without its weights.
            gap = (functional.normalize(one[:count], dim=1) - other).square().sum(dim=1).mean(dim=(1, 2))
            loss = loss + FEATURES / len(self.maps) * gap
        years = self.estimator.predict(drawn[count:], [part[count:] for part in maps])
        return loss + AGE * functional.smooth_l1_loss(years / 10, self.ages[:, age] / 10, reduction="none")


def refine_latents(generator: Generator, goal: Goal, schedule: Iterator[float]) -> torch.Tensor:
    """Optimize w+ `[N, num_ws, w_dim]` of the goal's faces together, each for itself.

    `schedule` gives, before every step, the share of the work that is done.
    """
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        some = _random_ws(generator, 1000, torch.Generator().manual_seed(0))[:, 0]
        spread = (some - some.mean(dim=0)).square().mean().sqrt()
    offset = torch.zeros_like(goal.start, requires_grad=True)  # in units of the spread
    optimizer = torch.optim.Adam([offset], fused=True, betas=(0.9, 0.99))
    ages = _ages(goal, random)
    for done in schedule:
        optimizer.param_groups[0]["lr"] = LATENT_LR * _ramp(done)
        age = next(ages)
        with torch.enable_grad(), convolution.first_derivatives():
            ws = goal.start + offset * spread
            places = ws if age is None else torch.cat([ws, ws + goal.moves[:, age]])
            loss = goal.loss(draw(generator, places), age) + PULL * offset.square().mean(dim=(1, 2))
            (gradient,) = torch.autograd.grad(loss.sum(), [offset])
        offset.grad = _laid_like(offset, gradient)
        optimizer.step()
    return (goal.start + offset * spread).detach()


def tune_generator(generator: Generator, goal: Goal, pivot: torch.Tensor, schedule: Iterator[float]) -> Generator:
    """Return a copy of the generator that draws the goal's one face at its pivot `[1, num_ws, w_dim]`.

    It is held (Roich et al. 2021, section 3.3): in every step a random face of a random group, moved half the way to
    the pivot, must look as before.
    """
    tuned = copy.deepcopy(generator).eval()
    if pivot.device.type == "cpu":
        tuned.synthesis.to(memory_format=torch.channels_last)  # as its features are: nothing to rearrange in a step
    # The strengths of the noise stay: they say nothing of a face, and their gradients are sums over all features.
    tuned.requires_grad_(False)
    named = tuned.synthesis.named_parameters()
    parameters = [parameter.requires_grad_() for name, parameter in named if not name.endswith("noise_strength")]
    optimizer = torch.optim.Adam(parameters, fused=True, betas=(0.9, 0.99))
    random = torch.Generator().manual_seed(0)
    ages, held = _ages(goal, random), _held(generator, pivot, random)
    for done in schedule:
        optimizer.param_groups[0]["lr"] = TUNE_LR * _ramp(done)
        others, before = next(held)
        age = next(ages)
        places = pivot if age is None else torch.cat([pivot, pivot + goal.moves[:, age]])
        with torch.enable_grad(), convolution.first_derivatives():
            drawn = draw(tuned, torch.cat([places, others]))
            loss = goal.loss(drawn[: len(places)], age).sum()
            loss = loss + HOLD * functional.mse_loss(drawn[len(places) :], before)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else _laid_like(parameter, gradient)
        optimizer.step()
    return tuned.requires_grad_(False)


def _laid_like(parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Copy of the gradient in the parameter's layout: fused, Adam on the CPU takes both as they lie in memory.

    The gradient of a convolution's weights lies otherwise; Adam would give each weight the step of another one.
    """
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def _ages(goal: Goal, random: torch.Generator) -> Iterator[int | None]:
    """Indices of the moves in random order, all of them before any repeats; None if no estimator judges ages."""
    while True:
        yield from [None] if goal.estimator is None else torch.randperm(goal.moves.shape[1], generator=random).tolist()


def _held(
    generator: Generator, pivot: torch.Tensor, random: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random w `[1, num_ws, w_dim]` half the way to the pivot, and the pictures there.

    The generator does not change, so its pictures are drawn for many steps at once.
    """
    at_once = max(HELD_PIXELS // generator.img_resolution**2, 1)
    while True:
        with torch.no_grad():
            others = pivot.lerp(_random_ws(generator, at_once, random), 0.5)
            before = draw(generator, others)
        yield from zip(others.split(1), before.split(1), strict=True)


def _until(steps: int, seconds: float | None, bar: _Bar) -> Iterator[float]:
    """Before every step the share that is done, 0 to 1, until steps or seconds are used up; moves the bar."""
    start = time.monotonic()
    for step in range(steps):
        done = step / steps
        if seconds is not None:
            done = max(done, (time.monotonic() - start) / seconds)
        if done >= 1:
            bar.update(steps - step)
            return
        yield done
        bar.update()


def _ramp(done: float) -> float:
    """The learning rate's factor: up over the first twentieth, down over the last quarter as a cosine (appendix D)."""
    down = min(1.0, (1 - done) / 0.25)
    return min(1.0, (done + 0.01) / 0.05) * (0.5 - 0.5 * math.cos(math.pi * down))


def _random_ws(generator: Generator, count: int, random: torch.Generator) -> torch.Tensor:
    """w `[count, num_ws, w_dim]` of random faces of random groups."""
    device = next(generator.parameters()).device
    z = torch.randn([count, generator.z_dim], generator=random, dtype=torch.float32).to(device)
    groups = torch.randint(max(generator.c_dim, 1), [count], generator=random)
    labels = functional.one_hot(groups, max(generator.c_dim, 1)).float()[:, : generator.c_dim].to(device)
    return generator.mapping(z, labels, skip_w_avg_update=True)
