"""The options of `facegen pack`: what becomes of each picture. `--help` needs no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from facegen.options import Options, option

WIDE = "center-crop-wide"
LABELS = ("json", "folders", "none")


@dataclass(frozen=True)
class PackOptions(Options):
    """How a picture of any size becomes one of the archive: a square whose side is a power of two."""

    width: int | None = option(
        None,
        "Resize to this width in pixels, a power of two.",
        unset="same as the height, or not resized",
        min=4,
        max=4096,
    )
    height: int | None = option(None, "Resize to this height.", unset="as the width", min=1, max=4096)
    transform: str | None = option(
        None,
        "center-crop: cut out the middle square. center-crop-wide: cut out the middle at that width and "
        "height, then add black bars to make a square.",
        choices=("center-crop", WIDE),
        unset="the whole picture",
    )
    resize_filter: str = option("lanczos", "How pictures are resized.", choices=("lanczos", "box"))
    align: bool = option(False, "Find the largest face and turn it upright, as `prepare --crop align` does.", flag=True)
    format: str | None = option(
        None, "File format in the archive.", choices=("png", "jpeg", "webp"), unset="png; jpeg with --quality"
    )
    quality: int | None = option(None, "Quality of JPEG or WebP.", unset="95", min=1, max=100)

    def rules(self) -> Iterable[tuple[bool, str]]:
        side = self.side
        yield (
            side is None or (side >= 4 and side & (side - 1) == 0),
            f"the side is {side} pixels: training needs a power of two (32, 64, 128, ...)",
        )
        if self.transform == WIDE:
            yield None not in (self.width, self.height), f"transform {WIDE} needs --width and --height"
            yield (self.height or 0) <= (self.width or 0), f"transform {WIDE}: the height is at most the width"
        else:
            yield (
                None in (self.width, self.height) or self.width == self.height,
                f"{self.width}x{self.height}: training needs squares; give one side, or --transform {WIDE}",
            )
        yield not (self.align and side is None), "align needs --width, the side of the pictures"
        alone = self.transform is None and self.resize_filter == "lanczos"
        yield alone or not self.align, "align cannot be combined with --transform or --resize-filter"
        yield self.kind != "png" or self.quality is None, "quality is for JPEG and WebP, a PNG keeps every pixel"

    @property
    def side(self) -> int | None:
        """The side of the archive's pictures in pixels; None for that of the source's."""
        return self.width or self.height

    @property
    def kind(self) -> str:
        """The format of the archive's files: `png`, `jpeg` or `webp`."""
        return self.format or ("png" if self.quality is None else "jpeg")
