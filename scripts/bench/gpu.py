"""Print what each way of saving time on a GPU brings: a training step and generation with it and without it.

All in one process, so that one run compares. The network is that of `facegen train --cfg auto` for the archive.

    .venv/bin/python scripts/bench/gpu.py faces64.zip
    .venv/bin/python scripts/bench/gpu.py faces64.zip --compile     # torch.compile, which takes minutes at first
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import click
import torch

from facegen.data.archive import FaceArchive
from facegen.device import pick_device
from facegen.networks import generator, layers
from facegen.networks.graphed import GraphedGenerator
from facegen.training.augment import warp
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.generator import batches
from facegen.training.generator.compiling import compile_networks
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.state import build_state
from facegen.training.generator.step import train_step

SUBSET = 1000  # pictures, so that no time goes into decoding
WARM_UP = 33  # steps: all phases, twice those that are rare, so that recordings are made


@contextmanager
def changed(*places: tuple[Any, str], value: Any) -> Iterator[None]:
    """Replace an attribute of modules within a block."""
    before = [(place, name, getattr(place, name)) for place, name in places]
    try:
        for place, name in places:
            setattr(place, name, value)
        yield
    finally:
        for place, name, old in before:
            setattr(place, name, old)


def never(*_: Any) -> bool:
    """Say no, whatever the question."""
    return False


def ways(compile: bool) -> dict[str, tuple[Callable[[], Any], dict[str, Any]]]:
    """Return by name what to change in the program and in the options; the first is the program as it is."""
    as_it_is = {"as it is": (nullcontext, {})}
    if compile:
        return as_it_is | {"with --compile": (nullcontext, {"compile": True})}
    bias = [(module, "bias_comes_last") for module in (layers, generator)]
    return as_it_is | {
        "without recordings": (
            lambda: changed((AugmentPipe, "can_be_recorded"), value=False),
            {},
        ),
        "biases within the convolutions": (lambda: changed(*bias, value=never), {}),
        "pictures in the CPU's memory": (lambda: changed((batches, "fits_on"), value=never), {}),
        "augmentation by filters": (lambda: changed((warp, "DENSE_LIMIT"), value=0), {}),
        "augmentation by matrices": (lambda: changed((warp, "DENSE_LIMIT"), value=2**20), {}),
        "float32": (nullcontext, {"fp32": True}),
    }


def trained_per_second(options: TrainOptions, device: torch.device, steps: int) -> float:
    """Train, and return pictures per second."""
    state = build_state(options, FaceArchive(options.data), device)
    if options.compile and (problem := compile_networks(state.loss)):
        raise click.ClickException(f"cannot compile: {problem}")
    for _ in range(WARM_UP):
        train_step(state, options, device)
    wait_for(device)
    start = time.perf_counter()
    for _ in range(steps):
        train_step(state, options, device)
    wait_for(device)
    return options.batch * steps / (time.perf_counter() - start)


def generated_per_second(G: torch.nn.Module, generate: Callable, batch: int, steps: int) -> float:
    """Generate, and return pictures per second."""
    device = next(G.parameters()).device
    z, c = torch.randn(batch, G.z_dim, device=device), torch.zeros(batch, G.c_dim, device=device)
    with torch.no_grad():
        for _ in range(3):  # the second is recorded
            generate(z, c)
        wait_for(device)
        start = time.perf_counter()
        for _ in range(steps):
            generate(z, c)
        wait_for(device)
    return batch * steps / (time.perf_counter() - start)


def wait_for(device: torch.device) -> None:
    """Let the GPU finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.option("--steps", type=click.IntRange(min=1), default=48, show_default=True, help="Training steps to measure.")
@click.option("--cfg", default="auto", show_default=True, help="As of facegen train.")
@click.option(
    "--batch", "sizes", type=click.IntRange(min=1), multiple=True, help="Pictures per step [default: by cfg]."
)
@click.option("--way", "chosen", multiple=True, help="Measure only this line of the table; may be given several times.")
@click.option("--generation", is_flag=True, help="Measure generation, too.")
@click.option("--compile", is_flag=True, help="Measure torch.compile, and nothing else.")
def main(
    data: str, steps: int, cfg: str, sizes: tuple[int, ...], chosen: tuple[str, ...], generation: bool, compile: bool
) -> None:
    """Measure training and generation on a GPU, with what saves time and without.

    \b
    Example:
      python scripts/bench/gpu.py faces64.zip
    """
    table = ways(compile)
    if unknown := set(chosen) - set(table):
        raise click.UsageError(f"no such --way: {', '.join(sorted(unknown))}; there are {', '.join(table)}")
    device = pick_device()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # as training does
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU: the numbers mean nothing here"
    resolution = FaceArchive(data).resolution
    print(f"{name}, PyTorch {torch.__version__}, {resolution}x{resolution}, --cfg {cfg}")
    for batch in sizes or (None,):
        first = None
        for way in chosen or table:
            change, values = table[way]
            given = {"p": 0.3, "mirror": True, "subset": SUBSET, **values}
            options = TrainOptions(data, cfg, batch=batch, **given).decide(resolution)
            with change():
                speed = trained_per_second(options, device, steps)
            first = first or speed
            about = (
                f"{speed:8.1f} img/s  {1000 * options.batch / speed:6.1f} ms a step  {speed / first:5.2f} of the first"
            )
            print(f"training, batch {options.batch:>3}, {way:<32} {about}", flush=True)
    if generation and not compile:
        measure_generation(data, resolution, cfg, device, max(steps // 2, 1))


def measure_generation(data: str, resolution: int, cfg: str, device: torch.device, steps: int) -> None:
    """Print how many pictures a second each way of calling the generator makes."""
    options = TrainOptions(data, cfg).decide(resolution)
    G = build_state(options, FaceArchive(data), device).G_ema
    for size in (1, 4, 32):
        kinds = {
            "calls": lambda z, c: G(z, c),
            "calls, shared convolutions": lambda z, c: G(z, c, fused_modconv=False),
            "calls, grouped convolutions": lambda z, c: G(z, c, fused_modconv=True),
            "replayed (CUDA graph)": GraphedGenerator(G),
        }
        for kind, generate in kinds.items():
            speed = generated_per_second(G, generate, size, steps)
            print(f"generation, batch {size:>2}, {kind:<27} {speed:8.1f} img/s", flush=True)


if __name__ == "__main__":
    main()
