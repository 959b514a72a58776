"""Print how fast generation and training run on this machine, as ratios to the bare convolutions.

The floor is the time of the synthesis network's 3x3 convolutions alone, channels last, each on a picture of the size
that its layer reads, in float32. Everything else that a network does costs on top, so ratios compare across noisy
machines. On a CPU that has bfloat16 all of it runs in both precisions, in turn.

    .venv/bin/python scripts/bench/cpu.py --threads 2
    .venv/bin/python scripts/bench/cpu.py --profile  # where the time of a training step goes, in each precision
    .venv/bin/python scripts/bench/cpu.py --resolution 256 --batch 4
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import torch
import torch.nn.functional as F

from facegen.device import cpu_has_bfloat16
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.networks.layers import bfloat16_on_cpu
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.augment.strengths import AUGPIPE_PRESETS
from facegen.training.generator.losses import GanLoss
from facegen.training.generator.state import lazy_adam
from facegen.training.run.cpu_memory import keep_freed_memory

CHANNEL_BASE, CHANNEL_MAX, C_DIM, Z_DIM = 4096, 256, 10, 512
PHASES = ("Gmain", "Greg", "Dmain", "Dreg")


def build(resolution: int, device: torch.device) -> tuple[Generator, Discriminator, AugmentPipe]:
    """Build the benchmark's networks: ten classes, two mapping layers, `bgc` augmentation at p = 0.3."""
    channels = {"channel_base": CHANNEL_BASE, "channel_max": CHANNEL_MAX}
    G = Generator(Z_DIM, C_DIM, Z_DIM, resolution, 3, {"num_layers": 2}, channels)
    D = Discriminator(C_DIM, resolution, 3, **channels)
    augment = AugmentPipe(AUGPIPE_PRESETS["bgc"])
    augment.p.fill_(0.3)
    return G.to(device), D.to(device), augment.to(device)


