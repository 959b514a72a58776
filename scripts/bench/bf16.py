"""Time the parts of a layer in float32 and in bfloat16 on this processor, and ways to upsample by two.

Where oneDNN has no fast form of an operation, another way to the same numbers may do better. Each line is one operation
with channels last, N pictures of C channels, as many in as out: the best of some rounds, in ms. What upsamples starts
at half the size. Operations are PyTorch's, unless facegen's name is in front.

    .venv/bin/python scripts/bench/bf16.py --threads 4
    .venv/bin/python scripts/bench/bf16.py --pictures      # how far bfloat16's are from float32's
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import click
import torch
import torch.nn.functional as F
from facegen.beside.torch_utils.ops import convolution, upfirdn2d

from facegen.device import cpu_has_bfloat16
from facegen.figures.grids import to_pixels
from facegen.networks.layers import bfloat16_on_cpu
from facegen.training.run.cpu_memory import keep_freed_memory
from facegen.weights.load import load_generator
from facegen.weights.locate import shipped_file

SIZES = ((128, 16), (64, 16), (64, 32), (32, 32), (64, 64), (32, 64), (16, 64))  # channels, side
TYPES = (torch.float32, torch.bfloat16)

Operation = Callable[[], object]


def last(*shape: int, dtype: torch.dtype, needs_gradient: bool = False) -> torch.Tensor:
    """Return random numbers, channels last."""
    x = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
    return x.requires_grad_(needs_gradient)


def data_gradient(grad: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Transposed convolution of stride 2 as the gradient that a convolution of stride 2 gives to its picture."""
    side = 2 * grad.shape[2] + 1
    x = grad.new_empty([1]).expand(len(grad), w.shape[1], side, side)
    needed = [True, False, False]
    args = (grad, x, w, None, [2, 2], [0, 0], [1, 1], False, [0, 0], 1, needed)
    return torch.ops.aten.convolution_backward(*args)[0]


def zeros_between(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Transposed convolution of stride 2 as an ordinary one of the picture with zeros in between."""
    stuffed = x.new_zeros(*x.shape[:2], 2 * x.shape[2] - 1, 2 * x.shape[3] - 1)
    stuffed = stuffed.contiguous(memory_format=torch.channels_last)
    stuffed[:, :, ::2, ::2] = x
    return F.conv2d(stuffed, w.flip([2, 3]).transpose(0, 1).contiguous(memory_format=torch.channels_last), padding=2)


def four_convolutions(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Transposed convolution of stride 2 as one for each of the result's four phases, without idle taps."""
    batch, _, height, width = x.shape
    y = x.new_empty(batch, w.shape[1], 2 * height + 1, 2 * width + 1).contiguous(memory_format=torch.channels_last)
    for i in (0, 1):
        for j in (0, 1):
            taps = w[:, :, i::2, j::2].flip([2, 3]).transpose(0, 1).contiguous(memory_format=torch.channels_last)
            y[:, :, i::2, j::2] = F.conv2d(x, taps, padding=(1 - i, 1 - j))
    return y


UPSAMPLING: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "transposed": lambda x, w: F.conv_transpose2d(x, w, stride=2),
    "transposed, default layout": lambda x, w: F.conv_transpose2d(x.contiguous(), w.contiguous(), stride=2),
    "facegen": functools.partial(convolution.conv_transpose2d, stride=2),
    "four convolutions": four_convolutions,
    "a data gradient": data_gradient,
    "zeros between": zeros_between,
}


def check_upsampling() -> None:
    """Fail unless all ways to upsample give the same numbers."""
    x, w = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(3, 5, 3, 3, dtype=torch.float64)
    expected = F.conv_transpose2d(x, w, stride=2)
    for name, function in UPSAMPLING.items():
        torch.testing.assert_close(function(x, w), expected, msg=name)


def backward(y: torch.Tensor, *inputs: torch.Tensor) -> Operation:
    """Return what computes the gradients of inputs from one of the result `y`."""
    grad = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, inputs, grad, retain_graph=True)


