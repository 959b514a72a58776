"""The stochastic augmentations of ADA (Karras et al. 2020b, "Training Generative Adversarial Networks with Limited
Data", appendix B), differentiable with respect to the images.

The parameters of all augmentations of a batch are drawn on the CPU and merged into one affine transform, one color
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
from facegen.training.augment.strengths import Strengths
from facegen.training.augment.warp import pointing, warp, warp_by, widest_margins
from facegen.training.draws import BatchRandom


class AugmentPipe(nn.Module):
    """Augments each image of a batch on its own; every augmentation happens with probability `multiplier * p`.

    The overall probability `p` is a buffer (1 at first) that ADA moves during training.
    """

    p: torch.Tensor

    def __init__(self, strengths: Strengths) -> None:
        super().__init__()
        self.strengths = strengths
        self.register_buffer("p", torch.ones([]))
        self._known_p: tuple[torch.Tensor, int, float] | None = None

    def forward(
        self, images: torch.Tensor, random: BatchRandom | None = None, *, debug_percentile: float | None = None
    ) -> torch.Tensor:
        """Augment images.

        Args:
            images: float `[N, C, H, W]` in about -1..1, C 1 or 3. Twice differentiable with respect to them.
            random: draws for the images, which may be a part of a batch and get what they would get within the whole
                one. Only pixel noise is each part's own, from PyTorch's global generator, as is all randomness by
                default. The draws do not depend on p.
            debug_percentile: nothing is random: apply every augmentation, each at this quantile (0..1) of its
                distribution.

        Returns:
            Augmented images of the same shape; `images` itself where nothing happens to any of them.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise FacegenError(f"AugmentPipe takes images [N, 1 or 3, H, W], not {list(images.shape)}.")
        random = random or BatchRandom()
        if random.recorded is not None:
            return self._always_the_same(images, random)
        height, width = images.shape[2:]
        strengths, draw = self.strengths, _Draws(len(images), self.probability(), random, debug_percentile)

        inverse = draw_inverse_transform(strengths, draw, width, height)
        if inverse is not None and not _is_identity(inverse):
            images = warp(images, inverse)
        color = draw_color_matrix(strengths, draw)
        if color is not None and not _is_identity(color):
            images = apply_color(images, color)
        gains = draw_band_gains(strengths, draw)
        if gains is not None and not (gains == 1).all():
            images = amplify_bands(images, gains)
        if strengths.noise > 0:
            generator = random.generator() if random.part.count == 1 else None
            images = add_noise(images, draw_noise_level(strengths, draw), generator)
        if strengths.cutout > 0:
            images = images * to_device(draw_cutout_mask(strengths, draw, width, height), images.device, images.dtype)
        return images

    @property
    def can_be_recorded(self) -> bool:
        """Whether a recording (see `generator.recording`) can do all that this pipe does."""
        return self.strengths.imgfilter == self.strengths.noise == self.strengths.cutout == 0

    def _always_the_same(self, images: torch.Tensor, random: BatchRandom) -> torch.Tensor:
        """Augment images by the same operations whatever is drawn, as a recording has to; the result is the same."""
        height, width = images.shape[2:]
        margins = widest_margins(width, height)
        count, dtype = len(images), images.dtype  # what draws later must not hold on to the images

        def draw() -> list[torch.Tensor]:
            draw = _Draws(count, self.probability(), random)
            inverse = draw_inverse_transform(self.strengths, draw, width, height)
            color = draw_color_matrix(self.strengths, draw)
            parts = [] if inverse is None else [*pointing(inverse, width, height, margins)]
            return [part.to(dtype) for part in (*parts, *([] if color is None else [color]))]

        parts = random.on_device(draw, images.device)
        if len(parts) > 1:
            images = warp_by(images, parts[0], parts[1], margins)
        return apply_color(images, parts[-1]) if len(parts) % 2 else images

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
    random: BatchRandom
    percentile: float | None = None

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
        part, generator = self.random.part, self.random.generator()
        return part.of(draw((self.count * part.count, *shape), generator=generator, dtype=torch.float64))

    def half_normal(self) -> torch.Tensor:
        """Absolute value of a standard normal, `[count]`; at a percentile q, erfinv(q)."""
        if self.percentile is not None:
            return torch.full([self.count], self.percentile, dtype=torch.float64).erfinv()
        return self.normal().abs()

    def gated(self, values: torch.Tensor, probability: float, otherwise: float = 0.0) -> torch.Tensor:
        """Keep each image's values with this probability. Draw the values first: the draws' order is part of it."""
        if self.percentile is not None:
            return values if probability > 0 else torch.full_like(values, otherwise)
        closed = self.uniform() >= probability
        return values.masked_fill(closed.reshape(-1, *[1] * (values.ndim - 1)), otherwise)


