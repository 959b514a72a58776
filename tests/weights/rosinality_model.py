"""The generator of rosinality/stylegan2-pytorch, from its published names, shapes and formulas: functions of its state.

Everything is spelled out with PyTorch's own operations, and nothing of facegen is used.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

LR = 0.01  # of the mapping network


def channels(multiplier: int) -> dict[int, int]:
    """The channels at each resolution."""
    wide = {64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
    return dict.fromkeys((4, 8, 16, 32), 512) | {resolution: count * multiplier for resolution, count in wide.items()}


def shapes(
    size: int, style_dim: int, n_mlp: int, channel_multiplier: int = 1, widths: dict[int, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything that its generator loads, which is strict; with other widths than its own."""
    widths = widths or channels(channel_multiplier)
    inputs = widths[4]
    result: dict[str, tuple[int, ...]] = {"input.input": (1, inputs, 4, 4)}
    for i in range(n_mlp):
        result |= {f"style.{i + 1}.weight": (style_dim, style_dim), f"style.{i + 1}.bias": (style_dim,)}

    def modulated(name: str, inputs: int, outputs: int, kernel: int) -> None:
        result[f"{name}.weight"] = (1, outputs, inputs, kernel, kernel)
        result[f"{name}.modulation.weight"] = (inputs, style_dim)
        result[f"{name}.modulation.bias"] = (inputs,)

    def styled(name: str, inputs: int, outputs: int) -> None:
        modulated(f"{name}.conv", inputs, outputs, 3)
        result[f"{name}.noise.weight"] = (1,)
        result[f"{name}.activate.bias"] = (outputs,)

    def to_rgb(name: str, inputs: int) -> None:
        modulated(f"{name}.conv", inputs, 3, 1)
        result[f"{name}.bias"] = (1, 3, 1, 1)

    styled("conv1", inputs, inputs)
    to_rgb("to_rgb1", inputs)
    for i in range(int(math.log2(size)) - 2):
        outputs = widths[8 * 2**i]
        styled(f"convs.{2 * i}", inputs, outputs)
        result[f"convs.{2 * i}.conv.blur.kernel"] = (4, 4)
        styled(f"convs.{2 * i + 1}", outputs, outputs)
        to_rgb(f"to_rgbs.{i}", outputs)
        result[f"to_rgbs.{i}.upsample.kernel"] = (4, 4)
        inputs = outputs
    for i in range(2 * int(math.log2(size)) - 3):
        resolution = 2 ** ((i + 5) // 2)
        result[f"noises.noise_{i}"] = (1, 1, resolution, resolution)
    return result


def leaky(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def mapping(state: dict[str, torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    x = z / torch.sqrt(z.pow(2).mean(dim=1, keepdim=True) + 1e-8)
    i = 1
    while f"style.{i}.weight" in state:
        weight, bias = state[f"style.{i}.weight"], state[f"style.{i}.bias"]
        x = leaky(F.linear(x, weight * (LR / math.sqrt(weight.shape[1]))) + bias * LR)
        i += 1
    return x


def filtered(x: torch.Tensor, kernel: torch.Tensor, pad: tuple[int, int]) -> torch.Tensor:
    """True convolution of every channel."""
    batch, count, height, width = x.shape
    x = F.pad(x.reshape(batch * count, 1, height, width), (*pad, *pad))
    x = F.conv2d(x, kernel.flip([0, 1])[None, None])
    return x.reshape(batch, count, *x.shape[2:])


def modulated(
    state: dict[str, torch.Tensor],
    name: str,
    x: torch.Tensor,
    w: torch.Tensor,
    demodulate: bool = True,
    up: bool = False,
) -> torch.Tensor:
    affine = state[f"{name}.modulation.weight"]
    style = F.linear(w, affine / math.sqrt(affine.shape[1]), state[f"{name}.modulation.bias"])
    weight = state[f"{name}.weight"]
    _, _, inputs, kernel, _ = weight.shape
    weight = weight / math.sqrt(inputs * kernel**2) * style[:, None, :, None, None]
    if demodulate:
        weight = weight / torch.sqrt(weight.pow(2).sum(dim=[2, 3, 4], keepdim=True) + 1e-8)
    results = []
    for picture, its_weight in zip(x, weight, strict=True):
        if up:
            y = F.conv_transpose2d(picture[None], its_weight.transpose(0, 1), stride=2)
            y = filtered(y, state[f"{name}.blur.kernel"], (1, 1))
        else:
            y = F.conv2d(picture[None], its_weight, padding=kernel // 2)
        results.append(y)
    return torch.cat(results)


def synthesis(state: dict[str, torch.Tensor], w: torch.Tensor) -> torch.Tensor:
    """Pictures of one w each, `[N, style_dim]`, with the stored noise."""

    def styled(name: str, index: int, x: torch.Tensor, up: bool = False) -> torch.Tensor:
        x = modulated(state, f"{name}.conv", x, w, up=up)
        x = x + state[f"{name}.noise.weight"] * state[f"noises.noise_{index}"]
        return leaky(x + state[f"{name}.activate.bias"][:, None, None])

    def to_rgb(name: str, x: torch.Tensor) -> torch.Tensor:
        return modulated(state, f"{name}.conv", x, w, demodulate=False) + state[f"{name}.bias"]

    x = styled("conv1", 0, state["input.input"].repeat(len(w), 1, 1, 1))
    image = to_rgb("to_rgb1", x)
    i = 0
    while f"to_rgbs.{i}.bias" in state:
        x = styled(f"convs.{2 * i}", 2 * i + 1, x, up=True)
        x = styled(f"convs.{2 * i + 1}", 2 * i + 2, x)
        stuffed = torch.zeros(len(w), 3, 2 * image.shape[2], 2 * image.shape[3])
        stuffed[:, :, ::2, ::2] = image
        image = to_rgb(f"to_rgbs.{i}", x) + filtered(stuffed, state[f"to_rgbs.{i}.upsample.kernel"], (2, 1))
        i += 1
    return image
