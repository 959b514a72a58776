"""The files that age transfer writes: pictures and strips of faces, whole photos, videos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tqdm import tqdm

from facegen.aging.change import UNDERSTOOD
from facegen.aging.edit import ALL, PASTE_MODES, Edit, Request
from facegen.aging.paste import paste_results
from facegen.aging.video import FPS, check_video, morph_length, morph_strip, save_morph, save_video
from facegen.container import is_image_name
from facegen.errors import FacegenError
from facegen.faces.find import open_photo
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate
from facegen.figures.grids import save_picture
from facegen.files import at_home
from facegen.images import turn_upright
from facegen.photos.original import open_original
from facegen.status import say

if TYPE_CHECKING:
    from facegen.aging.results import FaceResult
    from facegen.aging.transfer import AgeTransfer


def photos_in(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return photo files, and in the place of each folder the pictures in it, sorted; those in its folders stay out.

    Raises a FacegenError for a folder without pictures.
    """
    photos = []
    for path in map(at_home, paths):
        found = [path]
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if is_image_name(p.name) and p.name[0] != "." and p.is_file())
        if not found:
            raise FacegenError(f"{path}: no pictures in this folder")
        photos += found
    return photos


def save_all(
    transfer: AgeTransfer,
    photos: Sequence[Path],
    outdir: Path,
    request: Request,
    edit: Edit,
    *,
    paste_back: str | None = None,
    video: str | None = None,
) -> Iterator[list[Path] | Exception]:
    """Age the faces in photo files; of each photo in turn, the paths of its pictures, or why there are none.

    What was found in a photo, several faces or the age that a face looks, is said on stderr.

    Raises a FacegenError for what is wrong for every photo.

    Args:
        transfer: Ages the faces.
        photos: Files.
        outdir: The folder to write to.
        request: Which faces, and at which ages.
        edit: How ages are changed.
        paste_back: `change` or `face`: write the whole photo at each age, too, see `facegen.aging.paste`.
        video: `mp4` or `gif`: write a video of each face, too, and with `paste_back` of the photo.
    """
    if paste_back != PASTE_MODES[0]:  # the strength is of no use: to find it takes a quarter of the time
        edit = replace(edit, strength=1.0)
    ages, age = ALL if request.ages is None else request.ages, request.input_age
    transfer.check(ages, input_ages=age, edit=edit)
    with tqdm(list(zip(photos, unique_stems(photos), strict=True)), unit="photo", disable=len(photos) < 2) as bar:
        for photo, stem in bar:
            try:
                picture = open_photo(photo) if paste_back is None else open_original(photo).image
                results = transfer.age_faces(picture, ages, input_age=age, faces=request.face, edit=edit, progress=True)
                if not results:
                    raise FacegenError(f"{photo}: no face found")
                if words := found_in_words(results):
                    say(f"{photo}: {words}", err=True)
                if paste_back == PASTE_MODES[0] and (number := not_understood(results)):
                    say(f"{photo}: face {number} is not understood well: it hardly changes", err=True)
                paths = save_results(results, outdir, stem)
                if video is not None:
                    paths += save_morphs(results, outdir, stem, video, progress=True)
                if paste_back is not None:
                    template = transfer.template
                    paths += save_pasted(
                        picture, results, outdir, stem, paste_back, template=template, video=video, progress=True
                    )
                yield paths
            except (FacegenError, OSError) as error:
                yield error


def not_understood(results: Sequence[FaceResult]) -> str:
    """The numbers of faces of which the generator's picture is so far from the photo that they hardly change."""
    return ", ".join(str(n) for n, result in enumerate(results, start=1) if result.understood < UNDERSTOOD)


def found_in_words(results: Sequence[FaceResult]) -> str:
    """`looks 73`, `3 faces look 41, 38, 7 (largest first)`, `3 faces`; empty for one face whose age was given."""
    estimated = ", ".join(f"{result.input_age:.0f}" for result in results if result.age_is_estimated)
    if len(results) == 1:
        return estimated and f"looks {estimated}"
    return f"{len(results)} faces look {estimated} (largest first)" if estimated else f"{len(results)} faces"


def save_results(results: Sequence[FaceResult], outdir: str | os.PathLike[str], stem: str) -> list[Path]:
    """Write each face's aged pictures and its strip; the paths, the strip of a face after its pictures.

    Files are called `<stem>-face1-<age or group>.png` and `<stem>-face1-strip.png`.
    """
    paths = []
    for number, result in enumerate(results, start=1):
        prefix = f"{stem}-face{number}"
        for face in result.aged:
            name = f"{prefix}-{face.caption.replace(' ', '')}.png"
            paths.append(save_picture(face.image, Path(outdir) / name))
        paths.append(save_picture(result.strip(), Path(outdir) / f"{prefix}-strip.png"))
    return paths


def unique_stems(photos: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for the pictures of each photo: its stem, numbered where another photo has the same.

    Letter case does not tell two names apart, as on some file systems.
    """
    taken: set[str] = set()
    stems = []
    for photo in photos:
        base = stem = Path(photo).stem
        number = 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{base}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


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


def save_pasted(
    photo: Image.Image,
    results: Sequence[FaceResult],
    outdir: str | os.PathLike[str],
    stem: str,
    mode: str = "change",
    *,
    template: AlignmentTemplate = UTKFACE_TEMPLATE,
    video: str | None = None,
    progress: bool = False,
) -> list[Path]:
    """Write `<stem>-age45.png`, ...: the photo with all its faces at each age, in its own size; the paths.

    Args:
        photo, results, mode, template: See `paste_results`.
        video: `mp4` or `gif`: write `<stem>-ages.<video>` as well, the photo on its way through the ages; to a single
            age it starts from the photo as it is.
        progress: Show a bar for the video.
    """
    paths = []

    def saved() -> Iterator[Image.Image]:
        if len(results[0].aged) == 1:
            yield turn_upright(photo)
        for caption, picture in paste_results(photo, results, mode, template=template):
            paths.append(save_picture(picture, Path(outdir) / f"{stem}-{caption.replace(' ', '')}.png"))
            yield picture

    if video is None:
        for _ in saved():
            pass
        return paths
    path = save_morph(saved(), Path(outdir) / f"{stem}-ages.{video}", progress=progress)
    return [*paths, path]