# --- Geometry -------------------------------------------------------------------------------------------------------


def draw_inverse_transform(strengths: Strengths, draw: _Draws, width: int, height: int) -> torch.Tensor | None:
    """Matrices `[N, 3, 3]` from the result's pixels to the source's (see `warp`); None if no geometry is enabled.

    The paper composes G = A_n ... A_1; this composes its inverse A_1^-1 ... A_n^-1 from the steps' inverses.
    """
    steps = []
    size = torch.tensor([width, height])
    if strengths.xflip > 0:
        flip = draw.gated((2 * draw.uniform()).floor(), draw.p * strengths.xflip)
        sign = 1 - 2 * flip
        steps.append(scale2d(sign, torch.ones_like(sign)))
    if strengths.rotate90 > 0:
        quarters = draw.gated((4 * draw.uniform()).floor(), draw.p * strengths.rotate90)
        steps.append(rotate2d(quarters * (math.pi / 2)))
    if strengths.xint > 0:
        shift = draw.gated((2 * draw.uniform(2) - 1) * strengths.xint_max, draw.p * strengths.xint)
        steps.append(translate2d(-(shift * size).round()))
    if strengths.scale > 0:
        factor = 2 ** draw.gated(draw.normal() * strengths.scale_std, draw.p * strengths.scale)
        steps.append(scale2d(1 / factor, 1 / factor))
    # Two chances to rotate, before and after the stretch, that together have the probability of one.
    rotate_each = 1 - math.sqrt(min(max(1 - draw.p * strengths.rotate, 0), 1))
    if strengths.rotate > 0:
        angle = draw.gated((2 * draw.uniform() - 1) * (math.pi * strengths.rotate_max), rotate_each)
        steps.append(rotate2d(angle))
    if strengths.aniso > 0:
        factor = 2 ** draw.gated(draw.normal() * strengths.aniso_std, draw.p * strengths.aniso)
        steps.append(scale2d(1 / factor, factor))
    if strengths.rotate > 0 and draw.percentile is None:
        angle = draw.gated((2 * draw.uniform() - 1) * (math.pi * strengths.rotate_max), rotate_each)
        steps.append(rotate2d(angle))
    if strengths.xfrac > 0:
        shift = draw.gated(draw.normal(2) * strengths.xfrac_std, draw.p * strengths.xfrac)
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
    """`[N, 3, 3]` that turns the x axis toward the y axis by `angle` `[N]` radians."""
    matrix = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0] = angle.sin()
    matrix[:, 0, 1] = -angle.sin()
    return matrix


# --- Color ----------------------------------------------------------------------------------------------------------

# Projection onto the luma axis (1, 1, 1) / sqrt(3), and the cross product with it.
_LUMA = torch.full((3, 3), 1 / 3, dtype=torch.float64)
_LUMA_CROSS = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)


