"""The faces of a photo, outlined and numbered."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from facegen.images import to_rgb

LEAST = 500  # pixels of the longer side of what is drawn on
CHOSEN, OTHER = (255, 176, 0), (128, 128, 128)


def outlined(
    photo: Image.Image,
    boxes: Sequence[tuple[float, float, float, float]],
    captions: Sequence[str],
    chosen: Sequence[int],
) -> Image.Image:
    """Return a photo, enlarged if small, with a box and a caption at each face; gray where a face does not change."""
    scale = max(1, -(-LEAST // max(photo.size)))  # what is written stays small beside the faces of a small photo
    picture = to_rgb(photo).resize((photo.width * scale, photo.height * scale))
    pen = ImageDraw.Draw(picture)
    letters = max(14, max(picture.size) // 40)
    font = ImageFont.load_default(letters)
    width = max(2, max(picture.size) // 300)
    for number, (box, caption) in enumerate(zip(boxes, captions, strict=True)):
        color = CHOSEN if number in chosen else OTHER
        left, top, right, bottom = (side * scale for side in box)
        pen.rectangle((left, top, right, bottom), outline=color, width=width)
        rightmost = picture.width - pen.textlength(caption, font=font) - 2 * width
        place = (max(min(left, rightmost), 0) + 2 * width, max(top - 1.3 * letters, 0))
        pen.rectangle(pen.textbbox(place, caption, font=font), fill=color, outline=color, width=2 * width)
        pen.text(place, caption, fill="black", font=font)
    return picture
