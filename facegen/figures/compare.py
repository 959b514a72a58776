"""Two pictures on top of each other, with a slider that shows more of one or the other, for notebooks."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from facegen.errors import FacegenError
from facegen.html import Embedded, embed

SIDE = 480  # pixels of the longer side

# One script of one line, in the slider itself, so that a notebook's outputs keep it. It works without a network and
# without a kernel: in a file that somebody opens, too.
_HTML = """\
<div style="position:relative;width:{width}px;max-width:100%;line-height:0">
<img src="{after}" alt="after" style="width:100%">
<img src="{before}" alt="before" style="position:absolute;left:0;top:0;width:100%;clip-path:inset(0 50% 0 0)">
<input type="range" min="0" max="100" value="50" aria-label="how much of the photo is shown as it was"
 oninput="this.previousElementSibling.style.clipPath='inset(0 '+(100-this.value)+'% 0 0)'"
 style="width:100%;margin:8px 0">
</div>"""


@dataclass(frozen=True)
class Comparison:
    """What `before_after` gives: a notebook shows it as a slider; `html` is the same as text."""

    before: Embedded
    after: Embedded

    @property
    def html(self) -> str:
        """A piece of HTML with both pictures inside; it loads nothing."""
        return _HTML.format(width=self.after.width, before=self.before.url, after=self.after.url)

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"before and after, {self.after.width}x{self.after.height}"  # not the pictures as text


def before_after(before: Image.Image, after: Image.Image, side: int = SIDE) -> Comparison:
    """Lay a photo over what it became, with a slider between the two.

    Args:
        before, after: of one size.
        side: pixels of the longer side; larger pictures are shrunk.

    Example:
        >>> from PIL import Image
        >>> comparison = before_after(Image.new("RGB", (64, 48)), Image.new("RGB", (64, 48), "red"))
        >>> comparison.html.count("data:image/jpeg")
        2
    """
    if before.size != after.size:
        raise FacegenError(f"before and after are pictures of one size, got {before.size} and {after.size}")
    return Comparison(embed(before, side), embed(after, side))
