"""The generator of StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from facegen.beside import bias_act, conv2d_resample, scaled_sum, upfirdn2d
from facegen.networks.layers import (
    HOMOGENEOUS_ACTIVATIONS,
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    bias_comes_last,
    block_resolutions,
    channels_per_resolution,
    check_architecture,
    lowest_fp16_resolution,
    working_dtype,
    working_layout,
)

NOISE_MODES = ("random", "const", "none")


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    demodulate: bool = True,
    up: int = 1,
    padding: int = 0,
    resample_filter: torch.Tensor | None = None,
    fused_modconv: bool = False,
    gain: float = 1,
    b: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """Convolve with weights whose input channels are scaled by `styles` (StyleGAN2, equations 1 to 3).

    Args:
        x: `[N, in_channels, H, W]`.
        weight: `[out_channels, in_channels, kernel, kernel]`.
        styles: `[N, in_channels]`.
        demodulate: Scale each output channel back to unit variance.
        up: Upsampling factor.
        padding: Padding of the upsampled picture.
        resample_filter: Low-pass filter for upsampling.
        fused_modconv: True builds one set of weights per sample and runs a grouped convolution; False scales the
            pictures before and after one convolution for the whole batch. Same numbers.
        gain: Factor on the result.
        b: Bias `[out_channels]`, added to the result.
        noise: `[N, 1, H * up, W * up]` or without N, added to the result as well.

    Returns:
        `[N, out_channels, H * up, W * up]`.
    """
    if x.dtype == torch.float16 and demodulate:
        weight, styles = _within_float16(weight, styles)
    scale = None
    if demodulate:
        scale = _demodulation(weight, styles) * gain
    elif gain != 1:
        styles = styles * gain
    if b is not None:
        b = b.to(x.dtype)[:, None, None]

    out_channels, in_channels, kernel, _ = weight.shape
    # flip_weight: as the trained weights of the family expect it.
    resampling: dict[str, Any] = {"f": resample_filter, "up": up, "padding": padding, "flip_weight": up == 1}
    if fused_modconv:
        return _add(_convolve_grouped(x, weight, styles, scale, resampling), b, noise)
    if kernel == up == 1 and scale is None and out_channels < in_channels:
        return _add(_multiply_pixels(x, weight, styles), b, noise)
    x = x * styles.to(x.dtype)[:, :, None, None]
    x = conv2d_resample.conv2d_resample(x, weight.to(x.dtype), **resampling)
    if scale is None:
        return _add(x, b, noise)
    scale = scale.to(x.dtype)[:, :, None, None]
    if b is not None:  # one pass for both
        return _add(scaled_sum.scaled_sum(b, x, scale), None, noise)
    return x * scale if noise is None else scaled_sum.scaled_sum(noise.to(x.dtype), x, scale)


def _within_float16(weight: torch.Tensor, styles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale weights and styles so that float16 cannot overflow (Karras et al. 2020, ADA, appendix D).

    Demodulation undoes any scale of either.
    """
    fan_in = weight[0].numel()
    weight = weight * (1 / math.sqrt(fan_in) / weight.abs().amax(dim=[1, 2, 3], keepdim=True))
    return weight, styles / styles.abs().amax(dim=1, keepdim=True)


