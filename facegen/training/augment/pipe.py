"""The stochastic augmentations of ADA (Karras et al. 2020b, "Training Generative Adversarial Networks with Limited
Data", appendix B), differentiable with respect to the images.

The parameters of all augmentations of a batch are drawn on the CPU and merged into one affine transform, one colour
matrix, four band gains, ... for each image. So the GPU is never waited for, and what leaves a whole batch as it is
costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from facegen.device import to_device
from facegen.errors import FacegenError
from facegen.training.augment.filterbank import BANDS, EXPECTED_POWER, amplify_bands
from facegen.training.augment.names import AUGPIPE_PRESETS
from facegen.training.augment.warp import pointing, warp, warp_by, widest_margins
from facegen.training.generator.parts import WHOLE, Part
from facegen.training.generator.recording import DrawnNumbers


def augpipe_kwargs(preset: str) -> dict[str, float]:
    """The arguments of `AugmentPipe` for a preset such as `bgc`; FacegenError for an unknown name."""
    if preset not in AUGPIPE_PRESETS:
        raise FacegenError(f"Unknown augmentation preset '{preset}': choose one of {', '.join(AUGPIPE_PRESETS)}.")
    return dict(AUGPIPE_PRESETS[preset])


class AugmentPipe(nn.Module):
    """Augments each image of a batch on its own; every augmentation happens with probability `multiplier * p`.

    The overall probability `p` is a buffer (1 at first) that ADA moves during training. All multipliers are 0 by
    default. The augmentations, each with its multiplier and its strength:

    xflip, rotate90, xint: flip, quarter turns, shift by whole pixels of up to `xint_max` of the width and height.
    scale, aniso: zoom and stretch by `2 ** (std * normal)`. rotate: up to `rotate_max` half turns.
    xfrac: shift by `xfrac_std * normal` of the width and height.
    brightness: add `brightness_std * normal`. contrast, saturation: times `2 ** (std * normal)`. lumaflip: mirror the
    luma. hue: turn the hue by up to `hue_max` half turns.
    imgfilter: amplify each of four octaves by `2 ** (imgfilter_std * normal)`, `imgfilter_bands` being multipliers
    of the single octaves, coarsest first.
    noise: add pixel noise of standard deviation `noise_std * |normal|`. cutout: grey out (0) a rectangle of
    `cutout_size` of the width and height.
    """

    p: torch.Tensor

    def __init__(
        self,
        xflip: float = 0,
        rotate90: float = 0,
        xint: float = 0,
        xint_max: float = 0.125,
        scale: float = 0,
        rotate: float = 0,
        aniso: float = 0,
        xfrac: float = 0,
        scale_std: float = 0.2,
        rotate_max: float = 1,
        aniso_std: float = 0.2,
        xfrac_std: float = 0.125,
        brightness: float = 0,
        contrast: float = 0,
        lumaflip: float = 0,
        hue: float = 0,
        saturation: float = 0,
        brightness_std: float = 0.2,
        contrast_std: float = 0.5,
        hue_max: float = 1,
        saturation_std: float = 1,
        imgfilter: float = 0,
        imgfilter_bands: Sequence[float] = (1, 1, 1, 1),
        imgfilter_std: float = 1,
        noise: float = 0,
        cutout: float = 0,
        noise_std: float = 0.1,
        cutout_size: float = 0.5,
    ) -> None:
        super().__init__()
        if len(imgfilter_bands) != BANDS:
            raise FacegenError(f"imgfilter_bands needs {BANDS} numbers, not {len(imgfilter_bands)}.")
        self.register_buffer("p", torch.ones([]))
        self._known_p: tuple[torch.Tensor, int, float] | None = None
        self.xflip = float(xflip)
        self.rotate90 = float(rotate90)
        self.xint = float(xint)
        self.xint_max = float(xint_max)
        self.scale = float(scale)
        self.rotate = float(rotate)
        self.aniso = float(aniso)
        self.xfrac = float(xfrac)
        self.scale_std = float(scale_std)
        self.rotate_max = float(rotate_max)
        self.aniso_std = float(aniso_std)
        self.xfrac_std = float(xfrac_std)
        self.brightness = float(brightness)
        self.contrast = float(contrast)
        self.lumaflip = float(lumaflip)
        self.hue = float(hue)
        self.saturation = float(saturation)
        self.brightness_std = float(brightness_std)
        self.contrast_std = float(contrast_std)
        self.hue_max = float(hue_max)
        self.saturation_std = float(saturation_std)
        self.imgfilter = float(imgfilter)
        self.imgfilter_bands = [float(band) for band in imgfilter_bands]
        self.imgfilter_std = float(imgfilter_std)
        self.noise = float(noise)
        self.cutout = float(cutout)
        self.noise_std = float(noise_std)
        self.cutout_size = float(cutout_size)

    def forward(
        self,
        images: torch.Tensor,
        debug_percentile: float | None = None,
        generator: torch.Generator | None = None,
        part: Part = WHOLE,
    ) -> torch.Tensor:
        """Augments images.

        Args:
            images: float `[N, C, H, W]` in about -1..1, C 1 or 3. Twice differentiable with respect to them.
            debug_percentile: not random: apply every augmentation, each at this quantile (0..1) of its distribution.
            generator: source of all randomness; by default PyTorch's global one. The draws do not depend on p.
            part: the images are this part of a batch, and get what they would get within the whole batch. Only
                pixel noise is each part's own, from PyTorch's global generator.

        Returns:
            Augmented images of the same shape; `images` itself where nothing happens to any of them.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise FacegenError(f"AugmentPipe takes images [N, 1 or 3, H, W], not {list(images.shape)}.")
        height, width = images.shape[2:]
        draw = _Draws(len(images), self.probability(), debug_percentile, generator, part)

        inverse = draw_inverse_transform(self, draw, width, height)
        if inverse is not None and not _is_identity(inverse):
            images = warp(images, inverse)
        colour = draw_colour_matrix(self, draw)
        if colour is not None and not _is_identity(colour):
            images = apply_colour(images, colour)
        gains = draw_band_gains(self, draw)
        if gains is not None and not (gains == 1).all():
            images = amplify_bands(images, gains)
        if self.noise > 0:
            images = add_noise(images, draw_noise_level(self, draw), generator if part.count == 1 else None)
        if self.cutout > 0:
            images = images * to_device(draw_cutout_mask(self, draw, width, height), images.device, images.dtype)
        return images

    @property
    def can_be_recorded(self) -> bool:
        """Whether `by_drawn_numbers` does all that this pipe does."""
        return self.imgfilter == self.noise == self.cutout == 0

    def by_drawn_numbers(self, images: torch.Tensor, drawn: DrawnNumbers) -> torch.Tensor:
        """Augment images by numbers drawn elsewhere, always by the same operations; the result is that of a call."""
        height, width = images.shape[2:]
        margins = widest_margins(width, height)
        count, dtype = len(images), images.dtype  # what draws later must not hold on to the images

        def draw() -> list[torch.Tensor]:
            draw = _Draws(count, self.probability(), None, None)
            inverse, colour = draw_inverse_transform(self, draw, width, height), draw_colour_matrix(self, draw)
            parts = [] if inverse is None else [*pointing(inverse, width, height, margins)]
            return [part.to(dtype) for part in (*parts, *([] if colour is None else [colour]))]

        parts = drawn.take(draw)
        if len(parts) > 1:
            images = warp_by(images, parts[0], parts[1], margins)
        return apply_colour(images, parts[-1]) if len(parts) % 2 else images

    def probability(self) -> float:
        """The value of `p`. From a GPU it is copied only after others than `set_probability` changed or replaced it."""
        if self.p.device.type == "cpu":
            return float(self.p)
        if self._known_p is None or self._known_p[0] is not self.p or self._known_p[1] != self.p._version:
            self._known_p = (self.p, self.p._version, float(self.p))
        return self._known_p[2]

    def set_probability(self, p: float) -> None:
        """Change `p`, a number that float32 holds exactly, without waiting for the GPU."""
        with torch.no_grad():
            self.p.fill_(p)
        self._known_p = (self.p, self.p._version, p)


