"""StyleGAN2-ADA's generator and discriminator in one file, which network pickles carry with them.

facegen writes this text into the pickles that it makes, so that the tools of the family can run them. It needs numpy,
torch and that family's `torch_utils` alone, works with Python 3.7 and PyTorch 1.7, and is free of what makes
`facegen.networks` fast: same parameters, same pictures. Images are float `[N, channels, H, W]` in -1..1.
"""

from __future__ import annotations

import math

import torch

from torch_utils.ops import bias_act, conv2d_resample, upfirdn2d

try:
    from torch_utils.persistence import persistent_class
except ImportError:  # facegen's torch_utils has none, and there classes need not carry their source

    def persistent_class(cls):
        return cls


DEFAULT_FILTER = (1, 3, 3, 1)
# What restores the second moment after an activation.
ACTIVATION_GAINS = {"relu": math.sqrt(2), "lrelu": math.sqrt(2), "swish": math.sqrt(2)}


def normalize_2nd_moment(x):
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def block_resolutions(img_resolution):
    return [2**i for i in range(2, int(math.log2(img_resolution)) + 1)]


def working_dtype(use_fp16, force_fp32, device):
    if force_fp32 is None:
        force_fp32 = device.type != "cuda"
    return torch.float16 if use_fp16 and not force_fp32 else torch.float32


def memory_format(dtype):
    return torch.channels_last if dtype == torch.float16 else torch.contiguous_format


def modulated_conv2d(x, weight, styles, demodulate=True, up=1, padding=0, resample_filter=None, fused_modconv=False):
    """Convolve with weights whose input channels are scaled by `styles` `[N, in_channels]`."""
    batch = x.shape[0]
    out_channels, in_channels, kernel, _ = weight.shape
    if x.dtype == torch.float16 and demodulate:
        # Demodulation undoes any scale; this one cannot overflow.
        weight = weight / (weight.abs().amax(dim=[1, 2, 3], keepdim=True) * math.sqrt(in_channels * kernel**2))
        styles = styles / styles.abs().amax(dim=1, keepdim=True)
    scale = None
    if demodulate:
        energy = styles.square() @ weight.square().sum(dim=[2, 3]).t()
        scale = (energy + 1e-8).rsqrt()  # [N, out_channels]
    resampling = {"f": resample_filter, "up": up, "padding": padding, "flip_weight": up == 1}

    if not fused_modconv:
        x = x * styles.to(x.dtype).reshape(batch, in_channels, 1, 1)
        x = conv2d_resample.conv2d_resample(x, weight.to(x.dtype), **resampling)
        return x if scale is None else x * scale.to(x.dtype).reshape(batch, out_channels, 1, 1)
    # One set of weights per picture, all in one grouped convolution.
    weights = weight.unsqueeze(0) * styles.reshape(batch, 1, in_channels, 1, 1)
    if scale is not None:
        weights = weights * scale.reshape(batch, out_channels, 1, 1, 1)
    x = x.reshape(1, batch * in_channels, *x.shape[2:])
    weights = weights.reshape(batch * out_channels, in_channels, kernel, kernel).to(x.dtype)
    x = conv2d_resample.conv2d_resample(x, weights, groups=batch, **resampling)
    return x.reshape(batch, out_channels, *x.shape[2:])


@persistent_class
class FullyConnectedLayer(torch.nn.Module):
    def __init__(self, in_features, out_features, bias=True, activation="linear", lr_multiplier=1, bias_init=0):
        super().__init__()
        self.activation = activation
        self.weight = torch.nn.Parameter(torch.randn([out_features, in_features]) / lr_multiplier)
        self.bias = torch.nn.Parameter(torch.full([out_features], float(bias_init))) if bias else None
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x):
        x = x.matmul((self.weight.to(x.dtype) * self.weight_gain).t())
        bias = None if self.bias is None else self.bias.to(x.dtype) * self.bias_gain
        return bias_act.bias_act(x, bias, act=self.activation)