def _demodulation(weight: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """Return the factors `[N, out_channels]` that bring outputs back to unit variance (StyleGAN2, equation 3).

    It is 1 / sqrt(sum of (weight * style)^2 over in, y, x), without building a weight per sample.
    """
    energy = styles.square() @ weight.square().sum(dim=[2, 3]).t()
    return (energy + 1e-8).rsqrt()


def _multiply_pixels(x: torch.Tensor, weight: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """Convolve with modulated 1x1 weights, as a matrix per picture: that is smaller than a picture to scale."""
    matrices = (weight.flatten(1) * styles[:, None]).to(x.dtype)  # [N, out_channels, in_channels]
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2) @ matrices.mT
    return pixels.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


def _convolve_grouped(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    scale: torch.Tensor | None,
    resampling: dict[str, Any],
) -> torch.Tensor:
    """Convolve with a set of weights per sample, each sample a group of one convolution."""
    batch = len(x)
    weights = weight[None] * styles[:, None, :, None, None]  # [N, out, in, kernel, kernel]
    if scale is not None:
        weights = weights * scale[:, :, None, None, None]
    x = x.reshape(1, -1, *x.shape[2:])
    x = conv2d_resample.conv2d_resample(x, weights.flatten(0, 1).to(x.dtype), groups=batch, **resampling)
    return x.reshape(batch, -1, *x.shape[2:])


def _add(x: torch.Tensor, b: torch.Tensor | None, noise: torch.Tensor | None) -> torch.Tensor:
    """Add bias and noise to `x`, which nothing else reads, in place: no derivative needs the sum's parts."""
    if b is not None:
        x = x.add_(b)
    if noise is not None:
        x = x.add_(noise.to(x.dtype))
    return x


def fuses_modulation(training: bool, dtype: torch.dtype, batch: int, device: torch.device) -> bool:
    """Tell whether one grouped convolution beats scaling before and after a shared one; same numbers.

    On a GPU it saves passes over memory, as long as no gradients of a weight per sample are kept. Grouped convolutions
    have no fast channels-last form, so float16 gains only for a single picture. On the CPU it is several times slower.
    """
    return not training and device.type == "cuda" and (dtype == torch.float32 or batch == 1)


class SynthesisLayer(nn.Module):
    """A modulated convolution, noise, bias and activation."""

    noise_const: torch.Tensor
    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        kernel_size: int = 3,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.act_gain = bias_act.activation_funcs[activation].gain
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))
        if use_noise:
            self.register_buffer("noise_const", torch.randn([resolution, resolution]))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))

    def forward(
        self, x: torch.Tensor, w: torch.Tensor, noise_mode: str, fused_modconv: bool, gain: float = 1
    ) -> torch.Tensor:
        """Map `[N, in_channels, H, W]` and `[N, w_dim]` to `[N, out_channels, resolution, resolution]`."""
        styles = self.affine(w)
        act_gain = self.act_gain * gain
        bias_last = bias_comes_last(x.device)
        early_gain = act_gain if self.activation in HOMOGENEOUS_ACTIVATIONS and not bias_last else 1.0
        noise = None
        if self.use_noise and noise_mode != "none":
            shape = [x.shape[0], 1, self.resolution, self.resolution]
            noise = self.noise_const if noise_mode == "const" else torch.randn(shape, device=x.device)
            noise = noise * (self.noise_strength * early_gain)
        x = modulated_conv2d(
            x,
            self.weight,
            styles,
            up=self.up,
            padding=self.padding,
            resample_filter=self.resample_filter,
            fused_modconv=fused_modconv,
            gain=early_gain,
            b=None if bias_last else self.bias * early_gain,
            noise=noise,
        )
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        if bias_last:
            return bias_act.bias_act(x, self.bias.to(x.dtype), act=self.activation, gain=act_gain, clamp=clamp)
        return bias_act.activate_(x, self.activation, gain=act_gain / early_gain, clamp=clamp)


class ToRGBLayer(nn.Module):
    """A modulated 1x1 convolution from features to colors, without demodulation."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, 1, 1]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: torch.Tensor, w: torch.Tensor, fused_modconv: bool) -> torch.Tensor:
        """Map `[N, in_channels, H, W]` and `[N, w_dim]` to `[N, out_channels, H, W]`."""
        styles = self.affine(w)
        x = modulated_conv2d(
            x,
            self.weight,
            styles,
            demodulate=False,
            fused_modconv=fused_modconv,
            gain=self.weight_gain,
        )
        return bias_act.bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)


class SynthesisBlock(nn.Module):
    """The layers of one resolution."""

    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        is_last: bool,
        architecture: str = "skip",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        use_noise: bool = True,
        activation: str = "lrelu",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        layer_kwargs: dict[str, Any] = {
            "w_dim": w_dim,
            "resolution": resolution,
            "use_noise": use_noise,
            "activation": activation,
            "resample_filter": resample_filter,
            "conv_clamp": conv_clamp,
        }
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn([out_channels, resolution, resolution]))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, up=2, **layer_kwargs)
        self.conv1 = SynthesisLayer(out_channels, out_channels, **layer_kwargs)
        self.num_conv = 1 if in_channels == 0 else 2
        self.torgb = None
        if is_last or architecture == "skip":
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim, conv_clamp)
        if in_channels != 0 and architecture == "resnet":
            self.skip = Conv2dLayer(in_channels, out_channels, 1, bias=False, up=2, resample_filter=resample_filter)

    def forward(
        self,
        x: torch.Tensor | None,
        img: torch.Tensor | None,
        ws: torch.Tensor,
        noise_mode: str,
        force_fp32: bool | None,
        fused_modconv: bool | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map features, picture and `[N, num_conv + 1, w_dim]` to features and picture of this resolution."""
        dtype = working_dtype(self.use_fp16, force_fp32, ws.device, self.in_channels != 0)
        layout = working_layout(dtype, ws.device)
        if fused_modconv is None:
            fused_modconv = fuses_modulation(self.training, dtype, ws.shape[0], ws.device)
        w = ws.unbind(dim=1)

        if self.in_channels == 0:
            x = self.const.to(dtype).expand(ws.shape[0], -1, -1, -1).contiguous(memory_format=layout)
            x = self.conv1(x, w[0], noise_mode, fused_modconv)
        else:
            assert x is not None
            x = x.to(dtype=dtype, memory_format=layout)
            gain = math.sqrt(0.5) if self.architecture == "resnet" else 1.0
            y = self.skip(x, gain=gain) if self.architecture == "resnet" else None
            x = self.conv0(x, w[0], noise_mode, fused_modconv)
            x = self.conv1(x, w[1], noise_mode, fused_modconv, gain=gain)
            if y is not None:
                x = y + x

        if img is not None:
            img = upfirdn2d.upsample2d(img, self.resample_filter)
        if self.torgb is not None:
            y = self.torgb(x, w[self.num_conv], fused_modconv).to(torch.float32)
            img = y if img is None else img + y
        return x, img


