"""Turn any picture into one for the archive, or give the reason why it cannot be used."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from PIL import Image

from facegen import images as pictures
from facegen.data.crops import Cropped, crop_pictures, not_decoded
from facegen.data.options import CropOptions
from facegen.data.packing.options import WIDE, PackOptions
from facegen.data.sources import Skipped
from facegen.errors import FacegenError

DEFAULT_QUALITY = 95
_FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}


def pack_pictures(
    names: Sequence[str], read: Callable[[str], bytes], options: PackOptions, side: int
) -> list[Cropped | Skipped]:
    """Make files of the archive of pictures; one result for each, in order. May be called from several threads.

    Args:
        read: gives the bytes of a picture, or raises the FacegenError that they are unreadable.
        side: of the archive's pictures, in pixels.
    """
    if not options.align:
        return [_pack(name, read, options, side) for name in names]
    found = crop_pictures(names, read, CropOptions(crop="align", resolution=side))
    if options.kind == "png":
        return found
    return [
        outcome
        if isinstance(outcome, Skipped)
        else replace(outcome, png=encode(pictures.decode(outcome.png, outcome.name), options))
        for outcome in found
    ]


def encode(image: Image.Image, options: PackOptions) -> bytes:
    """The picture as the bytes of a file of the archive."""
    if options.kind == "png":
        return pictures.encode_png(image)
    buffer = io.BytesIO()
    # Colors at full size: at half, those of a small picture bleed into their neighbors.
    more = {"subsampling": 0} if options.kind == "jpeg" else {}
    image.save(buffer, options.kind, quality=options.quality or DEFAULT_QUALITY, **more)
    return buffer.getvalue()


def _pack(name: str, read: Callable[[str], bytes], options: PackOptions, side: int) -> Cropped | Skipped:
    try:
        data = read(name)
        with pictures.opened(data, name) as file, pictures.in_turn(file, data):
            notes = pictures.oddities(file, name)
            made = _transformed(name, pictures.upright(file), options, side)
    except FacegenError as error:
        return not_decoded(name, error)
    if isinstance(made, Skipped):
        return made
    image, more = made
    return Cropped(name, hashlib.sha256(data).hexdigest(), None, (*notes, *more), encode(image, options))


def _transformed(
    name: str, image: Image.Image, options: PackOptions, side: int
) -> tuple[Image.Image, list[str]] | Skipped:
    """A square of `side` pixels, in the picture's mode, and what a person should know of it."""
    resize = partial(Image.Image.resize, resample=_FILTERS[options.resize_filter])
    if options.transform == WIDE:
        height = options.height or side
        rows = height * image.width / side  # of the picture, across its whole width
        if image.width < side or image.height < rows:
            return Skipped(name, "too small", f"{image.width}x{image.height} pixels, for {side}x{height}")
        top = (image.height - rows) / 2
        canvas = Image.new(image.mode, (side, side))
        middle = resize(image, (side, height), box=(0, top, image.width, top + rows))
        canvas.paste(middle, (0, (side - height) // 2))
        return canvas, []
    if options.transform is not None:
        image = pictures.center_square(image)
    if image.size == (side, side):
        return image, []
    if options.side is None:
        size = f"{image.width}x{image.height} pixels, the others {side}x{side}"
        return Skipped(name, "another size", f"{size}; --width {side} resizes")
    notes = ["stretched to a square"] if image.width != image.height else []
    return resize(image, (side, side)), [*notes, *(["enlarged"] if min(image.size) < side else [])]
