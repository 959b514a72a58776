"""The faces of a photo, outlined and numbered."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from facegen.images import to_rgb

CHOSEN, OTHER = (255, 176, 0), (128, 128, 128)


def outlined(
    photo: Image.Image,
    boxes: Sequence[tuple[float, float, float, float]],
    captions: Sequence[str],
    chosen: Sequence[int],
) -> Image.Image:
    """Return a photo with a box around each face and a caption at it; boxes of faces that do not change are gray."""
    picture = to_rgb(photo).copy()
    pen = ImageDraw.Draw(picture)
    letters = max(14, max(photo.size) // 40)
    font = ImageFont.load_default(letters)
    width = max(2, max(photo.size) // 300)
    for number, (box, caption) in enumerate(zip(boxes, captions, strict=True)):
        color = CHOSEN if number in chosen else OTHER
        pen.rectangle(box, outline=color, width=width)
        place = (box[0] + 2 * width, max(box[1] - 1.3 * letters, 0))
        pen.rectangle(pen.textbbox(place, caption, font=font), fill=color, outline=color, width=2 * width)
        pen.text(place, caption, fill="black", font=font)
    return picture