@dataclass
class _Draws:
    """Draws the random values of a batch, one row for each image; always on the CPU, in float64."""

    count: int
    p: float
    percentile: float | None
    generator: torch.Generator | None
    part: Part = WHOLE

    def uniform(self, *shape: int) -> torch.Tensor:
        """Uniform in 0..1, `[count, *shape]`."""
        size = (self.count, *shape)
        if self.percentile is not None:
            return torch.full(size, self.percentile, dtype=torch.float64)
        return self._rows(torch.rand, shape)

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal, `[count, *shape]`; at a percentile q, erfinv(2 q - 1)."""
        size = (self.count, *shape)
        if self.percentile is not None:
            return torch.full(size, 2 * self.percentile - 1, dtype=torch.float64).erfinv()
        return self._rows(torch.randn, shape)

    def _rows(self, draw: Callable[..., torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
        """Draw for the whole batch and return the rows of these images."""
        size = (self.count * self.part.count, *shape)
        device = self.generator.device if self.generator is not None else "cpu"
        return self.part.of(draw(size, generator=self.generator, device=device, dtype=torch.float64).cpu())

    def half_normal(self) -> torch.Tensor:
        """Absolute value of a standard normal, `[count]`; at a percentile q, erfinv(q)."""
        if self.percentile is not None:
            return torch.full([self.count], self.percentile, dtype=torch.float64).erfinv()
        return self.normal().abs()

    def gated(self, values: torch.Tensor, probability: float, otherwise: float = 0.0) -> torch.Tensor:
        """Keeps each image's values with this probability. Draw the values first: the draws' order is part of it."""
        if self.percentile is not None:
            return values if probability > 0 else torch.full_like(values, otherwise)
        closed = self.uniform() >= probability
        return values.masked_fill(closed.reshape(-1, *[1] * (values.ndim - 1)), otherwise)


# --- Geometry -------------------------------------------------------------------------------------------------------


def draw_inverse_transform(pipe: AugmentPipe, draw: _Draws, width: int, height: int) -> torch.Tensor | None:
    """Matrices `[N, 3, 3]` from the result's pixels to the source's (see `warp`); None if no geometry is enabled.

    The paper composes G = A_n ... A_1; this composes its inverse A_1^-1 ... A_n^-1 from the steps' inverses.
    """
    steps = []
    size = torch.tensor([width, height])
    if pipe.xflip > 0:
        flip = draw.gated((2 * draw.uniform()).floor(), draw.p * pipe.xflip)
        sign = 1 - 2 * flip
        steps.append(scale2d(sign, torch.ones_like(sign)))
    if pipe.rotate90 > 0:
        quarters = draw.gated((4 * draw.uniform()).floor(), draw.p * pipe.rotate90)
        steps.append(rotate2d(quarters * (math.pi / 2)))
    if pipe.xint > 0:
        shift = draw.gated((2 * draw.uniform(2) - 1) * pipe.xint_max, draw.p * pipe.xint)
        steps.append(translate2d(-(shift * size).round()))
    if pipe.scale > 0:
        factor = 2 ** draw.gated(draw.normal() * pipe.scale_std, draw.p * pipe.scale)
        steps.append(scale2d(1 / factor, 1 / factor))
    # Two chances to rotate, before and after the stretch, that together have the probability of one.
    rotate_each = 1 - math.sqrt(min(max(1 - draw.p * pipe.rotate, 0), 1))
    if pipe.rotate > 0:
        angle = draw.gated((2 * draw.uniform() - 1) * (math.pi * pipe.rotate_max), rotate_each)
        steps.append(rotate2d(angle))
    if pipe.aniso > 0:
        factor = 2 ** draw.gated(draw.normal() * pipe.aniso_std, draw.p * pipe.aniso)
        steps.append(scale2d(1 / factor, factor))
    if pipe.rotate > 0 and draw.percentile is None:
        angle = draw.gated((2 * draw.uniform() - 1) * (math.pi * pipe.rotate_max), rotate_each)
        steps.append(rotate2d(angle))
    if pipe.xfrac > 0:
        shift = draw.gated(draw.normal(2) * pipe.xfrac_std, draw.p * pipe.xfrac)
        steps.append(translate2d(-shift * size))
    return _product(steps)


def translate2d(shift: torch.Tensor) -> torch.Tensor:
    """`[N, 3, 3]` that adds `shift` `[N, 2]`."""
    matrix = torch.eye(3, dtype=shift.dtype).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = shift
    return matrix


def scale2d(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`[N, 3, 3]` that multiplies by `x` and `y` `[N]`."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def rotate2d(angle: torch.Tensor) -> torch.Tensor:
    """`[N, 3, 3]` that turns the x axis towards the y axis by `angle` `[N]` radians."""
    matrix = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0] = angle.sin()
    matrix[:, 0, 1] = -angle.sin()
    return matrix


# --- Colour ---------------------------------------------------------------------------------------------------------

# Projection onto the luma axis (1, 1, 1) / sqrt(3), and the cross product with it.
_LUMA = torch.full((3, 3), 1 / 3, dtype=torch.float64)
_LUMA_CROSS = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)


def draw_colour_matrix(pipe: AugmentPipe, draw: _Draws) -> torch.Tensor | None:
    """Matrices `[N, 4, 4]` for the colours (R, G, B, 1); None if no colour augmentation is enabled."""
    steps = []
    identity = torch.eye(3, dtype=torch.float64)
    if pipe.brightness > 0:
        offset = draw.gated(draw.normal() * pipe.brightness_std, draw.p * pipe.brightness)
        steps.append(_colour_step(identity.repeat(draw.count, 1, 1), offset))
    if pipe.contrast > 0:
        factor = 2 ** draw.gated(draw.normal() * pipe.contrast_std, draw.p * pipe.contrast)
        steps.append(_colour_step(factor[:, None, None] * identity))
    if pipe.lumaflip > 0:
        flip = draw.gated((2 * draw.uniform()).floor(), draw.p * pipe.lumaflip)
        steps.append(_colour_step(identity - 2 * flip[:, None, None] * _LUMA))
    if pipe.hue > 0:
        angle = draw.gated((2 * draw.uniform() - 1) * (math.pi * pipe.hue_max), draw.p * pipe.hue)
        steps.append(_colour_step(rotate_about_luma(angle)))
    if pipe.saturation > 0:
        factor = 2 ** draw.gated(draw.normal() * pipe.saturation_std, draw.p * pipe.saturation)
        steps.append(_colour_step(_LUMA + factor[:, None, None] * (identity - _LUMA)))
    return _product(steps[::-1])


def rotate_about_luma(angle: torch.Tensor) -> torch.Tensor:
    """`[N, 3, 3]` that turns colours about the luma axis by `angle` `[N]` (Rodrigues' formula)."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return _LUMA + cos * (torch.eye(3, dtype=angle.dtype) - _LUMA) + sin * _LUMA_CROSS


def apply_colour(images: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Applies `[N, 4, 4]` to the colours of `[N, 3, H, W]`. Grey `[N, 1, H, W]` becomes the mean of R, G and B."""
    linear, offset = colour[:, :3, :3], colour[:, :3, 3:]
    if images.shape[1] == 1:
        linear, offset = linear.sum(2, keepdim=True).mean(1, keepdim=True), offset.mean(1, keepdim=True)
    linear, offset = (to_device(part, images.device, images.dtype) for part in (linear, offset))
    if images.shape[1] == 1:
        return images * linear[..., None] + offset[..., None]
    return torch.baddbmm(offset, linear, images.flatten(2)).reshape(images.shape)


def _colour_step(linear: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
    matrix = torch.eye(4, dtype=linear.dtype).repeat(len(linear), 1, 1)
    matrix[:, :3, :3] = linear
    if offset is not None:
        matrix[:, :3, 3] = offset[:, None]
    return matrix


# --- Filter, noise, cutout ------------------------------------------------------------------------------------------


def draw_band_gains(pipe: AugmentPipe, draw: _Draws) -> torch.Tensor | None:
    """Gains `[N, 4]` of the octaves, coarsest first; None if the filter is not enabled."""
    if pipe.imgfilter <= 0:
        return None
    gains = torch.ones(draw.count, BANDS, dtype=torch.float64)
    power = torch.tensor(EXPECTED_POWER, dtype=torch.float64)
    for band, multiplier in enumerate(pipe.imgfilter_bands):
        factor = 2 ** draw.gated(draw.normal() * pipe.imgfilter_std, draw.p * pipe.imgfilter * multiplier)
        step = torch.ones_like(gains)
        step[:, band] = factor
        gains = gains * step / (step.square() @ power).sqrt()[:, None]  # keep the expected power
    return gains


def draw_noise_level(pipe: AugmentPipe, draw: _Draws) -> torch.Tensor:
    """Standard deviations `[N, 1, 1, 1]` of the pixel noise."""
    level = draw.gated(draw.half_normal() * pipe.noise_std, draw.p * pipe.noise)
    return level[:, None, None, None]


def add_noise(images: torch.Tensor, level: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Adds normal noise of standard deviation `level` `[N, 1, 1, 1]`; drawn whether the level is 0 or not."""
    device = generator.device if generator is not None else images.device
    noise = torch.randn(images.shape, generator=generator, device=device, dtype=images.dtype)
    return images + to_device(noise, images.device) * to_device(level, images.device, images.dtype)


def draw_cutout_mask(pipe: AugmentPipe, draw: _Draws, width: int, height: int) -> torch.Tensor:
    """Masks `[N, 1, H, W]`: 0 in a rectangle, 1 elsewhere."""
    centre = draw.uniform(2)
    half = draw.gated(torch.full([draw.count], pipe.cutout_size / 2), draw.p * pipe.cutout)
    x, y = (
        (torch.arange(length, dtype=torch.float64) + 0.5) / length - centre[:, axis, None]
        for axis, length in enumerate((width, height))
    )
    inside_x, inside_y = x.abs() < half[:, None], y.abs() < half[:, None]
    return (~(inside_y[:, None, :, None] & inside_x[:, None, None, :])).double()


def _product(matrices: Sequence[torch.Tensor]) -> torch.Tensor | None:
    if not matrices:
        return None
    product = matrices[0]
    for matrix in matrices[1:]:
        product = product @ matrix
    return product


def _is_identity(matrices: torch.Tensor) -> bool:
    return bool((matrices == torch.eye(matrices.shape[-1], dtype=matrices.dtype)).all())
