"""Recognize and open clips: videos with PyAV, animated pictures with Pillow."""

from __future__ import annotations

import os
from pathlib import Path

from facegen.clips.animation import SUFFIXES as ANIMATIONS
from facegen.clips.animation import Animation, is_animated
from facegen.clips.video import SUFFIXES as VIDEOS
from facegen.clips.video import Video
from facegen.files import at_home


def is_clip(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a clip: a video by its name, or a GIF, WebP or PNG of more than one frame.

    Nothing else is said of it: a damaged one is found out when it is read.
    """
    path = at_home(path)
    suffix = path.suffix.lower()
    return suffix in VIDEOS or (suffix in ANIMATIONS and is_animated(path))


def open_clip(path: str | os.PathLike[str]) -> Video | Animation:
    """Open a clip; raises as `Video` and `Animation` do."""
    path = at_home(path)
    return Animation(path) if path.suffix.lower() in ANIMATIONS else Video(path)


def result_suffix(path: str | os.PathLike[str]) -> str:
    """Return the suffix of what is made of a clip: animations stay what they are, videos become mp4."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in ANIMATIONS else ".mp4"
