"""Photos before and after as one HTML file: `index.html` in the output folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from facegen import html
from facegen.aging.results import AgedFace
from facegen.errors import FacegenError
from facegen.images import open_photo

PAGE = "index.html"
SIDE = 720  # of a photo on the page, in pixels at most
MAX_PHOTOS = 40  # that are shown; a page of more is slow to open. The others are named
MAX_STRIPS = 12  # of one photo


@dataclass
class ShownPhoto:
    """One photo on the page; its pictures are encoded at once, so that no large one stays in memory.

    folder: where its files are, as seen from the page.
    words: what was found in it.
    is_named_only: none of its pictures are shown.
    before: the photo as it was; None where no whole photo is written.
    """

    name: str
    folder: str
    words: str
    is_named_only: bool = False
    before: html.Embedded | None = None
    ages: list[tuple[str, str, html.Embedded]] = field(default_factory=list)
    strips: list[html.Embedded] = field(default_factory=list)

    def add_before(self, photo: Image.Image) -> None:
        """Show the photo as it was."""
        if not self.is_named_only:
            self.before = html.embed(photo, SIDE)

    def add(self, caption: str, picture: Image.Image, faces: Sequence[AgedFace]) -> None:
        """Show the photo at an age."""
        if not self.is_named_only:
            self.ages.append((caption, reached_in_words(faces), html.embed(picture, SIDE)))

    def add_strip(self, strip: Image.Image) -> None:
        """Show a strip, as long as there are few."""
        if not self.is_named_only and len(self.strips) < MAX_STRIPS:
            self.strips.append(html.embed(strip, None))

    def with_files(self, photo: Path, at_ages: Mapping[str, Path], strips: Sequence[Path]) -> ShownPhoto:
        """Show the files of an earlier run, as far as they can be read.

        Args:
            photo: the photo as it was.
            at_ages: the whole photo at each age, by its caption; maybe none.
            strips: faces at every age.
        """
        if self.is_named_only:
            return self
        with suppress(FacegenError, OSError):
            for caption, path in at_ages.items():
                self.add(caption, open_photo(path), [])
            if at_ages:
                self.add_before(open_photo(photo))
            for path in strips:
                self.add_strip(open_photo(path))
        return self


def reached_in_words(faces: Sequence[AgedFace]) -> str:
    """How old the faces of a photo look now, and how much of the change that took: `looks 58 (strength 1.6)`."""
    told = [face for face in faces if not math.isnan(face.looks)]
    if not told:
        return ""
    looks = ", ".join(f"{face.looks:.0f}" for face in told[:MAX_STRIPS])
    strengths = ", ".join(f"{face.strength:.1f}" for face in told[:MAX_STRIPS])
    return f"{'looks' if len(faces) == 1 else 'they look'} {looks} (strength {strengths})"


def write_index(outdir: Path, photos: Sequence[ShownPhoto], failed: Sequence[str]) -> Path:
    """Write `index.html` into the output folder; return its path."""
    path = outdir / PAGE
    html.write_page(
        path,
        "photos.html",
        heading=photos[0].name if len(photos) == 1 else f"{len(photos)} photos at other ages",
        photos=[photo for photo in photos if not photo.is_named_only],
        others=[photo for photo in photos if photo.is_named_only],
        failed=failed,
    )
    return path