def operations(batch: int, channels: int, side: int, dtype: torch.dtype) -> dict[str, Operation]:
    """Return the operations of one size, by name."""
    x = last(batch, channels, side, side, dtype=dtype, needs_gradient=True)
    half = last(batch, channels, side // 2, side // 2, dtype=dtype, needs_gradient=True)
    wide = last(batch, channels, side + 1, side + 1, dtype=dtype, needs_gradient=True)
    w = last(channels, channels, 3, 3, dtype=dtype, needs_gradient=True)
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    y, strided = F.conv2d(x, w, padding=1), F.conv2d(wide, w, stride=2)
    grad = torch.randn_like(y)
    flipped = w.detach().flip([2, 3]).transpose(0, 1).contiguous(memory_format=torch.channels_last)

    def filtered(**factors: int) -> torch.Tensor:
        return upfirdn2d.upfirdn2d(x, f, padding=[2, 1, 2, 1], **factors)

    work: dict[str, Operation] = {
        "3x3": lambda: F.conv2d(x, w, padding=1),
        "facegen 3x3": lambda: convolution.conv2d(x, w, padding=(1, 1)),
        "3x3 backward": backward(y, x, w),
        "  of the picture: transposed": lambda: F.conv_transpose2d(grad, w, padding=1),
        "  of the picture: flipped": lambda: F.conv2d(grad, flipped, padding=1),
        "facegen 3x3 backward": backward(convolution.conv2d(x, w, padding=(1, 1)), x, w),
        "3x3, stride 2": lambda: F.conv2d(wide, w, stride=2),
        "3x3, stride 2 backward": backward(strided, wide, w),
        "1x1": lambda: F.conv2d(x, w[:, :, :1, :1]),
        "facegen FIR": filtered,
        "facegen FIR backward": backward(filtered(), x),
        "facegen FIR, down 2": lambda: filtered(down=2),
        "facegen FIR, down 2 backward": backward(filtered(down=2), x),
        "x * styles": lambda: x * half[:, :, :1, :1],
        "lrelu": lambda: F.leaky_relu(x, 0.2),
        "from float32 and back": lambda: x.to(torch.float32).to(torch.bfloat16),
    }
    for name, function in UPSAMPLING.items():
        work[f"up: {name}"] = lambda function=function: function(half, w)
        if name not in ("a data gradient", "transposed, default layout"):
            work[f"up: {name} backward"] = backward(function(half, w), half, w)
    return work


def best_time(run: Operation, budget: float) -> float:
    """Return the best time of a call in ms, over calls that take about `budget` seconds."""
    run()
    best, end = float("inf"), time.perf_counter() + budget
    while (start := time.perf_counter()) < end or best == float("inf"):
        run()
        best = min(best, (time.perf_counter() - start) * 1000)
    return best


def compare_pictures(count: int = 200) -> None:
    """Print how far generated pictures in bfloat16 are from those in float32, in levels of 0 to 255."""
    G, _ = load_generator(shipped_file("generator"))
    z, c = torch.randn(count, G.z_dim), torch.eye(G.c_dim)[torch.arange(count) % G.c_dim]
    for psi in (1.0, 0.7):
        levels = []
        for half in (False, True):
            with torch.no_grad(), bfloat16_on_cpu(half):
                made = [
                    G(*part, truncation_psi=psi, noise_mode="const")
                    for part in zip(z.split(20), c.split(20), strict=True)
                ]
            levels.append(torch.from_numpy(to_pixels(torch.cat(made))).int())
        apart = (levels[0] - levels[1]).abs()
        print(
            f"{count} pictures, psi {psi}: {(apart <= 1).float().mean():.1%} of the levels are one apart at most, "
            f"99% are {int(apart.flatten().kthvalue(int(0.99 * apart.numel())).values)}, all are {int(apart.max())}"
        )


@click.command()
@click.option("--threads", type=click.IntRange(min=1), default=4, show_default=True, help="CPU threads.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Pictures per batch.")
@click.option("--budget", type=float, default=0.06, show_default=True, help="Seconds for each figure.")
@click.option("--pictures", is_flag=True, help="Compare the shipped generator's pictures instead of times.")
@click.option("--size", "chosen", type=int, nargs=2, multiple=True, help="Channels and side  [default: seven sizes].")
def main(threads: int, batch: int, budget: float, pictures: bool, chosen: tuple[tuple[int, int], ...]) -> None:
    """Compare float32 and bfloat16."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    keep_freed_memory()
    if pictures:
        compare_pictures()
        return
    check_upsampling()
    print(
        f"PyTorch {torch.__version__}, {threads} threads, batch {batch}, bfloat16 by instruction: {cpu_has_bfloat16()}"
    )
    for channels, side in chosen or SIZES:
        print(f"\n{channels} channels, {side}x{side}{'':<18} float32  bfloat16 ms   ratio")
        both = [operations(batch, channels, side, dtype) for dtype in TYPES]
        for name in both[0]:
            single, half = (best_time(work[name], budget) for work in both)
            print(f"  {name:<34} {single:8.3f}  {half:8.3f}   {single / half:8.2f}")


if __name__ == "__main__":
    main()
