"""How often and how strongly each augmentation acts, and the known combinations (Karras et al. 2020b, appendix B)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_GROUPS = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}


@dataclass(frozen=True)
class Strengths:
    """The multiplier of each augmentation's probability (0: never) and, where it has one, its strength.

    Attributes:
        xflip, rotate90, xint: flip, quarter turns, shift by whole pixels of up to `xint_max` of the width and height.
        scale, aniso: zoom and stretch by `2 ** (std * normal)`.
        rotate: turn by up to `rotate_max` half turns.
        xfrac: shift by `xfrac_std * normal` of the width and height.
        brightness: add `brightness_std * normal`.
        contrast, saturation: multiply by `2 ** (std * normal)`.
        lumaflip: mirror the luma.
        hue: turn the hue by up to `hue_max` half turns.
        imgfilter: amplify each of four octaves by `2 ** (imgfilter_std * normal)`; `imgfilter_bands` are multipliers
            of the single octaves, coarsest first.
        noise: add pixel noise of standard deviation `noise_std * |normal|`.
        cutout: gray out (0) a rectangle of `cutout_size` of the width and height.
    """

    xflip: float = 0
    rotate90: float = 0
    xint: float = 0
    xint_max: float = 0.125
    scale: float = 0
    rotate: float = 0
    aniso: float = 0
    xfrac: float = 0
    scale_std: float = 0.2
    rotate_max: float = 1
    aniso_std: float = 0.2
    xfrac_std: float = 0.125
    brightness: float = 0
    contrast: float = 0
    lumaflip: float = 0
    hue: float = 0
    saturation: float = 0
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    hue_max: float = 1
    saturation_std: float = 1
    imgfilter: float = 0
    imgfilter_bands: tuple[float, float, float, float] = (1, 1, 1, 1)
    imgfilter_std: float = 1
    noise: float = 0
    cutout: float = 0
    noise_std: float = 0.1
    cutout_size: float = 0.5


def _all_of(*groups: str) -> Strengths:
    multipliers: dict[str, Any] = {augmentation: 1.0 for group in groups for augmentation in _GROUPS[group]}
    return Strengths(**multipliers)


AUGPIPE_PRESETS = {
    **{group: _all_of(group) for group in _GROUPS},
    "bg": _all_of("blit", "geom"),
    "bgc": _all_of("blit", "geom", "color"),
    "bgcf": _all_of("blit", "geom", "color", "filter"),
    "bgcfn": _all_of("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": _all_of("blit", "geom", "color", "filter", "noise", "cutout"),
}
