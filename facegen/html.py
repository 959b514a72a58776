"""Pages for people: one HTML file each, with its pictures inside. A page runs no script and loads nothing.

The pages are the templates in `facegen/templates`. Names of files, groups and systems come from strangers, so whatever
a template prints is made visible and escaped.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageOps

import facegen
from facegen.files import atomic_path
from facegen.images import to_rgb, upright_to_cut
from facegen.text import shorten, visible

if TYPE_CHECKING:
    import jinja2


def write_page(path: str | os.PathLike[str], template: str, **values: Any) -> None:
    """Fill a template and write the page, whole or not at all.

    Args:
        template: A file in `facegen/templates`.
        values: What the template names.
    """
    values = {"version": facegen.__version__, "now": datetime.now(timezone.utc), **values}
    page = templates().get_template(template).render(values)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


@cache
def templates() -> jinja2.Environment:
    """The templates, with escaping and the filters of this module."""
    import jinja2  # only who writes a page waits for it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("facegen"),
        autoescape=True,
        finalize=printed,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: list[Callable[..., Any]] = [cut, embed, number, share, short]
    environment.filters.update({function.__name__: function for function in filters})
    return environment


def printed(value: object) -> object:
    """Any value as visible text, which the template escapes; HTML that a template has made stays as it is."""
    return value if hasattr(value, "__html__") else visible(str(value))


def cut(value: object, limit: int = 1000) -> str:
    """Any value as text of at most `limit` characters, the middle of a longer one left out."""
    return shorten(str(value), limit)


def number(value: int) -> str:
    """`21314` as `21,314`."""
    return f"{value:,d}"


def short(value: float | None) -> str:
    """A number to four digits; nothing for None."""
    return "" if value is None else f"{round(value, 10):.4g}"


def share(part: int, whole: int) -> str:
    """`part` of `whole` in percent, in a way that few are not none and most are not all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    is_round = percent in {0, 100} or 10 <= percent <= 90
    return f"{percent:.0f} %" if is_round else f"{percent:.1f} %"


class Embedded(NamedTuple):
    """A picture inside a page: its data as an address, and its size in pixels."""

    url: str
    width: int
    height: int


def embed(image: Image.Image, side: int | None = 256) -> Embedded:
    """Encode a picture for a page, shrunk to at most `side` pixels in width and height; None keeps its size."""
    image = upright_to_cut(image)
    if side is not None and max(image.size) > side:
        image = ImageOps.contain(image, (side, side), Image.Resampling.LANCZOS)
    image = to_rgb(image)  # after it has become small: a photo of 100 megapixels takes 400 MB
    buffer = io.BytesIO()
    # A JPEG's blocks would be half of a tiny picture, which costs little as it is.
    kind = "png" if max(image.size) <= 32 else "jpeg"
    image.save(buffer, kind, quality=90, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Embedded(f"data:image/{kind};base64,{data}", image.width, image.height)


def ticks(low: float, high: float, least: float = 0) -> list[float]:
    """Two to seven round numbers that take in everything from `low` to `high`, at least `least` apart."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = max(next(step for factor in (1, 2, 5, 10) if (step := factor * power) * 5 >= span), least)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]