class SynthesisNetwork(nn.Module):
    """From w to a picture: one block per resolution, 4x4 up.

    Args:
        w_dim: Length of w.
        img_resolution: A power of two, at least 4.
        img_channels: 3 for RGB, 1 for gray.
        channel_base: A resolution r has `channel_base / r` channels,
        channel_max: but at most this many.
        num_fp16_res: How many of the highest resolutions run in float16 on CUDA.
        architecture: `orig`, `skip` or `resnet` (StyleGAN2, figure 7).
        resample_filter: Taps of the low-pass filter.
        conv_clamp: Limit features to +-this; float16 needs 256.
        use_noise: Add noise to every layer.
        activation: Activation of every layer.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        architecture: str = "skip",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        use_noise: bool = True,
        activation: str = "lrelu",
    ) -> None:
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.block_resolutions = block_resolutions(img_resolution)
        check_architecture(architecture)
        channels = channels_per_resolution(img_resolution, channel_base, channel_max)
        fp16_resolution = lowest_fp16_resolution(img_resolution, num_fp16_res)
        self.num_ws = 0
        for resolution in self.block_resolutions:
            block = SynthesisBlock(
                channels[resolution // 2] if resolution > 4 else 0,
                channels[resolution],
                w_dim,
                resolution,
                img_channels,
                is_last=resolution == img_resolution,
                architecture=architecture,
                resample_filter=resample_filter,
                conv_clamp=conv_clamp,
                use_fp16=resolution >= fp16_resolution,
                use_noise=use_noise,
                activation=activation,
            )
            self.num_ws += block.num_conv
            setattr(self, f"b{resolution}", block)
        self.num_ws += 1  # the last ToRGB; every other one shares the w of the layer that follows it

    def forward(
        self,
        ws: torch.Tensor,
        noise_mode: str = "random",
        force_fp32: bool | None = None,
        fused_modconv: bool | None = None,
    ) -> torch.Tensor:
        """Turn `[N, num_ws, w_dim]` into float32 pictures `[N, img_channels, H, W]`, about -1..1.

        Args:
            ws: One w per layer.
            noise_mode: `random` draws noise, `const` takes the noise stored with the weights, `none` leaves it out.
            force_fp32: None computes in float16 on CUDA where the network is built for it, on the CPU in float32 (or
                see `bfloat16_on_cpu`); True in nothing but float32.
            fused_modconv: See `modulated_conv2d`; None takes what is fastest.

        Raises:
            ValueError: `ws` has another shape, or `noise_mode` is unknown.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"ws must have the shape [N, {self.num_ws}, {self.w_dim}], got {list(ws.shape)}")
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"unknown noise mode {noise_mode!r}: choose one of {', '.join(NOISE_MODES)}")
        ws = ws.to(torch.float32)
        x = img = None
        first = 0
        for resolution in self.block_resolutions:
            block = getattr(self, f"b{resolution}")
            block_ws = ws[:, first : first + block.num_conv + 1]
            x, img = block(x, img, block_ws, noise_mode, force_fp32, fused_modconv)
            first += block.num_conv
        assert img is not None  # the last block draws in every architecture
        return img


class Generator(nn.Module):
    """Turns a latent z and an age group c into a face.

    Args:
        z_dim: Length of z.
        c_dim: Number of age groups; 0 for an unconditional network.
        w_dim: Length of w.
        img_resolution: A power of two.
        img_channels: 3 for RGB, 1 for gray.
        mapping_kwargs: Arguments of `MappingNetwork`.
        synthesis_kwargs: Arguments of `SynthesisNetwork`.

    Example:
        >>> G = Generator(z_dim=64, c_dim=10, w_dim=64, img_resolution=32, img_channels=3)
        >>> z, c = torch.randn(2, 64), torch.eye(10)[[0, 9]]
        >>> G(z, c, truncation_psi=0.7).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict[str, Any] | None = None,
        synthesis_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.init_kwargs = {
            "z_dim": z_dim,
            "c_dim": c_dim,
            "w_dim": w_dim,
            "img_resolution": img_resolution,
            "img_channels": img_channels,
            "mapping_kwargs": dict(mapping_kwargs or {}),
            "synthesis_kwargs": dict(synthesis_kwargs or {}),
        }
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **(synthesis_kwargs or {}))
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **(mapping_kwargs or {}))

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        **synthesis_kwargs: Any,
    ) -> torch.Tensor:
        """Generate pictures: `mapping`, then `synthesis` with `synthesis_kwargs`; shapes as there."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, **synthesis_kwargs)
