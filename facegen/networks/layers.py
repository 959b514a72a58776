"""Layers that the generator and the discriminator share.

All weights are drawn from a unit normal distribution and scaled at run time ("equalized learning rate", Karras et al.
2018, "Progressive Growing of GANs", section 4.1), so that Adam moves every layer at the same relative speed.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from facegen.beside import bias_act, conv2d_resample, convolution, upfirdn2d

# What a file of a few numbers may ask for: the pictures of a network take memory that its weights do not have.
MAX_RESOLUTION = 4096
MAX_FEATURES = 2**27  # of one picture in one layer; StyleGAN2 has a quarter at 1024 pixels

ARCHITECTURES = ("orig", "skip", "resnet")
# Of these, act(gain * x) = gain * act(x) for a gain > 0: the gain can move onto smaller tensors.
HOMOGENEOUS_ACTIVATIONS = ("linear", "relu", "lrelu")


def block_resolutions(img_resolution: int) -> list[int]:
    """Return 4, 8, ..., `img_resolution`.

    Raises:
        ValueError: not a power of two, below 4, or above MAX_RESOLUTION.
    """
    if img_resolution > MAX_RESOLUTION:
        raise ValueError(f"the resolution is at most {MAX_RESOLUTION}, got {img_resolution}")
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(f"the resolution must be a power of two and at least 4, got {img_resolution}")
    return [2**i for i in range(2, img_resolution.bit_length())]


def channels_per_resolution(img_resolution: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """Return the number of feature channels of every resolution; ValueError where they need more than MAX_FEATURES."""
    channels = {r: min(channel_base // r, channel_max) for r in block_resolutions(img_resolution)}
    if any(count * r * r > MAX_FEATURES for r, count in channels.items()):
        raise ValueError(f"more features than any network has: {channels[img_resolution]} at {img_resolution} pixels")
    return channels


def lowest_fp16_resolution(img_resolution: int, num_fp16_res: int) -> int:
    """Return the resolution from which blocks run in float16; the 8x8 block is the lowest that may."""
    return max(img_resolution * 2 // 2**num_fp16_res, 8)


def check_architecture(architecture: str) -> None:
    """Raise ValueError for an unknown architecture."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}")


def normalize_2nd_moment(x: torch.Tensor, dim: int = 1, eps: float = 1e-8) -> torch.Tensor:
    """Scale `x` so that the mean of its squares along `dim` is 1."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


@contextmanager
def bfloat16_on_cpu(enabled: bool = True) -> Iterator[None]:
    """Let blocks called within compute in bfloat16 where they run on the CPU; weights stay what they are.

    For first derivatives only: second ones should be as exact as float32. What was called within may be differentiated
    outside. It holds for the thread that enters it: the page draws in one while it refines in another.
    """
    global _traced_dtype
    before = _here.dtype
    _here.dtype = _traced_dtype = torch.bfloat16 if enabled else torch.float32
    try:
        yield
    finally:
        _here.dtype = _traced_dtype = before


class _OfThread(threading.local):
    dtype = torch.float32


_here = _OfThread()
_traced_dtype = torch.float32  # the same for torch.compile, which would not notice that a thread's own has changed


def working_dtype(
    use_fp16: bool, force_fp32: bool | None, device: torch.device, may_bfloat16: bool = True
) -> torch.dtype:
    """Return the type a block computes in: float16 where the block is built for it and the device gains from it.

    On the CPU it is float32; within `bfloat16_on_cpu` it is bfloat16, which has float32's range, unless the block
    passes `may_bfloat16=False`. `force_fp32=None` means float16 on CUDA only; True means float32 everywhere, False
    means float16 wherever `use_fp16` says so.
    """
    if force_fp32 is None:
        if device.type == "cpu" and may_bfloat16:
            return _traced_dtype if convolution.being_traced() else _here.dtype
        force_fp32 = device.type != "cuda"
    return torch.float16 if use_fp16 and not force_fp32 else torch.float32


def working_layout(dtype: torch.dtype, device: torch.device) -> torch.memory_format:
    """Return the memory layout that convolves fastest: channels last on the CPU and for float16's tensor cores."""
    if device.type == "cpu" or dtype == torch.float16:
        return torch.channels_last
    return torch.contiguous_format


def bias_comes_last(device: torch.device) -> bool:
    """Tell whether a layer leaves bias and gain to `bias_act`, which on a GPU is one kernel for all of it.

    A convolution on a GPU adds its bias in a pass of its own. On the CPU a convolution's bias is free, and a gain costs
    a pass unless it moves onto the weights.
    """
    return device.type != "cpu"


class FullyConnectedLayer(nn.Module):
    """A linear layer with bias and activation.

    `lr_multiplier` slows learning down: the weights start that much larger and are scaled down when used.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        lr_multiplier: float = 1,
        bias_init: float = 0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn([out_features, in_features]).div_(lr_multiplier))
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, in_features]` to `[N, out_features]` in the type of `x`."""
        weight = self.weight.to(x.dtype) * self.weight_gain
        bias = self.bias.to(x.dtype)
        if self.bias_gain != 1:
            bias = bias * self.bias_gain
        if self.activation == "linear":
            return torch.nn.functional.linear(x, weight, bias)
        return bias_act.bias_act(x.matmul(weight.t()), bias, act=self.activation)


