"""The pictures that age transfer writes of one photo: the photo at each age, its faces, strips and videos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from facegen.aging.edit import Output
from facegen.aging.page import ShownPhoto
from facegen.aging.paste import paste_results
from facegen.aging.results import FaceResult
from facegen.aging.strips import face_tile, strip_of_tiles, tile_side
from facegen.aging.video import FPS, check_video, morph_length, morph_strip, save_morph, save_video
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate
from facegen.figures.grids import save_picture
from facegen.images import turn_upright
from facegen.parallel import map_in_order

LARGE_PHOTO = 16_000_000  # pixels; of larger ones none waits in memory until it is written


def save_results(results: Sequence[FaceResult], outdir: str | os.PathLike[str], stem: str) -> list[Path]:
    """Write each face's aged pictures and its strip; the paths, the strip of a face after its pictures.

    Files are called `<stem>-face1-<age or group>.png` and `<stem>-face1-strip.png`.
    """
    paths = []
    for number, result in enumerate(results, start=1):
        prefix = f"{stem}-face{number}"
        for face in result.aged:
            paths.append(save_picture(face.image, Path(outdir) / f"{prefix}-{_in_name(face.caption)}.png"))
        paths.append(save_picture(result.strip(), Path(outdir) / f"{prefix}-strip.png"))
    return paths


def save_morphs(
    results: Sequence[FaceResult], outdir: str | os.PathLike[str], stem: str, kind: str, *, progress: bool = False
) -> list[Path]:
    """Write `<stem>-face1.<kind>`, ... (mp4 or gif): each face of a photo on its way through the ages; the paths."""
    paths = []
    for number, result in enumerate(results, start=1):
        path = Path(outdir) / f"{stem}-face{number}.{kind}"
        check_video(path)
        fps = FPS[path.suffix.lower()]
        total = morph_length(max(2, len(result.aged)), fps)  # from the reconstruction to a single age
        paths.append(save_video(morph_strip(result, fps), path, fps, total=total, progress=progress))
    return paths


def save_photos(
    photo: Image.Image,
    results: Sequence[FaceResult],
    outdir: str | os.PathLike[str],
    stem: str,
    output: Output | None = None,
    *,
    template: AlignmentTemplate = UTKFACE_TEMPLATE,
    shown: ShownPhoto | None = None,
    progress: bool = False,
) -> list[Path]:
    """Write `<stem>-age45.png`, ...: the photo with all its faces at each age, in its own size; the paths.

    Each face has a strip, `<stem>-face1-photo-strip.png`, cut from these photos in their own resolution. With
    `output.video`, `<stem>-ages.<video>` is the photo on its way through the ages; to a single age it starts from the
    photo as it is.

    Args:
        photo, results, template: See `paste_results`.
        shown: Takes the photos for a page.
        progress: Show a bar for the video.
    """
    output, outdir = output or Output(), Path(outdir)
    sides = [tile_side(result, len(results)) for result in results]
    tiles = [[face_tile(photo, result, side)] for result, side in zip(results, sides, strict=True)]
    paths = []

    def pasted() -> Iterator[tuple[str, Image.Image]]:
        for index, (caption, picture) in enumerate(paste_results(photo, results, output.paste_back, template=template)):
            for of_face, result, side in zip(tiles, results, sides, strict=True):
                of_face.append(face_tile(picture, result, side))
            if shown is not None:
                shown.add(caption, picture, [result.aged[index] for result in results])
            yield caption, picture

    def save(captioned: tuple[str, Image.Image]) -> tuple[Path, Image.Image]:
        caption, picture = captioned
        return save_picture(picture, outdir / f"{stem}-{_in_name(caption)}.png"), picture

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
        paths.append(save_morph(written(), outdir / f"{stem}-ages.{output.video}", progress=progress))
    for number, (result, of_face) in enumerate(zip(results, tiles, strict=True), start=1):
        strip = strip_of_tiles(of_face, result)
        paths.append(save_picture(strip, outdir / f"{stem}-face{number}-photo-strip.png"))
        if shown is not None:
            shown.add_strip(strip)
    return paths


def _in_name(caption: str) -> str:
    return caption.replace(" ", "")
