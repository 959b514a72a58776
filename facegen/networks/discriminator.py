"""The discriminator of StyleGAN2-ADA: a residual network that judges faces given their age group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from facegen.beside import upfirdn2d
from facegen.networks.layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    block_resolutions,
    channels_per_resolution,
    check_architecture,
    lowest_fp16_resolution,
    working_dtype,
    working_layout,
)


def append_minibatch_std(x: torch.Tensor, group_size: int | None, num_channels: int) -> torch.Tensor:
    """Append feature maps that tell how much the pictures of a group differ (Karras et al. 2018, section 3).

    Args:
        x: `[N, C, H, W]`.
        group_size: Pictures per group; None for the whole batch.
        num_channels: How many maps; each summarizes `C / num_channels` channels.

    Returns:
        `[N, C + num_channels, H, W]`.

    Raises:
        ValueError: the group does not divide the batch.
    """
    batch, channels, height, width = x.shape
    group = batch if group_size is None else min(group_size, batch)
    if batch % group:
        raise ValueError(f"a batch of {batch} cannot be split into minibatch-stddev groups of {group}")
    # Pictures i, i + batch / group, i + 2 * batch / group, ... form a group.
    y = x.reshape(group, batch // group, num_channels, channels // num_channels, height, width)
    std = (y.var(dim=0, unbiased=False) + 1e-8).sqrt()
    summary = std.mean(dim=[2, 3, 4])  # [batch / group, num_channels]
    maps = summary.repeat(group, 1)[:, :, None, None].expand(-1, -1, height, width)
    return torch.cat([x, maps.to(x.dtype)], dim=1)


class DiscriminatorBlock(nn.Module):
    """The layers of one resolution; halves it."""

    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        tmp_channels: int,
        out_channels: int,
        img_channels: int,
        first_layer_idx: int,
        architecture: str = "resnet",
        activation: str = "lrelu",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        freeze_layers: int = 0,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        self.num_layers = 0

        def conv(
            inputs: int, outputs: int, kernel: int, clamp: float | None = conv_clamp, **kwargs: Any
        ) -> Conv2dLayer:
            # The first `freeze_layers` layers, counted from the picture, keep their weights (Freeze-D, Mo et al. 2020).
            trainable = first_layer_idx + self.num_layers >= freeze_layers
            self.num_layers += 1
            return Conv2dLayer(
                inputs,
                outputs,
                kernel,
                resample_filter=resample_filter,
                conv_clamp=clamp,
                trainable=trainable,
                **kwargs,
            )

        self.fromrgb = None
        if in_channels == 0 or architecture == "skip":
            self.fromrgb = conv(img_channels, tmp_channels, 1, activation=activation)
        self.conv0 = conv(tmp_channels, tmp_channels, 3, activation=activation)
        self.conv1 = conv(tmp_channels, out_channels, 3, activation=activation, down=2)
        if architecture == "resnet":
            self.skip = conv(tmp_channels, out_channels, 1, clamp=None, bias=False, down=2)

    def forward(
        self, x: torch.Tensor | None, img: torch.Tensor | None, force_fp32: bool | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map features and picture to features and picture of half the resolution."""
        like = img if x is None else x
        assert like is not None
        dtype = working_dtype(self.use_fp16, force_fp32, like.device)
        layout = working_layout(dtype, like.device)
        if x is not None:
            x = x.to(dtype=dtype, memory_format=layout)
        if self.fromrgb is not None:
            assert img is not None
            y = self.fromrgb(img.to(dtype=dtype, memory_format=layout))
            x = y if x is None else x + y
            img = upfirdn2d.downsample2d(img, self.resample_filter) if self.architecture == "skip" else None
        if self.architecture == "resnet":
            gain = math.sqrt(0.5)
            y = self.skip(x, gain=gain)
            x = self.conv1(self.conv0(x), gain=gain)
            return y.add_(x), img  # no derivative needs y itself
        return self.conv1(self.conv0(x)), img