class Conv2dLayer(nn.Module):
    """A convolution that may resample, with bias and activation; its weights are buffers when not trainable."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up, self.down = up, down
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.act_gain = bias_act.activation_funcs[activation].gain
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))

        tensors = {"weight": torch.randn([out_channels, in_channels, kernel_size, kernel_size])}
        if bias:
            tensors["bias"] = torch.zeros([out_channels])
        else:
            self.bias = None
        for name, tensor in tensors.items():
            if trainable:
                setattr(self, name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def forward(self, x: torch.Tensor, gain: float = 1) -> torch.Tensor:
        """Map `[N, in_channels, H, W]` to `[N, out_channels, H * up / down, W * up / down]`.

        `gain` multiplies the result, and the clamp with it.
        """
        act_gain = self.act_gain * gain
        bias_last = bias_comes_last(x.device)
        early_gain = act_gain if self.activation in HOMOGENEOUS_ACTIVATIONS and not bias_last else 1.0
        bias = None if self.bias is None else (self.bias * early_gain).to(x.dtype)
        x = conv2d_resample.conv2d_resample(
            x,
            (self.weight * (self.weight_gain * early_gain)).to(x.dtype),
            f=self.resample_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            flip_weight=self.up == 1,  # what the trained weights of the family expect
            b=None if bias_last else bias,
        )
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        if bias_last:
            return bias_act.bias_act(x, bias, act=self.activation, gain=act_gain, clamp=clamp)
        return bias_act.activate_(x, self.activation, gain=act_gain / early_gain, clamp=clamp)


class MappingNetwork(nn.Module):
    """The mapping f: (z, c) -> w (Karras et al. 2019, section 2), with the label embedded and appended to z.

    Args:
        z_dim: Length of the latent; 0 for a network of the label alone.
        c_dim: Number of classes; 0 for none.
        w_dim: Length of the intermediate latent.
        num_ws: How many times w is repeated; None returns one w without that dimension.
        num_layers: Fully connected layers.
        embed_features: Length of the embedded label; None for `w_dim`.
        layer_features: Width of the hidden layers; None for `w_dim`.
        activation: Activation of every layer.
        lr_multiplier: Learning rate of the layers relative to the rest.
        w_avg_beta: Decay of the moving average of w in training; None keeps no average.
    """

    fc0: FullyConnectedLayer
    w_avg: torch.Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        activation: str = "lrelu",
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.995,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.num_ws, self.num_layers = num_ws, num_layers
        self.w_avg_beta = None if num_ws is None else w_avg_beta
        embed_features = (w_dim if embed_features is None else embed_features) if c_dim > 0 else 0
        layer_features = w_dim if layer_features is None else layer_features

        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_features)
        features = [z_dim + embed_features] + [layer_features] * (num_layers - 1) + [w_dim]
        for i, (inputs, outputs) in enumerate(itertools.pairwise(features[: num_layers + 1])):
            layer = FullyConnectedLayer(inputs, outputs, activation=activation, lr_multiplier=lr_multiplier)
            setattr(self, f"fc{i}", layer)
        if self.w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(
        self,
        z: torch.Tensor | None,
        c: torch.Tensor | None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        skip_w_avg_update: bool = False,
    ) -> torch.Tensor:
        """Map latents and labels to w.

        Args:
            z: `[N, z_dim]`; only its direction matters, it is scaled to unit second moment.
            c: One-hot `[N, c_dim]`; ignored when `c_dim` is 0.
            truncation_psi: Draw w toward its average: 1 leaves it, 0 gives the average.
            truncation_cutoff: Truncate only this many of the `num_ws`, the first ones.
            skip_w_avg_update: Leave the moving average alone in training mode.

        Returns:
            `[N, num_ws, w_dim]`, or `[N, w_dim]` without `num_ws`.

        Raises:
            ValueError: `z` or `c` has another shape, or truncation without an average.
        """
        parts = []
        if self.z_dim > 0:
            parts.append(normalize_2nd_moment(_checked(z, self.z_dim, "z").to(torch.float32)))
        if self.c_dim > 0:
            parts.append(normalize_2nd_moment(self.embed(_checked(c, self.c_dim, "c").to(torch.float32))))
        x = torch.cat(parts, dim=1)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)

        if self.training and self.w_avg_beta is not None and not skip_w_avg_update:
            self.w_avg.copy_(x.detach().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))
        if self.num_ws is not None:
            x = x.unsqueeze(1).repeat(1, self.num_ws, 1)
        if truncation_psi != 1:
            if self.w_avg_beta is None:
                raise ValueError("truncation needs the average of w, which this mapping does not keep")
            cutoff = self.num_ws if truncation_cutoff is None else truncation_cutoff
            truncated = self.w_avg.lerp(x[:, :cutoff], truncation_psi)
            x = torch.cat([truncated, x[:, cutoff:]], dim=1)
        return x


def _checked(x: torch.Tensor | None, features: int, name: str) -> torch.Tensor:
    if x is None or x.ndim != 2 or x.shape[1] != features:
        found = "nothing" if x is None else list(x.shape)
        raise ValueError(f"{name} must have the shape [N, {features}], got {found}")
    return x
