"""Print how fast the compiled operations run on this GPU, against copying memory and against plain PyTorch.

An operation that reads and writes each element once can be no faster than a copy of the same bytes, so what counts is
the fraction of the copy's speed, taken in the same run. Needs a GPU and a CUDA toolkit; about a minute.

    .venv/bin/python scripts/bench/ops.py
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import click
import torch
from facegen.beside.torch_utils import custom_ops
from facegen.beside.torch_utils.ops.bias_act import bias_act
from facegen.beside.torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

COPY_BYTES = 2**30
AIM_BIAS_ACT, AIM_UPFIRDN2D = 0.7, 0.5  # of the copy's speed
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Case:
    """Something to time: `run("cuda")` with the compiled operation, `run("ref")` with plain PyTorch."""

    name: str
    run: Callable[[str], object]
    moved: int  # bytes that have to be read and written
    aim: float


def bias_act_cases(shape: tuple[int, ...], name: str, last: bool) -> list[Case]:
    """The layer's tail on that shape: the result, and the result with its gradient."""
    x = torch.randn(shape, device="cuda", dtype=DTYPES[name])
    x = x.to(memory_format=torch.channels_last) if last else x
    b = torch.randn(shape[1], device="cuda", dtype=x.dtype)
    leaf, grad = x.clone().requires_grad_(), torch.randn_like(x)
    options = {"act": "lrelu", "clamp": 256.0}
    about = f"{name} {'NHWC' if last else 'NCHW'} {list(shape)}"

    def backward(impl: str) -> Callable[[], object]:
        y = bias_act(leaf, b, impl=impl, **options)
        return lambda: torch.autograd.grad(y, leaf, grad, retain_graph=True)

    backwards = {impl: backward(impl) for impl in ("cuda", "ref")}
    size = x.numel() * x.element_size()
    return [
        Case(f"bias_act lrelu {about}", lambda impl: bias_act(x, b, impl=impl, **options), 2 * size, AIM_BIAS_ACT),
        Case(f"  its gradient {about}", lambda impl: backwards[impl](), 3 * size, AIM_BIAS_ACT),
    ]


def upfirdn2d_case(title: str, shape: tuple[int, ...], name: str, last: bool, taps: list[float], **options) -> Case:
    """One filter on that shape."""
    x = torch.randn(shape, device="cuda", dtype=DTYPES[name])
    x = x.to(memory_format=torch.channels_last) if last else x
    f = setup_filter(taps, device="cuda")
    y = upfirdn2d(x, f, **options)
    moved = (x.numel() + y.numel()) * x.element_size()
    if f.ndim == 1:  # two passes: the picture between them is written and read
        up, down = options.get("up", 1), options.get("down", 1)
        moved += 2 * y.shape[3] * x.shape[2] * x.shape[0] * x.shape[1] * x.element_size()
        title += f", {len(taps)} taps, up {up}, down {down}"
    about = f"{name} {'NHWC' if last else 'NCHW'} {list(shape)}"
    return Case(f"{title} {about}", lambda impl: upfirdn2d(x, f, impl=impl, **options), moved, AIM_UPFIRDN2D)


def cases(batch: int) -> list[Callable[[], list[Case]]]:
    """What a StyleGAN does with them, each made when its turn comes, so that memory holds one at a time."""
    low, smooth = (
        [1, 3, 3, 1],
        [0.015, 0.004, -0.118, -0.048, 0.491, 0.788, 0.338, -0.073, -0.021, 0.045, 0.002, -0.008],
    )
    made = []
    for size, channels in ((64, 256), (256, 64)):
        for name, last in (("float16", True), ("bfloat16", True), ("float32", False)):
            shape = (batch, channels, size, size)
            larger = (batch, channels, size + 1, size + 1)
            made += [
                lambda a=(shape, name, last): bias_act_cases(*a),
                # behind the transposed convolution, before the strided one, before the pointwise one
                lambda a=(larger, name, last): [upfirdn2d_case("4x4 behind up", *a, low, padding=[1, 1, 1, 1], gain=4)],
                lambda a=(shape, name, last): [upfirdn2d_case("4x4 before down", *a, low, padding=[2, 2, 2, 2])],
                lambda a=(shape, name, last): [upfirdn2d_case("4x4 down 2", *a, low, down=2, padding=[1, 1, 1, 1])],
                lambda a=(shape, name, last): [upfirdn2d_case("4x4 up 2", *a, low, up=2, padding=[2, 1, 2, 1])],
            ]
        picture = ((8 * batch, 3, size, size), "float32", False)
        made += [
            lambda a=picture: [upfirdn2d_case("pictures up 2", *a, low, up=2, padding=[2, 1, 2, 1], gain=4)],
            lambda a=picture: [upfirdn2d_case("augmentation", *a, smooth, up=2, padding=[6, 5, 6, 5])],
            lambda a=picture: [upfirdn2d_case("augmentation", *a, smooth, down=2, padding=[5, 5, 5, 5])],
        ]
    return made


def seconds(function: Callable[[], object], rounds: int) -> float:
    """Return the median time of a call, as the GPU's clock has it."""
    for _ in range(3):
        function()
    times = []
    # Between rounds the cache is filled with something else, as the rest of a network would; and while the GPU is
    # about that, the next call is prepared, so that no waiting for the CPU is measured.
    other = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    for _ in range(rounds):
        other.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return statistics.median(times)


def copy_speed(rounds: int) -> float:
    """Return how many bytes a second a copy reads and writes, together."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / seconds(lambda: target.copy_(source), rounds)


@click.command()
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Pictures per batch.")
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Rounds; the median counts.")
def main(batch: int, rounds: int) -> None:
    """Measure the compiled operations against a copy and against plain PyTorch."""
    if not torch.cuda.is_available():
        raise click.ClickException("this measures a GPU, and PyTorch finds none here (`facegen doctor` tells more)")
    try:
        custom_ops.load()
    except custom_ops.CannotBuildError as error:
        raise click.ClickException(f"the CUDA operations are not compiled: {error}; {error.fix}") from error
    custom_ops.ready()
    torch.manual_seed(0)
    copy = copy_speed(rounds)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, copy on the device {copy / 1e9:.0f} GB/s")
    print(f"{'':<68} {'GB/s':>6} {'of copy':>8} {'aim':>5} {'plain PyTorch':>14} {'times faster':>13}")
    below = 0
    for make in cases(batch):
        for case in make():
            fast = seconds(lambda run=case.run: run("cuda"), rounds)
            plain = seconds(lambda run=case.run: run("ref"), rounds)
            speed = case.moved / fast
            below += speed / copy < case.aim
            print(
                f"{case.name:<68} {speed / 1e9:6.0f} {speed / copy:8.2f} {case.aim:5.1f} "
                f"{case.moved / plain / 1e9:9.0f} GB/s {plain / fast:13.1f}"
            )
    print(f"{below} below their aim" if below else "all reach their aim")


if __name__ == "__main__":
    main()
