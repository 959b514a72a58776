"""The configurations of `--cfg`: sizes and rates known from the StyleGAN2-ADA paper; `small` and `tiny` for a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

from facegen.errors import FacegenError


@dataclass(frozen=True)
class Preset:
    """What a configuration decides.

    Attributes:
        batch: Images per step, all GPUs together.
        mbstd_group: Pictures per group of the minibatch standard deviation.
        channel_base, channel_max: Width of the networks, see `SynthesisNetwork`.
        lr: Learning rate of both networks.
        gamma: R1 weight.
        ema_kimg: Half-life of the moving average of the generator's weights.
        ema_rampup: Shorten that half-life to this fraction of the images seen so far; None does not.
        map_layers: Layers of the mapping network.
        latent: Length of z and of w.
        num_fp16_res: Resolutions that run in float16 on a GPU.
        conv_clamp: Limit of features, which float16 needs.
        pl_weight: Weight of path length regularisation; 0 leaves it out.
        style_mixing: Probability of mixing two styles.
        d_architecture: Of the discriminator.
    """

    batch: int = 32
    mbstd_group: int = 4
    channel_base: int = 32768
    channel_max: int = 512
    lr: float = 0.002
    gamma: float = 10
    ema_kimg: float = 10
    ema_rampup: float | None = None
    map_layers: int = 8
    latent: int = 512
    num_fp16_res: int = 4
    conv_clamp: float | None = 256
    pl_weight: float = 2
    style_mixing: float = 0.9
    d_architecture: str = "resnet"


FIXED_PRESETS = {
    "stylegan2": Preset(),
    "paper256": Preset(batch=64, mbstd_group=8, channel_base=16384, lr=0.0025, gamma=1, ema_kimg=20),
    "paper512": Preset(batch=64, mbstd_group=8, lr=0.0025, gamma=0.5, ema_kimg=20),
    "paper1024": Preset(gamma=2),
    "cifar": Preset(
        batch=64,
        mbstd_group=32,
        lr=0.0025,
        gamma=0.01,
        ema_kimg=500,
        ema_rampup=0.05,
        map_layers=2,
        pl_weight=0,
        style_mixing=0,
        d_architecture="orig",
    ),
    # For days on a CPU, hours on a GPU: four times as wide as `tiny`, with what makes the latent space smooth.
    "small": Preset(
        batch=16,
        channel_base=4096,
        channel_max=128,
        lr=0.0025,
        gamma=0.1,
        ema_kimg=10,
        ema_rampup=0.05,
        map_layers=2,
        latent=256,
        num_fp16_res=4,
    ),
    # Small enough for two CPU cores: narrow, a short latent, and neither of the two refinements that need extra passes.
    "tiny": Preset(
        batch=16,
        channel_base=1024,
        channel_max=128,
        lr=0.0025,
        gamma=0.05,
        ema_kimg=5,
        ema_rampup=0.05,
        map_layers=2,
        latent=128,
        num_fp16_res=0,
        conv_clamp=None,
        pl_weight=0,
        style_mixing=0,
    ),
}
PRESETS = ("auto", *FIXED_PRESETS)


def get_preset(name: str, resolution: int, batch: int | None = None) -> Preset:
    """Return the preset of that name for a resolution; `auto` also adapts its rates to the batch.

    Raises:
        FacegenError: there is no such preset.
    """
    if name == "auto":
        images = max(min(4096 // resolution, 32), 4) if batch is None else batch
        return Preset(
            batch=images,
            mbstd_group=min(images, 4),
            channel_base=32768 if resolution >= 512 else 16384,
            lr=0.002 if resolution >= 1024 else 0.0025,
            gamma=0.0002 * resolution**2 / max(images, 1),
            ema_kimg=images * 10 / 32,
            ema_rampup=0.05,
            map_layers=2,
        )
    if name not in FIXED_PRESETS:
        raise FacegenError(f"unknown configuration {name!r}: choose one of {', '.join(PRESETS)}")
    preset = FIXED_PRESETS[name]
    return preset if batch is None else replace(preset, batch=batch)
