"""The configurations of `--cfg`: sizes and rates known from the StyleGAN2-ADA paper; `small` and `tiny` for a CPU."""

from __future__ import annotations

from typing import Any

from facegen.errors import FacegenError

# What each configuration decides; the names are fields of `TrainOptions`, which says what they are.
STYLEGAN2 = {
    "batch": 32,
    "mbstd_group": 4,
    "channel_base": 32768,
    "channel_max": 512,
    "lr": 0.002,
    "gamma": 10,
    "ema_kimg": 10,
    "ema_rampup": None,
    "map_layers": 8,
    "latent": 512,
    "num_fp16_res": 4,
    "conv_clamp": 256,
    "pl_weight": 2,
    "style_mixing": 0.9,
    "d_architecture": "resnet",
}
_PAPER = {"batch": 64, "mbstd_group": 8, "lr": 0.0025, "ema_kimg": 20}
_CIFAR = {"batch": 64, "mbstd_group": 32, "lr": 0.0025, "gamma": 0.01, "ema_kimg": 500, "ema_rampup": 0.05}
_CIFAR |= {"map_layers": 2, "pl_weight": 0, "style_mixing": 0, "d_architecture": "orig"}
# For days on a CPU, hours on a GPU: four times as wide as `tiny`, with what makes the latent space smooth.
_SMALL = {"batch": 16, "channel_base": 4096, "channel_max": 128, "lr": 0.0025, "gamma": 0.1, "ema_rampup": 0.05}
_SMALL |= {"map_layers": 2, "latent": 256}
# Small enough for two CPU cores: narrow, a short latent, and neither of the two refinements that need extra passes.
_TINY = {"channel_base": 1024, "gamma": 0.05, "ema_kimg": 5, "latent": 128, "num_fp16_res": 0, "conv_clamp": None}
_TINY |= {"pl_weight": 0, "style_mixing": 0}
FIXED_PRESETS: dict[str, dict[str, Any]] = {
    "stylegan2": STYLEGAN2,
    "paper256": STYLEGAN2 | _PAPER | {"channel_base": 16384, "gamma": 1},
    "paper512": STYLEGAN2 | _PAPER | {"gamma": 0.5},
    "paper1024": STYLEGAN2 | {"gamma": 2},
    "cifar": STYLEGAN2 | _CIFAR,
    "small": STYLEGAN2 | _SMALL,
    "tiny": STYLEGAN2 | _SMALL | _TINY,
}
PRESETS = ("auto", *FIXED_PRESETS)


def get_preset(name: str, resolution: int, batch: int | None = None) -> dict[str, Any]:
    """Return what a configuration decides at a resolution; `auto` also adapts its rates to the batch.

    Raises:
        FacegenError: there is no such preset.
    """
    if name not in PRESETS:
        raise FacegenError(f"unknown configuration {name!r}: choose one of {', '.join(PRESETS)}")
    if name != "auto":
        return FIXED_PRESETS[name] | ({} if batch is None else {"batch": batch})
    images = max(min(4096 // resolution, 32), 4) if batch is None else batch
    return STYLEGAN2 | {
        "batch": images,
        "mbstd_group": min(images, 4),
        "channel_base": 32768 if resolution >= 512 else 16384,
        "lr": 0.002 if resolution >= 1024 else 0.0025,
        "gamma": 0.0002 * resolution**2 / max(images, 1),
        "ema_kimg": images * 10 / 32,
        "ema_rampup": 0.05,
        "map_layers": 2,
    }