class DiscriminatorEpilogue(nn.Module):
    """From 4x4 features to one number per picture, weighed by the label (projection, Miyato and Koyama 2018)."""

    def __init__(
        self,
        in_channels: int,
        cmap_dim: int,
        img_channels: int,
        architecture: str = "resnet",
        mbstd_group_size: int | None = 4,
        mbstd_num_channels: int = 1,
        activation: str = "lrelu",
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.cmap_dim = cmap_dim
        self.mbstd_group_size = mbstd_group_size
        self.mbstd_num_channels = mbstd_num_channels
        self.fromrgb = None
        if architecture == "skip":
            self.fromrgb = Conv2dLayer(img_channels, in_channels, 1, activation=activation)
        self.conv = Conv2dLayer(
            in_channels + mbstd_num_channels,
            in_channels,
            3,
            activation=activation,
            conv_clamp=conv_clamp,
        )
        self.fc = FullyConnectedLayer(in_channels * 4**2, in_channels, activation=activation)
        self.out = FullyConnectedLayer(in_channels, cmap_dim if cmap_dim > 0 else 1)

    def forward(self, x: torch.Tensor, img: torch.Tensor | None, cmap: torch.Tensor | None) -> torch.Tensor:
        """Map `[N, in_channels, 4, 4]` and the mapped label `[N, cmap_dim]` to logits `[N, 1]`."""
        x = x.to(dtype=torch.float32, memory_format=torch.contiguous_format)
        if self.fromrgb is not None:
            assert img is not None
            x = x + self.fromrgb(img.to(torch.float32))
        if self.mbstd_num_channels > 0:
            x = append_minibatch_std(x, self.mbstd_group_size, self.mbstd_num_channels)
        x = self.out(self.fc(self.conv(x).flatten(1)))
        if cmap is not None:
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
        return x


class Discriminator(nn.Module):
    """Judges whether a face is real, given its age group.

    Args:
        c_dim: Number of age groups; 0 for an unconditional network.
        img_resolution: A power of two.
        img_channels: 3 for RGB, 1 for gray.
        architecture: `orig`, `skip` or `resnet` (StyleGAN2, figure 7).
        channel_base, channel_max: A resolution r has `channel_base / r` channels, but at most `channel_max`.
        num_fp16_res: How many of the highest resolutions run in float16 on CUDA.
        conv_clamp: Limit features to +-this; float16 needs 256.
        cmap_dim: Length of the mapped label; None for the channels at 4x4.
        block_kwargs: Arguments of `DiscriminatorBlock`, such as `freeze_layers`.
        mapping_kwargs: Arguments of the `MappingNetwork` of the label.
        epilogue_kwargs: Arguments of `DiscriminatorEpilogue`, such as `mbstd_group_size`.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        conv_clamp: float | None = None,
        cmap_dim: int | None = None,
        block_kwargs: dict[str, Any] | None = None,
        mapping_kwargs: dict[str, Any] | None = None,
        epilogue_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.init_kwargs = {
            "c_dim": c_dim,
            "img_resolution": img_resolution,
            "img_channels": img_channels,
            "architecture": architecture,
            "channel_base": channel_base,
            "channel_max": channel_max,
            "num_fp16_res": num_fp16_res,
            "conv_clamp": conv_clamp,
            "cmap_dim": cmap_dim,
            "block_kwargs": dict(block_kwargs or {}),
            "mapping_kwargs": dict(mapping_kwargs or {}),
            "epilogue_kwargs": dict(epilogue_kwargs or {}),
        }
        self.c_dim = c_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        check_architecture(architecture)
        channels = channels_per_resolution(img_resolution, channel_base, channel_max)
        if img_resolution < 8:
            raise ValueError(f"the discriminator's resolution is at least 8, got {img_resolution}")
        fp16_resolution = lowest_fp16_resolution(img_resolution, num_fp16_res)
        if cmap_dim is None:
            cmap_dim = channels[4]
        if c_dim == 0:
            cmap_dim = 0

        self.block_resolutions = block_resolutions(img_resolution)[:0:-1]
        shared: dict[str, Any] = {"architecture": architecture, "conv_clamp": conv_clamp}
        self._add_blocks(channels, fp16_resolution, **shared, **(block_kwargs or {}))
        if c_dim > 0:
            self.mapping = MappingNetwork(0, c_dim, cmap_dim, num_ws=None, w_avg_beta=None, **(mapping_kwargs or {}))
        self.b4 = DiscriminatorEpilogue(channels[4], cmap_dim, img_channels, **shared, **(epilogue_kwargs or {}))

    def _add_blocks(self, channels: dict[int, int], fp16_resolution: int, **block_kwargs: Any) -> None:
        """Add `b64`, `b32`, ..., `b8`, each with the number of its first layer, counted from the picture."""
        num_layers = 0
        for resolution in self.block_resolutions:
            block = DiscriminatorBlock(
                channels[resolution] if resolution < self.img_resolution else 0,
                channels[resolution],
                channels[resolution // 2],
                self.img_channels,
                first_layer_idx=num_layers,
                use_fp16=resolution >= fp16_resolution,
                **block_kwargs,
            )
            num_layers += block.num_layers
            setattr(self, f"b{resolution}", block)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None, force_fp32: bool | None = None) -> torch.Tensor:
        """Judge pictures `[N, img_channels, H, W]` (-1..1) with labels `[N, c_dim]`; logits `[N, 1]`, high is real."""
        expected = (self.img_channels, self.img_resolution, self.img_resolution)
        if img.shape[1:] != expected:
            raise ValueError(f"pictures must have the shape [N, {expected}], got {list(img.shape)}")
        x = None
        for resolution in self.block_resolutions:
            x, img = getattr(self, f"b{resolution}")(x, img, force_fp32)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        return self.b4(x, img, cmap)
