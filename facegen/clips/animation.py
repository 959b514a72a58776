"""Animated GIF, WebP and PNG, in and out, by Pillow. All frames of a result are in memory until it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from PIL import Image, ImageSequence

from facegen import images
from facegen.clips import frames as bounds
from facegen.clips.frames import Frame
from facegen.clips.gif import GifFrames
from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.photos.mark import Mark, marked
from facegen.photos.notes import for_saving, read_notes
from facegen.reading import read_bytes

SUFFIXES = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}
MAX_MEMORY = 600 * 1024**2  # of all frames of a result; videos have no such bound
BYTES = {".gif": 1, ".webp": 4, ".png": 4}  # for a pixel of a frame that waits to be written
DURATION = 100  # milliseconds of a frame that says nothing; browsers take them, too
WEBP_QUALITY = 90


def is_animated(path: Path) -> bool:
    """Tell whether a picture has more than one frame; False for what is no picture."""
    try:
        with _opened(path, read_bytes(path)) as image:
            return getattr(image, "n_frames", 1) > 1
    except (FacegenError, OSError):
        return False


class Animation:
    """An animated picture.

    Raises a FacegenError if it is not one, if frames exceed MAX_PIXELS, or if a result would exceed MAX_MEMORY.

    Attributes:
        size: width and height of a frame.
        count: how many frames there are.
        notes: remarks for the user, in words.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._suffix = path, path.suffix.lower()
        self.notes: list[str] = []
        self._data = read_bytes(path)
        with _opened(path, self._data) as image:
            self.size, self.count = image.size, getattr(image, "n_frames", 1)
            self._loop = {"loop": image.info["loop"]} if "loop" in image.info else {}
            image.load()
            self._notes = read_notes(image, image)
        pixels = self.size[0] * self.size[1]
        if pixels > bounds.MAX_PIXELS:
            raise FacegenError(f"{path}: frames of {self.size[0]}x{self.size[1]} pixels: make them smaller")
        if pixels * self.count * BYTES[self._suffix] > MAX_MEMORY:
            raise FacegenError(f"{path}: {self.count} frames of this size are too many: make it a video (mp4)")

    def frames(self) -> Iterator[Frame]:
        """All frames in their order; raises a FacegenError at one that is damaged."""
        ticks = 0
        with _opened(self.path, self._data) as image:
            for part in ImageSequence.Iterator(image):
                picture = part.convert("RGBA" if part.has_transparency_data else "RGB")
                duration = round(part.info.get("duration") or DURATION)  # WebP says it when it is decoded
                picture.info = {}
                yield Frame(picture, ticks, ticks / 1000, duration)
                ticks += duration

    @contextmanager
    def writing(
        self, path: Path, mark: Mark | None = None, *, strip_metadata: bool = False
    ) -> Iterator[Callable[[Frame, Image.Image], None]]:
        """Give a function that takes each frame and what became of it; the file is written when the block ends well.

        A GIF has few colors: those that the clip has outside of the faces stay, see `facegen.clips.gif`.
        """
        gif, pictures, durations = GifFrames(), list[Image.Image](), list[int]()

        def add(frame: Frame, picture: Image.Image) -> None:
            pictures.append(gif.indexed(frame.picture, picture) if self._suffix == ".gif" else picture)
            durations.append(frame.duration)

        yield add
        if not pictures:
            return
        kind = SUFFIXES[self._suffix]
        notes = marked(self._notes.stripped() if strip_metadata else self._notes, mark)
        is_one = len(pictures) == 1  # after Ctrl-C, and Pillow then takes no lists
        options = for_saving(kind, notes) | self._loop | {"duration": durations[0] if is_one else durations}
        if kind == "GIF":
            options |= {"disposal": gif.disposals[0] if is_one else gif.disposals, "optimize": False}
        elif kind == "WEBP":
            options["quality"] = WEBP_QUALITY
        with atomic_path(path) as temporary:
            pictures[0].save(temporary, kind, save_all=True, append_images=pictures[1:], **options)


def _opened(path: Path, data: bytes) -> AbstractContextManager[Image.Image]:
    """A GIF has a part for every 255 bytes, and is gone through twice."""
    return images.opened(data, str(path), max_parts=images.MAX_READS + len(data) // 32)
