"""The files that age transfer writes for one photo: the photo at each age, its faces, strips and videos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from facegen.aging.edit import Output, in_file_name
from facegen.aging.paste import paste_results
from facegen.aging.results import FaceResult
from facegen.aging.strips import GrowingStrip
from facegen.aging.video import FPS, morph_length, morph_strip, save_morph, save_video
from facegen.batch.page import ShownPhoto
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate
from facegen.images import turn_upright
from facegen.parallel import map_in_order
from facegen.photos.mark import Mark
from facegen.photos.original import Original
from facegen.photos.save import save_marked, save_photo, suffix_of

LARGE_PHOTO = 16_000_000  # pixels; of larger ones none waits in memory until it is written


def save_results(
    results: Sequence[FaceResult], outdir: str | os.PathLike[str], stem: str, output: Output | None = None
) -> list[Path]:
    """Write each face's aged pictures and its strip; return the paths, each strip after its pictures.

    Files are called `<stem>-face1-<age or group>.png` and `<stem>-face1-strip.png`. With `output.video`,
    `<stem>-face1.<video>` is a video of the face through the ages.
    """
    output, outdir = output or Output(), Path(outdir)
    paths = []
    for number, result in enumerate(results, start=1):
        prefix = f"{stem}-face{number}"
        for face in result.aged:
            mark = _mark(output, [face.caption], generated=True)
            paths.append(save_marked(face.image, outdir / f"{prefix}-{in_file_name(face.caption)}.png", mark))
        mark = _mark(output, [face.caption for face in result.aged], generated=True)
        paths.append(save_marked(result.strip(), outdir / f"{prefix}-strip.png", mark))
        if output.video is not None:
            path = outdir / f"{prefix}.{output.video}"
            fps = FPS[path.suffix.lower()]
            total = morph_length(max(2, len(result.aged)), fps)  # from the reconstruction to a single age
            paths.append(save_video(morph_strip(result, fps), path, fps, total=total, progress=True, mark=mark))
    return paths


def save_photos(
    original: Original,
    results: Sequence[FaceResult],
    outdir: str | os.PathLike[str],
    stem: str,
    output: Output | None = None,
    *,
    template: AlignmentTemplate = UTKFACE_TEMPLATE,
    shown: ShownPhoto | None = None,
    progress: bool = False,
) -> list[Path]:
    """Write `<stem>-age45.jpg`, ...: the photo with all its faces at each age, as the kind of file it is; the paths.

    Each face has a strip, `<stem>-face1-photo-strip.png`, cut from these photos in their own resolution. With
    `output.video`, `<stem>-ages.<video>` is the photo on its way through the ages; to a single age it starts from the
    photo as it is.

    Args:
        results, template: See `paste_results`.
        shown: Takes the photos for a page.
        progress: Show a bar for the video.
    """
    output, photo, paths = output or Output(), original.image, []
    prefix = str(Path(outdir) / stem)
    strips = [GrowingStrip(photo, result, len(results)) for result in results]

    def pasted() -> Iterator[tuple[str, Image.Image]]:
        for index, (caption, picture) in enumerate(paste_results(photo, results, output.paste_back, template=template)):
            for strip in strips:
                strip.add(picture)
            if shown is not None:
                shown.add(caption, picture, [result.aged[index] for result in results])
            yield caption, picture

    def save(captioned: tuple[str, Image.Image]) -> tuple[Path, Image.Image]:
        return _save_at(original, *captioned, prefix, output, len(results)), captioned[1]

    def written() -> Iterator[Image.Image]:
        if len(results[0].aged) == 1:
            yield turn_upright(photo)
        ahead = 1 if photo.width * photo.height <= LARGE_PHOTO else 0
        for path, picture in map_in_order(save, pasted(), ahead=ahead, threads=1):
            paths.append(path)
            yield picture

    if output.video is None:
        for _ in written():
            pass
    else:
        mark = _mark(output, [face.caption for face in results[0].aged], len(results))
        paths.append(save_morph(written(), f"{prefix}-ages.{output.video}", progress=progress, mark=mark))
    return paths + _save_strips([strip.picture() for strip in strips], results, prefix, output, shown)


def _save_at(original: Original, caption: str, picture: Image.Image, prefix: str, output: Output, faces: int) -> Path:
    """Write a photo at one age."""
    return save_photo(
        picture,
        f"{prefix}-{in_file_name(caption)}{suffix_of(original, output.format)}",
        original,
        kind=output.format,
        strip_metadata=output.strip_metadata,
        mark=_mark(output, [caption], faces),
    )


def _save_strips(
    strips: Sequence[Image.Image],
    results: Sequence[FaceResult],
    prefix: str,
    output: Output,
    shown: ShownPhoto | None,
) -> list[Path]:
    """Write the strip of every face."""
    paths = []
    for number, (strip, result) in enumerate(zip(strips, results, strict=True), start=1):
        mark = _mark(output, [face.caption for face in result.aged])
        paths.append(save_marked(strip, f"{prefix}-face{number}-photo-strip.png", mark))
        if shown is not None:
            shown.add_strip(strip)
    return paths


def _mark(output: Output, ages: Sequence[str], faces: int = 1, *, generated: bool = False) -> Mark | None:
    """What a picture says of how it was made; nothing where that is not wanted."""
    return None if output.no_mark else Mark(tuple(ages), faces, generated)