def convolutions(
    resolution: int, batch: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Return a function that runs the 3x3 convolutions of the synthesis network once."""
    work = []
    for side in (2**k for k in range(2, resolution.bit_length())):
        outputs = min(CHANNEL_BASE // side, CHANNEL_MAX)
        layers = [(outputs, side)]
        if side > 4:
            layers.insert(0, (min(CHANNEL_BASE // (side // 2), CHANNEL_MAX), side // 2))
        for inputs, size in layers:
            x = torch.randn(batch, inputs, size, size, device=device).to(dtype, memory_format=torch.channels_last)
            w = torch.randn(outputs, inputs, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
            work.append((x, w))

    def run() -> None:
        with torch.no_grad():
            for x, w in work:
                F.conv2d(x, w, padding=1)

    return run


def generation(G: Generator, batch: int, bfloat16: bool = False) -> Callable[[], None]:
    """Return a function that generates one batch; in `bfloat16` on the CPU, as only training does."""
    device = next(G.parameters()).device
    z = torch.randn(batch, Z_DIM, device=device)
    c = torch.eye(C_DIM, device=device)[torch.arange(batch) % C_DIM]

    def run() -> None:
        G.eval()
        with torch.no_grad(), bfloat16_on_cpu(bfloat16):
            G(z, c)

    return run


def training_phases(
    G: Generator, D: Discriminator, augment: AugmentPipe, batch: int, bfloat16: bool = False
) -> dict[str, Callable[[], None]]:
    """Return each phase of a training step with its optimizer's step."""
    device = next(G.parameters()).device
    loss = GanLoss(G, D, augment, r1_gamma=1, bfloat16=bfloat16)
    z = torch.randn(batch, Z_DIM, device=device)
    c = torch.eye(C_DIM, device=device)[torch.arange(batch) % C_DIM]
    real = torch.randn(batch, 3, D.img_resolution, D.img_resolution, device=device).clamp(-1, 1)
    optimizers = {network: lazy_adam(network, 1e-4, None) for network in (G, D)}

    def phase(network: torch.nn.Module, accumulate: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            G.train()
            G.requires_grad_(network is G)
            D.requires_grad_(network is D)
            optimizers[network].zero_grad()
            accumulate()
            optimizers[network].step()

        return run

    return {
        "Gmain": phase(G, lambda: loss.generator_main(z, c)),
        "Greg": phase(G, lambda: loss.generator_reg(z, c, gain=4)),
        "Dmain": phase(D, lambda: loss.discriminator_main(real, c, z, c)),
        "Dreg": phase(D, lambda: loss.discriminator_reg(real, c, gain=16)),
    }


def seconds(functions: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, float]:
    """Return each function's best time over `rounds`, taken in turn so that a busy moment hits all of them."""
    best = dict.fromkeys(functions, float("inf"))
    for i in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if i > 0:  # the first round warms up
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def print_profile(phases: dict[str, Callable[[], None]], device: torch.device, rows: int = 15) -> None:
    """Print the operations that take most time in each phase of a training step, by their own time."""
    sort_by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    for name, phase in phases.items():
        phase()  # warms up
        with torch.profiler.profile(activities=activities) as profiler:
            phase()
        print(name)
        print(profiler.key_averages().table(sort_by=sort_by, row_limit=rows, max_name_column_width=40))


@click.command()
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Pictures per batch.")
@click.option("--rounds", type=click.IntRange(min=1), default=8, show_default=True, help="Rounds; the best counts.")
@click.option(
    "--resolution",
    type=click.Choice(["32", "64", "128", "256", "512", "1024"]),
    default="64",
    show_default=True,
    help="Side of the pictures.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "both"]),
    help="What to run in  [default: float32, on a CPU that has bfloat16 both].",
)
@click.option("--profile", is_flag=True, help="Print where the time of a training step goes, and stop.")
def main(threads: int, batch: int, rounds: int, resolution: str, precision: str | None, profile: bool) -> None:
    """Measure generation and training against the bare convolutions.

    \b
    Example:
      python scripts/bench/cpu.py --threads 2 --rounds 6
    """
    side = int(resolution)
    keep_freed_memory()  # as training does
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    G, D, augment = build(side, device)
    if precision is None:
        precision = "both" if device.type == "cpu" and cpu_has_bfloat16() else "float32"
    if device.type != "cpu" and precision != "float32":
        raise click.UsageError(f"--precision {precision} is for the CPU")
    precisions = ("float32", "bfloat16") if precision == "both" else (precision,)
    functions = {"floor": convolutions(side, batch, device)}
    for name in precisions:
        half = name == "bfloat16"
        phases = training_phases(G, D, augment, batch, half)
        if profile:
            print_profile({f"{name} {phase}": run for phase, run in phases.items()}, device)
        functions[f"{name} generation"] = generation(G, batch, half)
        if half:
            functions[f"{name} convolutions"] = convolutions(side, batch, device, torch.bfloat16)
        functions |= {f"{name} {phase}": run for phase, run in phases.items()}
    if profile:
        return
    times = seconds(functions, rounds, device)

    print(f"{device.type}, PyTorch {torch.__version__}, {threads} threads, {side}x{side}, batch {batch}")
    print(f"bare 3x3 convolutions, float32 (floor) {batch / times['floor']:8.1f} img/s")
    print_times(times, precisions, batch)


def print_times(times: dict[str, float], precisions: tuple[str, ...], batch: int) -> None:
    """Print a line for each phase, with a column for each precision, then speeds."""
    columns = [
        {name.split()[1]: time for name, time in times.items() if name.startswith(f"{precision} ")}
        for precision in precisions
    ]
    print(f"{'ms':<14}" + "".join(f"{precision:>12}" for precision in precisions))
    for phase in PHASES:
        print(f"{phase:<14}" + "".join(f"{of[phase] * 1000:12.0f}" for of in columns))
    for precision, of in zip(precisions, columns, strict=True):
        of["training"] = of["Gmain"] + of["Greg"] / 4 + of["Dmain"] + of["Dreg"] / 16
        for name in ("convolutions", "generation", "training"):
            if name in of:
                ratio = times["floor"] / of[name]
                print(f"{precision + ' ' + name:<38} {batch / of[name]:8.1f} img/s   ratio to the floor {ratio:.3f}")


if __name__ == "__main__":
    main()
