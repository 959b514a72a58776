"""The augmentations by name: which ones a preset such as `bgc` combines."""

from __future__ import annotations

_GROUPS = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
_COMBINATIONS = {
    **{name: (name,) for name in _GROUPS},
    "bg": ("blit", "geom"),
    "bgc": ("blit", "geom", "color"),
    "bgcf": ("blit", "geom", "color", "filter"),
    "bgcfn": ("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": ("blit", "geom", "color", "filter", "noise", "cutout"),
}

# Arguments of AugmentPipe by the name of the preset.
AUGPIPE_PRESETS: dict[str, dict[str, float]] = {
    name: {augmentation: 1.0 for group in groups for augmentation in _GROUPS[group]}
    for name, groups in _COMBINATIONS.items()
}