def draw_color_matrix(strengths: Strengths, draw: _Draws) -> torch.Tensor | None:
    """Matrices `[N, 4, 4]` for the colors (R, G, B, 1); None if no color augmentation is enabled."""
    steps = []
    identity = torch.eye(3, dtype=torch.float64)
    if strengths.brightness > 0:
        offset = draw.gated(draw.normal() * strengths.brightness_std, draw.p * strengths.brightness)
        steps.append(_color_step(identity.repeat(draw.count, 1, 1), offset))
    if strengths.contrast > 0:
        factor = 2 ** draw.gated(draw.normal() * strengths.contrast_std, draw.p * strengths.contrast)
        steps.append(_color_step(factor[:, None, None] * identity))
    if strengths.lumaflip > 0:
        flip = draw.gated((2 * draw.uniform()).floor(), draw.p * strengths.lumaflip)
        steps.append(_color_step(identity - 2 * flip[:, None, None] * _LUMA))
    if strengths.hue > 0:
        angle = draw.gated((2 * draw.uniform() - 1) * (math.pi * strengths.hue_max), draw.p * strengths.hue)
        steps.append(_color_step(rotate_about_luma(angle)))
    if strengths.saturation > 0:
        factor = 2 ** draw.gated(draw.normal() * strengths.saturation_std, draw.p * strengths.saturation)
        steps.append(_color_step(_LUMA + factor[:, None, None] * (identity - _LUMA)))
    return _product(steps[::-1])


def rotate_about_luma(angle: torch.Tensor) -> torch.Tensor:
    """`[N, 3, 3]` that turns colors about the luma axis by `angle` `[N]` (Rodrigues' formula)."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return _LUMA + cos * (torch.eye(3, dtype=angle.dtype) - _LUMA) + sin * _LUMA_CROSS


def apply_color(images: torch.Tensor, color: torch.Tensor) -> torch.Tensor:
    """Apply `[N, 4, 4]` to the colors of `[N, 3, H, W]`. Gray `[N, 1, H, W]` becomes the mean of R, G and B."""
    linear, offset = color[:, :3, :3], color[:, :3, 3:]
    if images.shape[1] == 1:
        linear, offset = linear.sum(2, keepdim=True).mean(1, keepdim=True), offset.mean(1, keepdim=True)
    linear, offset = (to_device(part, images.device, images.dtype) for part in (linear, offset))
    if images.shape[1] == 1:
        return images * linear[..., None] + offset[..., None]
    return torch.baddbmm(offset, linear, images.flatten(2)).reshape(images.shape)


def _color_step(linear: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
    matrix = torch.eye(4, dtype=linear.dtype).repeat(len(linear), 1, 1)
    matrix[:, :3, :3] = linear
    if offset is not None:
        matrix[:, :3, 3] = offset[:, None]
    return matrix


# --- Filter, noise, cutout ------------------------------------------------------------------------------------------


def draw_band_gains(strengths: Strengths, draw: _Draws) -> torch.Tensor | None:
    """Gains `[N, 4]` of the octaves, coarsest first; None if the filter is not enabled."""
    if strengths.imgfilter <= 0:
        return None
    gains = torch.ones(draw.count, BANDS, dtype=torch.float64)
    power = torch.tensor(EXPECTED_POWER, dtype=torch.float64)
    for band, multiplier in enumerate(strengths.imgfilter_bands):
        factor = 2 ** draw.gated(draw.normal() * strengths.imgfilter_std, draw.p * strengths.imgfilter * multiplier)
        step = torch.ones_like(gains)
        step[:, band] = factor
        gains = gains * step / (step.square() @ power).sqrt()[:, None]  # keep the expected power
    return gains


def draw_noise_level(strengths: Strengths, draw: _Draws) -> torch.Tensor:
    """Standard deviations `[N, 1, 1, 1]` of the pixel noise."""
    level = draw.gated(draw.half_normal() * strengths.noise_std, draw.p * strengths.noise)
    return level[:, None, None, None]


def add_noise(images: torch.Tensor, level: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Add normal noise of standard deviation `level` `[N, 1, 1, 1]`; drawn whether the level is 0 or not."""
    device = generator.device if generator is not None else images.device
    noise = torch.randn(images.shape, generator=generator, device=device, dtype=images.dtype)
    return images + to_device(noise, images.device) * to_device(level, images.device, images.dtype)


def draw_cutout_mask(strengths: Strengths, draw: _Draws, width: int, height: int) -> torch.Tensor:
    """Masks `[N, 1, H, W]`: 0 in a rectangle, 1 elsewhere."""
    center = draw.uniform(2)
    half = draw.gated(torch.full([draw.count], strengths.cutout_size / 2), draw.p * strengths.cutout)
    x, y = (
        (torch.arange(length, dtype=torch.float64) + 0.5) / length - center[:, axis, None]
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