@persistent_class
class Conv2dLayer(torch.nn.Module):
    """A convolution that may resample; its weights are buffers when they are not to be trained."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        bias=True,
        activation="linear",
        up=1,
        down=1,
        resample_filter=DEFAULT_FILTER,
        conv_clamp=None,
        trainable=True,
    ):
        super().__init__()
        self.activation = activation
        self.up = up
        self.down = down
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.act_gain = ACTIVATION_GAINS.get(activation, 1)
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        for name, tensor in (("weight", weight), ("bias", torch.zeros([out_channels]) if bias else None)):
            if tensor is None:
                setattr(self, name, None)
            elif trainable:
                setattr(self, name, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def forward(self, x, gain=1):
        x = conv2d_resample.conv2d_resample(
            x,
            (self.weight * self.weight_gain).to(x.dtype),
            f=self.resample_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            flip_weight=self.up == 1,
        )
        bias = None if self.bias is None else self.bias.to(x.dtype)
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act.bias_act(x, bias, act=self.activation, gain=self.act_gain * gain, clamp=clamp)


@persistent_class
class MappingNetwork(torch.nn.Module):
    """(z, c) to w, repeated `num_ws` times."""

    def __init__(
        self,
        z_dim,
        c_dim,
        w_dim,
        num_ws,
        num_layers=8,
        embed_features=None,
        layer_features=None,
        activation="lrelu",
        lr_multiplier=0.01,
        w_avg_beta=0.995,
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.num_ws = num_ws
        self.num_layers = num_layers
        self.w_avg_beta = None if num_ws is None else w_avg_beta
        embed_features = w_dim if embed_features is None else embed_features
        layer_features = w_dim if layer_features is None else layer_features
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_features)
        features = [z_dim + (embed_features if c_dim > 0 else 0)] + [layer_features] * (num_layers - 1) + [w_dim]
        for i in range(num_layers):
            layer = FullyConnectedLayer(
                features[i], features[i + 1], activation=activation, lr_multiplier=lr_multiplier
            )
            setattr(self, f"fc{i}", layer)
        if self.w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, skip_w_avg_update=False):
        parts = []
        for x, features, name in ((z, self.z_dim, "z"), (c, self.c_dim, "c")):
            if features == 0:
                continue
            if x is None or x.ndim != 2 or x.shape[1] != features:
                found = "nothing" if x is None else list(x.shape)
                raise ValueError(f"{name} must have the shape [N, {features}], got {found}")
            x = x.to(torch.float32)
            parts.append(normalize_2nd_moment(self.embed(x) if name == "c" else x))
        x = torch.cat(parts, dim=1)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        if self.training and self.w_avg_beta is not None and not skip_w_avg_update:
            self.w_avg.copy_(x.detach().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))
        if self.num_ws is not None:
            x = x.unsqueeze(1).repeat([1, self.num_ws, 1])
        if truncation_psi != 1:
            if self.w_avg_beta is None:
                raise ValueError("truncation needs the average of w, which this mapping does not keep")
            if truncation_cutoff is None:
                return self.w_avg.lerp(x, truncation_psi)
            truncated = self.w_avg.lerp(x[:, :truncation_cutoff], truncation_psi)
            x = torch.cat([truncated, x[:, truncation_cutoff:]], dim=1)
        return x


@persistent_class
class SynthesisLayer(torch.nn.Module):
    """A modulated convolution, noise, bias and activation."""

    def __init__(
        self,
        in_channels,
        out_channels,
        w_dim,
        resolution,
        kernel_size=3,
        up=1,
        use_noise=True,
        activation="lrelu",
        resample_filter=DEFAULT_FILTER,
        conv_clamp=None,
    ):
        super().__init__()
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.act_gain = ACTIVATION_GAINS.get(activation, 1)
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = torch.nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))
        if use_noise:
            self.register_buffer("noise_const", torch.randn([resolution, resolution]))
            self.noise_strength = torch.nn.Parameter(torch.zeros([]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))

    def forward(self, x, w, noise_mode="random", fused_modconv=False, gain=1):
        if noise_mode not in ("random", "const", "none"):
            raise ValueError(f"unknown noise mode {noise_mode!r}: choose one of random, const, none")
        x = modulated_conv2d(
            x,
            self.weight,
            self.affine(w),
            up=self.up,
            padding=self.padding,
            resample_filter=self.resample_filter,
            fused_modconv=fused_modconv,
        )
        if self.use_noise and noise_mode != "none":
            noise = self.noise_const
            if noise_mode == "random":
                noise = torch.randn([x.shape[0], 1, self.resolution, self.resolution], device=x.device)
            x = x + (noise * self.noise_strength).to(x.dtype)
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        bias = self.bias.to(x.dtype)
        return bias_act.bias_act(x, bias, act=self.activation, gain=self.act_gain * gain, clamp=clamp)


@persistent_class
class ToRGBLayer(torch.nn.Module):
    """A modulated 1x1 convolution from features to colours, without demodulation."""

    def __init__(self, in_channels, out_channels, w_dim, conv_clamp=None):
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = torch.nn.Parameter(torch.randn([out_channels, in_channels, 1, 1]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x, w, fused_modconv=False):
        styles = self.affine(w) * self.weight_gain
        x = modulated_conv2d(x, self.weight, styles, demodulate=False, fused_modconv=fused_modconv)
        return bias_act.bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)


@persistent_class
class SynthesisBlock(torch.nn.Module):
    """The layers of one resolution."""

    def __init__(
        self,
        in_channels,
        out_channels,
        w_dim,
        resolution,
        img_channels,
        is_last,
        architecture="skip",
        resample_filter=DEFAULT_FILTER,
        conv_clamp=None,
        use_fp16=False,
        use_noise=True,
        activation="lrelu",
    ):
        super().__init__()
        self.in_channels = in_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.is_last = is_last
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        layer_kwargs = {
            "w_dim": w_dim,
            "resolution": resolution,
            "use_noise": use_noise,
            "activation": activation,
            "resample_filter": resample_filter,
            "conv_clamp": conv_clamp,
        }
        if in_channels == 0:
            self.const = torch.nn.Parameter(torch.randn([out_channels, resolution, resolution]))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, up=2, **layer_kwargs)
        self.conv1 = SynthesisLayer(out_channels, out_channels, **layer_kwargs)
        self.num_conv = 1 if in_channels == 0 else 2
        self.num_torgb = 1 if is_last or architecture == "skip" else 0
        if self.num_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim, conv_clamp)
        if in_channels != 0 and architecture == "resnet":
            self.skip = Conv2dLayer(in_channels, out_channels, 1, bias=False, up=2, resample_filter=resample_filter)

    def forward(self, x, img, ws, force_fp32=None, fused_modconv=None, **layer_kwargs):
        """`ws` is `[N, num_conv + num_torgb, w_dim]`."""
        dtype = working_dtype(self.use_fp16, force_fp32, ws.device)
        if fused_modconv is None:
            fused_modconv = not self.training and ws.device.type == "cuda" and dtype == torch.float32
        layer_kwargs["fused_modconv"] = fused_modconv
        w = ws.unbind(dim=1)
        if self.in_channels == 0:
            x = self.const.to(dtype).unsqueeze(0).repeat([ws.shape[0], 1, 1, 1])
            x = x.to(memory_format=memory_format(dtype))
            x = self.conv1(x, w[0], **layer_kwargs)
        else:
            x = x.to(dtype=dtype, memory_format=memory_format(dtype))
            gain = math.sqrt(0.5) if self.architecture == "resnet" else 1
            y = self.skip(x, gain=gain) if self.architecture == "resnet" else None
            x = self.conv0(x, w[0], **layer_kwargs)
            x = self.conv1(x, w[1], gain=gain, **layer_kwargs)
            if y is not None:
                x = y + x
        if img is not None:
            img = upfirdn2d.upsample2d(img, self.resample_filter)
        if self.num_torgb:
            y = self.torgb(x, w[self.num_conv], fused_modconv=fused_modconv)
            y = y.to(dtype=torch.float32, memory_format=torch.contiguous_format)
            img = y if img is None else img + y
        return x, img


@persistent_class
class SynthesisNetwork(torch.nn.Module):
    """From w to a picture: one block per resolution, 4x4 up."""

    def __init__(
        self,
        w_dim,
        img_resolution,
        img_channels,
        channel_base=32768,
        channel_max=512,
        num_fp16_res=0,
        **block_kwargs,
    ):
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = int(math.log2(img_resolution))
        self.img_channels = img_channels
        self.block_resolutions = block_resolutions(img_resolution)
        channels = {resolution: min(channel_base // resolution, channel_max) for resolution in self.block_resolutions}
        fp16_resolution = max(img_resolution * 2 // 2**num_fp16_res, 8)
        self.num_ws = 0
        for resolution in self.block_resolutions:
            is_last = resolution == img_resolution
            block = SynthesisBlock(
                channels[resolution // 2] if resolution > 4 else 0,
                channels[resolution],
                w_dim,
                resolution,
                img_channels,
                is_last,
                use_fp16=resolution >= fp16_resolution,
                **block_kwargs,
            )
            self.num_ws += block.num_conv + (block.num_torgb if is_last else 0)
            setattr(self, f"b{resolution}", block)

    def forward(self, ws, **block_kwargs):
        """Turn `[N, num_ws, w_dim]` into pictures; see the layers for noise_mode, force_fp32 and fused_modconv."""
        if ws.ndim != 3 or ws.shape[1] != self.num_ws or ws.shape[2] != self.w_dim:
            raise ValueError(f"ws must have the shape [N, {self.num_ws}, {self.w_dim}], got {list(ws.shape)}")
        ws = ws.to(torch.float32)
        x = img = None
        first = 0
        for resolution in self.block_resolutions:
            block = getattr(self, f"b{resolution}")
            # Every ToRGB but the last shares the w of the layer that follows it.
            x, img = block(x, img, ws.narrow(1, first, block.num_conv + block.num_torgb), **block_kwargs)
            first += block.num_conv
        return img


@persistent_class
class Generator(torch.nn.Module):
    def __init__(self, z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs=None, synthesis_kwargs=None):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **(synthesis_kwargs or {}))
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **(mapping_kwargs or {}))

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, **synthesis_kwargs):
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, **synthesis_kwargs)


@persistent_class
class DiscriminatorBlock(torch.nn.Module):
    """The layers of one resolution; halves it."""

    def __init__(
        self,
        in_channels,
        tmp_channels,
        out_channels,
        resolution,
        img_channels,
        first_layer_idx,
        architecture="resnet",
        activation="lrelu",
        resample_filter=DEFAULT_FILTER,
        conv_clamp=None,
        use_fp16=False,
        freeze_layers=0,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.resolution = resolution
        self.img_channels = img_channels
        self.first_layer_idx = first_layer_idx
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        self.num_layers = 0

        def conv(inputs, outputs, kernel_size, clamp=conv_clamp, **kwargs):
            trainable = first_layer_idx + self.num_layers >= freeze_layers
            self.num_layers += 1
            kwargs.update(resample_filter=resample_filter, conv_clamp=clamp, trainable=trainable)
            return Conv2dLayer(inputs, outputs, kernel_size, **kwargs)

        if in_channels == 0 or architecture == "skip":
            self.fromrgb = conv(img_channels, tmp_channels, 1, activation=activation)
        self.conv0 = conv(tmp_channels, tmp_channels, 3, activation=activation)
        self.conv1 = conv(tmp_channels, out_channels, 3, activation=activation, down=2)
        if architecture == "resnet":
            self.skip = conv(tmp_channels, out_channels, 1, clamp=None, bias=False, down=2)

    def forward(self, x, img, force_fp32=None):
        dtype = working_dtype(self.use_fp16, force_fp32, (img if x is None else x).device)
        if x is not None:
            x = x.to(dtype=dtype, memory_format=memory_format(dtype))
        if self.in_channels == 0 or self.architecture == "skip":
            y = self.fromrgb(img.to(dtype=dtype, memory_format=memory_format(dtype)))
            x = y if x is None else x + y
            img = upfirdn2d.downsample2d(img, self.resample_filter) if self.architecture == "skip" else None
        if self.architecture != "resnet":
            return self.conv1(self.conv0(x)), img
        gain = math.sqrt(0.5)
        y = self.skip(x, gain=gain)
        return y + self.conv1(self.conv0(x), gain=gain), img


def append_minibatch_std(x, group_size, num_channels):
    """Append feature maps that tell how much the pictures of a group differ."""
    batch, channels, height, width = x.shape
    group = batch if group_size is None else min(group_size, batch)
    y = x.reshape(group, -1, num_channels, channels // num_channels, height, width)
    summary = (y.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=[2, 3, 4])
    maps = summary.repeat([group, 1]).reshape(batch, num_channels, 1, 1).expand(-1, -1, height, width)
    return torch.cat([x, maps], dim=1)


@persistent_class
class DiscriminatorEpilogue(torch.nn.Module):
    """From 4x4 features to one number per picture, weighed by the mapped label."""

    def __init__(
        self,
        in_channels,
        cmap_dim,
        img_channels,
        resolution=4,
        architecture="resnet",
        mbstd_group_size=4,
        mbstd_num_channels=1,
        activation="lrelu",
        conv_clamp=None,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.cmap_dim = cmap_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.architecture = architecture
        self.mbstd_group_size = mbstd_group_size
        self.mbstd_num_channels = mbstd_num_channels
        if architecture == "skip":
            self.fromrgb = Conv2dLayer(img_channels, in_channels, 1, activation=activation)
        self.conv = Conv2dLayer(
            in_channels + mbstd_num_channels, in_channels, 3, activation=activation, conv_clamp=conv_clamp
        )
        self.fc = FullyConnectedLayer(in_channels * resolution**2, in_channels, activation=activation)
        self.out = FullyConnectedLayer(in_channels, cmap_dim if cmap_dim > 0 else 1)

    def forward(self, x, img, cmap, force_fp32=None):
        x = x.to(dtype=torch.float32, memory_format=torch.contiguous_format)
        if self.architecture == "skip":
            x = x + self.fromrgb(img.to(torch.float32))
        if self.mbstd_num_channels > 0:
            x = append_minibatch_std(x, self.mbstd_group_size, self.mbstd_num_channels)
        x = self.out(self.fc(self.conv(x).flatten(1)))
        if self.cmap_dim > 0:
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
        return x


@persistent_class
class Discriminator(torch.nn.Module):
    def __init__(
        self,
        c_dim,
        img_resolution,
        img_channels,
        architecture="resnet",
        channel_base=32768,
        channel_max=512,
        num_fp16_res=0,
        conv_clamp=None,
        cmap_dim=None,
        block_kwargs=None,
        mapping_kwargs=None,
        epilogue_kwargs=None,
    ):
        super().__init__()
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = int(math.log2(img_resolution))
        self.img_channels = img_channels
        self.block_resolutions = block_resolutions(img_resolution)[:0:-1]
        channels = {r: min(channel_base // r, channel_max) for r in block_resolutions(img_resolution)}
        fp16_resolution = max(img_resolution * 2 // 2**num_fp16_res, 8)
        if cmap_dim is None:
            cmap_dim = channels[4]
        if c_dim == 0:
            cmap_dim = 0
        common = {"img_channels": img_channels, "architecture": architecture, "conv_clamp": conv_clamp}
        num_layers = 0
        for resolution in self.block_resolutions:
            block = DiscriminatorBlock(
                channels[resolution] if resolution < img_resolution else 0,
                channels[resolution],
                channels[resolution // 2],
                resolution,
                first_layer_idx=num_layers,
                use_fp16=resolution >= fp16_resolution,
                **common,
                **(block_kwargs or {}),
            )
            num_layers += block.num_layers
            setattr(self, f"b{resolution}", block)
        if c_dim > 0:
            self.mapping = MappingNetwork(0, c_dim, cmap_dim, num_ws=None, w_avg_beta=None, **(mapping_kwargs or {}))
        self.b4 = DiscriminatorEpilogue(channels[4], cmap_dim, **common, **(epilogue_kwargs or {}))

    def forward(self, img, c, **block_kwargs):
        """Judge pictures with labels `[N, c_dim]`: logits `[N, 1]`, high is real."""
        x = None
        for resolution in self.block_resolutions:
            x, img = getattr(self, f"b{resolution}")(x, img, **block_kwargs)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        return self.b4(x, img, cmap)


@persistent_class
class NoDiscriminator(torch.nn.Module):
    """Stands where a file of the family has its discriminator, in one that was made of a generator alone."""

    def forward(self, img, c, **block_kwargs):
        raise RuntimeError("this file holds a generator alone: there is no discriminator in it")
