"""Pictures of faces that a person looks at: grids and age strips."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facegen.errors import FacegenError
from facegen.images import save_picture, to_rgb, to_uint8
from facegen.text import shown

if TYPE_CHECKING:
    import torch

BACKGROUND = "white"
INK = (40, 40, 40)
GAP = 2  # pixels between tiles
MIN_TILE = 64  # smaller pictures are enlarged to at least this
MAX_LABEL = 40  # letters of a text in a picture


def to_pixels(images: torch.Tensor) -> np.ndarray:
    """Turn network pictures `[N, C, H, W]`, about -1..1, into uint8 `[N, H, W, C]`."""
    return to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()


def image_grid(
    images: np.ndarray | Sequence[np.ndarray],
    columns: int,
    *,
    column_labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    tile: int | None = None,
) -> Image.Image:
    """Arrange pictures in rows of `columns`; the last row may be shorter.

    Args:
        images: uint8 `[N, H, W, 3]` or `[N, H, W, 1]`.
        column_labels: One short text over each column.
        row_labels: One short text left of each row.
        tile: Pixels per picture; None keeps the pictures' own size, doubled until it is at least 64.
    """
    tiles = [_as_image(image) for image in images]
    if not tiles:
        raise FacegenError("a grid needs at least one picture")
    if columns < 1:
        raise FacegenError(f"a grid needs at least one column, got {columns}")
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    for name, labels, count in (("column", column_labels, columns), ("row", row_labels, rows)):
        if labels is not None and len(labels) != count:
            raise FacegenError(f"{len(labels)} {name} labels for {count} {name}s")

    column_labels, row_labels = _drawable(column_labels), _drawable(row_labels)
    width, height = _tile_size(tiles[0].size, tile)
    font = _font_that_fits(column_labels, width, _font_size(width))
    row_font = ImageFont.load_default(_font_size(width))
    top = _text_size(column_labels, font)[1] + 2 * GAP if column_labels else 0
    left = _text_size(row_labels, row_font)[0] + 4 * GAP if row_labels else 0
    size = (left + columns * (width + GAP) - GAP, top + rows * (height + GAP) - GAP)
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, image in enumerate(tiles):
        row, column = divmod(index, columns)
        place = (left + column * (width + GAP), top + row * (height + GAP))
        canvas.paste(_resize(image, (width, height)), place)
    for column, text in enumerate(column_labels):
        draw.text((left + column * (width + GAP) + width / 2, top / 2), text, INK, font, anchor="mm")
    for row, text in enumerate(row_labels):
        draw.text((left - 2 * GAP, top + row * (height + GAP) + height / 2), text, INK, row_font, anchor="rm")
    return canvas


def save_image_grid(
    images: np.ndarray | Sequence[np.ndarray],
    path: str | os.PathLike[str],
    columns: int,
    *,
    column_labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
) -> Path:
    """Write an `image_grid` to a file, atomically, and return its path."""
    return save_picture(image_grid(images, columns, column_labels=column_labels, row_labels=row_labels), path)


def age_strip(
    pictures: Sequence[Image.Image], captions: Sequence[str], *, tile: int = 160, columns: int = 12
) -> Image.Image:
    """Show one face at several ages, side by side, with captions, in rows of `columns`.

    Args:
        pictures: Square pictures: usually the input, its reconstruction, then every age.
        captions: One per picture.
        tile: Pixels per picture.
    """
    if not pictures or len(pictures) != len(captions):
        raise FacegenError(f"a strip needs one caption per picture: {len(pictures)} pictures, {len(captions)} captions")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    captions = _drawable(captions)
    font = _font_that_fits(captions, tile - 4 * GAP, _font_size(tile))
    caption_height = _text_size(captions, font)[1] + 4 * GAP
    step = (tile + GAP, tile + caption_height)
    canvas = Image.new("RGB", (columns * step[0] - GAP, rows * step[1]), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(index, columns)
        x, y = column * step[0], row * step[1]
        canvas.paste(_resize(to_rgb(picture), (tile, tile)), (x, y))
        draw.text((x + tile / 2, y + tile + caption_height / 2), caption, INK, font, anchor="mm")
    return canvas


def _as_image(image: np.ndarray) -> Image.Image:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise FacegenError(f"pictures are uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))))


def _tile_size(size: tuple[int, int], tile: int | None) -> tuple[int, int]:
    width, height = size
    if tile is not None:
        return tile, max(1, round(height * tile / width))
    factor = 1
    while min(width, height) * factor < MIN_TILE:
        factor *= 2
    return width * factor, height * factor


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _font_size(tile: int) -> int:
    """Letters that stay legible when a strip is shown at half its size."""
    return max(12, round(tile * 0.14))


def _drawable(texts: Sequence[str] | None) -> list[str]:
    """Texts that fonts can draw in little room: strangers name classes."""
    return [shown(text, MAX_LABEL) for text in texts or []]


def _text_size(texts: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    """Width of the widest and height of the tallest text, in pixels."""
    boxes = [font.getbbox(text) for text in texts]
    return math.ceil(max(box[2] for box in boxes)), math.ceil(max(box[3] for box in boxes))


def _font_that_fits(texts: Sequence[str], width: int, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The default font at `size`, smaller when a text would be wider than `width`."""
    while size > 8 and texts and _text_size(texts, ImageFont.load_default(size))[0] > width:
        size -= 1
    return ImageFont.load_default(size)
