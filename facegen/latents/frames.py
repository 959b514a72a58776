"""Frames, and the video of them: what every walk through the latent space writes.

A few megabytes of frames are drawn, then written, then the next ones: drawing and encoding at once slow each other
down. Only a GIF's wait in memory until the end.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from facegen.aging.video import check_video, save_video, why_no_mp4
from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.latents.generate import as_image
from facegen.latents.options import VideoOptions
from facegen.parallel import map_in_order
from facegen.photos.mark import Mark
from facegen.status import say

FOLDER = "frames"
BURST = 4 * 1024**2  # bytes of frames that wait to be written
SMALL = 128 * 128  # pixels of a frame that is stored as it is: packing it takes long beside drawing it
_NAME = re.compile(r"frame\d{4,}\.png")


def check_frames(options: VideoOptions, outdir: str | os.PathLike[str]) -> None:
    """Raise a FacegenError if these files cannot be written, such as for a missing encoder; ask before long work.

    Where the video is to be what can be written, and that is a GIF, a note says so.
    """
    if options.video == "none" and not options.keep_frames:
        raise FacegenError("nothing to write: neither a video (--video none) nor frames (--keep-frames=false)")
    if options.video == "auto" and (reason := why_no_mp4()):
        say(f"Note: the video is a GIF, as {reason}", err=True)
    elif options.video != "none":
        check_video(Path(outdir) / f"walk.{_kind(options)}")


def _kind(options: VideoOptions) -> str:
    """The kind of video that is written: mp4, gif or none."""
    if options.video != "auto":
        return options.video
    return "gif" if why_no_mp4() else "mp4"


def save_frames(
    frames: Iterable[np.ndarray],
    total: int,
    outdir: str | os.PathLike[str],
    name: str,
    options: VideoOptions,
    made: str,
) -> list[Path]:
    """Write pictures as `frames/frame0000.png`, ... and as a video; return the paths: the video's, and the folder's.

    Frames of an earlier run are removed first, so that the folder never holds frames of two.

    Args:
        frames: uint8 `[H, W, C]`, taken one by one.
        total: how many there are.
        name: of the video, without a suffix.
        made: what the files say that they show, see `Mark`.
    """
    outdir, mark, kind = Path(outdir), Mark(generated=True, made=made), _kind(options)
    pictures: Iterable[Image.Image] = (as_image(frame) for frame in _in_bursts(frames))
    paths = []
    if options.keep_frames:
        pictures = _written(pictures, outdir / FOLDER)
    if kind != "none":
        path = outdir / f"{name}.{kind}"
        paths.append(save_video(pictures, path, options.fps, total=total, progress=True, mark=mark, bounces=False))
    else:
        for _ in tqdm(pictures, desc=FOLDER, total=total, unit="frame", disable=None):
            pass
    return [*paths, *([outdir / FOLDER] if options.keep_frames else [])]


def _in_bursts(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Draw as many frames as BURST holds before they are written: drawing and encoding at once slow each other down."""
    rest = iter(frames)
    for first in rest:
        yield from [first, *islice(rest, BURST // first.nbytes)]


def _written(pictures: Iterable[Image.Image], folder: Path) -> Iterator[Image.Image]:
    """Hand pictures on while threads write each to a file of its own."""
    numbered = enumerate(pictures)
    first = next(numbered, None)  # drawing may fail: until then, the frames of an earlier run stay
    if first is not None:
        _empty(folder)
        yield from map_in_order(lambda frame: _write(folder, *frame), chain([first], numbered))


def _write(folder: Path, number: int, picture: Image.Image) -> Image.Image:
    """Write a frame: with little compression and no waiting for the disk, which would take longer than drawing it."""
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=0 if picture.width * picture.height <= SMALL else 1)
    with atomic_path(folder / f"frame{number:04d}.png", quick=True) as temporary:
        temporary.write_bytes(png.getvalue())
    return picture


def _empty(folder: Path) -> None:
    """Make a folder for frames, and remove those in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name):
            path.unlink()
