"""Time steps of a projection with each distance, beside what the generator alone takes forward and backward, in turns.

    .venv/bin/python scripts/bench/project.py --threads 2
    .venv/bin/python scripts/bench/project.py --network ffhq1024 --rounds 3

The time is the processor's, so that other jobs do not count: with one thread it is what a free core takes. LPIPS has
random weights here: they take as long as the published ones, and need no download.
"""

from __future__ import annotations

import itertools
import time
from statistics import median

import click
import torch

from facegen.beside import convolution
from facegen.latents.projection.project import Judge, Likeness, mean_w, project
from facegen.latents.projection.targets import open_judge
from facegen.latents.space import LatentSpace
from facegen.metrics.perceptual import BLOCK_CHANNELS, PerceptualDistance
from facegen.networks.generator import Generator


def random_lpips() -> PerceptualDistance:
    """LPIPS on a VGG16 of random weights."""
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes = {name: value.shape for name, value in vgg16(weights=None).features.state_dict().items()}
    vgg = {f"features.{name}": torch.randn(shape) * 0.05 for name, shape in shapes.items()}
    distance = PerceptualDistance(
        vgg, {f"lin{i}.model.1.weight": torch.rand([1, c, 1, 1]) for i, c in enumerate(BLOCK_CHANNELS)}
    )
    distance.layers.to(memory_format=torch.channels_last)  # as `open_judge` does
    return distance


def bare_step(generator: Generator, w: torch.Tensor) -> float:
    """Seconds of a picture and its gradient in w."""
    start = time.process_time()
    with convolution.first_derivatives():
        w = w.detach().requires_grad_()
        torch.autograd.grad(generator.synthesis(w, noise_mode="const", force_fp32=True).square().mean(), w)
    return time.process_time() - start


def timed_steps(generator: Generator, judge: Judge, w: torch.Tensor, steps: int) -> list[float]:
    """Seconds of each step of a projection; the first does not count."""
    target = generator.synthesis(w, noise_mode="const").expand(-1, 3, -1, -1)
    times = [time.process_time()]
    for _ in project(generator, Likeness(judge, target), w[:, :1], torch.ones([1]), steps=steps + 1):
        times.append(time.process_time())
    return [after - before for before, after in itertools.pairwise(times[1:])]


@click.command()
@click.option("--network", help="The generator.  [default: the one in the package]")
@click.option("--rounds", default=8, show_default=True, help="Rounds of a few steps with each distance.")
@click.option("--steps", default=4, show_default=True, help="Steps in a round.")
@click.option("--threads", default=1, show_default=True, help="Threads of PyTorch.")
def main(network: str | None, rounds: int, steps: int, threads: int) -> None:
    """Print the median seconds of a step, its ratio to the generator alone, and what 500 steps take."""
    torch.set_num_threads(threads)
    space = LatentSpace.open(network, device="cpu")
    generator = space.generator.requires_grad_(False)
    w = space.from_seeds([7], space.classes.choose()[0])
    judges: dict[str, Judge] = {"lite": open_judge("lite", space.device), "lpips": random_lpips()}
    seconds: dict[str, list[float]] = {"generator": [], **{name: [] for name in judges}}
    for _ in range(rounds):
        seconds["generator"] += [bare_step(generator, w) for _ in range(steps)]
        for name, judge in judges.items():
            seconds[name] += timed_steps(generator, judge, w, steps)
    start = time.process_time()
    mean_w(generator, space.classes.choose()[0].weights)
    click.echo(f"the mean of w: {time.process_time() - start:.2f} s")
    bare = median(seconds["generator"])
    for name, times in seconds.items():
        step = median(times)
        click.echo(f"{name:<9}  {step * 1000:7.1f} ms a step, {step / bare:5.1f} times; 500 steps: {500 * step:.0f} s")


if __name__ == "__main__":
    main()
