"""One photo that a visitor works on. Its faces are found, encoded and drawn at many ages once: then moves are quick.

Between two of these ages the face is blended from both. The page shows a smaller photo; downloads are in full size.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from facegen.aging.edit import Edit, group_of
from facegen.aging.paste import paste_results
from facegen.aging.refine import Report
from facegen.aging.results import AgedFace, FaceResult, doubts_in_words
from facegen.aging.strips import photo_strip
from facegen.aging.transfer import AgeTransfer
from facegen.aging.video import save_morph
from facegen.app.part import around, whole
from facegen.app.upload import open_upload
from facegen.batch.save import save_photos
from facegen.errors import FacegenError
from facegen.faces.find import find_faces
from facegen.photos.mark import Mark
from facegen.photos.save import save_marked

AGES = tuple(range(5, 96, 5))  # drawn ahead
EDITOR_AGES = AGES[::2]  # its changes are as large as the face in the photo: up to 2.4 MB each
STRIP_AGES = (5, 15, 25, 35, 45, 55, 65, 75, 85)
MAX_FACES = 8  # the largest ones; others stay as they are
PREVIEW = 1024  # pixels of the longer side of what the page shows


class Stopped(Exception):
    """The visitor does not want the result any more."""


@dataclass(frozen=True)
class Settings:
    """How a photo is changed.

    edit: method, what is held, refinement, strength.
    input_ages: the age of each face in years, largest face first; None: as estimated.
    chosen: which faces change, counted from 0; None: all.
    """

    edit: Edit = field(default_factory=Edit)
    input_ages: tuple[float, ...] | None = None
    chosen: tuple[int, ...] | None = None

    @property
    def drawing(self) -> Settings:
        """What the faces have to be drawn anew for; the rest only decides how they go into the photo."""
        return Settings(replace(self.edit, strength=None), self.input_ages)


@dataclass(frozen=True)
class Drawn:
    """The faces of a photo at AGES, and the settings that they were drawn with."""

    settings: Settings
    results: list[FaceResult]


class PhotoSession:
    """A photo that was uploaded, and what was made of it.

    Args:
        transfer: shared by all visitors.
        path: the uploaded file.

    Attributes:
        name: of the file, without its suffix.
        input_ages: how old each face looks, largest first.
        latents: what the encoder made of each face, see `FaceResult.latent`.

    Raises:
        FacegenError: the file is too large or no photo, or shows no face.
    """

    def __init__(self, transfer: AgeTransfer, path: str | os.PathLike[str]) -> None:
        self._transfer = transfer
        self.name = Path(path).stem
        photo = open_upload(path).image
        self._faces = find_faces(photo)[:MAX_FACES]
        if not self._faces:
            raise FacegenError("No face found. Take a photo with a larger face that looks at the camera.")
        self._whole = whole(photo, PREVIEW)
        self._part = around(photo, [face.box for face in self._faces], PREVIEW)
        self._stop, self._drawing = threading.Event(), threading.Lock()
        self._drawn = self._draw(photo, Settings())
        self.input_ages = tuple(result.input_age for result in self._drawn.results)
        self.latents = [result.latent for result in self._drawn.results]
        # The whole photo is opened again when it is needed: as pixels, those of all visitors would fill the memory.
        self._folder = Path(tempfile.mkdtemp(prefix="facegen-photo-"))
        self._file = Path(shutil.copy(path, self._folder))
        self._made = self._folder / "made"
        self._made.mkdir()
        # Also where nobody calls `close`, as for the oldest of too many visitors.
        self._delete = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def _draw(self, photo: Image.Image, settings: Settings, progress: bool | Report = False) -> Drawn:
        edit = settings.drawing.edit
        ages = EDITOR_AGES if self._transfer.method(edit) == "editor" else AGES
        (results,) = self._transfer.age_found(
            [photo], [self._faces], ages, input_age=settings.input_ages, edit=edit, progress=progress
        )
        return Drawn(settings.drawing, results)

    @property
    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Left, top, right, bottom of each face in `small`, in pixels."""
        return [self._whole.box_of(face.box) for face in self._faces]

    @property
    def small(self) -> Image.Image:
        """The photo as it is, as large as the page shows it."""
        return self._whole.picture

    @property
    def before(self) -> Image.Image:
        """The part of the photo that `preview` shows, as it is."""
        return self._part.picture

    @property
    def shows_part(self) -> bool:
        """Whether that is not all of the photo."""
        return self._part.scale != self._whole.scale or self._part.picture.size != self._whole.picture.size

    def is_drawn(self, settings: Settings) -> bool:
        """Whether a photo with these settings is there at once."""
        return self._drawn.settings == settings.drawing

    def draw(self, settings: Settings, progress: bool | Report = False) -> None:
        """Draw the faces anew, where the settings ask for that; only then do other settings show.

        It ends another `draw` that is going on: the visitor wants these settings now.

        Raises:
            Stopped: `stop` was called in the meantime. The faces that were there before stay.
            FacegenError: settings that do not fit.
        """
        if self.is_drawn(settings):
            return

        def report(done: int, total: int) -> None:
            if self._stop.is_set():
                raise Stopped
            if callable(progress):
                progress(done, total)

        self._stop.set()
        with self._drawing:
            self._stop.clear()
            self._drawn = self._draw(open_upload(self._file).image, settings, report)

    @contextmanager
    def turn(self, lock: threading.Lock) -> Iterator[None]:
        """Hold a lock that several sessions share.

        Raises:
            Stopped: `stop` was called in the meantime.
        """
        self._stop.clear()
        while not lock.acquire(timeout=0.1):
            if self._stop.is_set():
                raise Stopped
        try:
            yield
        finally:
            lock.release()

    def stop(self) -> None:
        """End a `draw` that is going on in another thread."""
        self._stop.set()

    def close(self) -> None:
        """Delete all files, and end what is going on."""
        self.stop()
        self._delete()

    def doubts(self) -> list[str]:
        """What is to be said of faces of which less is to be expected, a line each."""
        return doubts_in_words(self._drawn.results, pasted=True)

    def looks(self, age: float, settings: Settings) -> list[float]:
        """How old each chosen face looks at an age, as the estimator judges it; NaN where the strength is given."""
        if settings.edit.strength is not None:
            return [math.nan for _ in self._chosen(settings)]
        chosen = [self._drawn.results[index].aged for index in self._chosen(settings)]
        return [_between(*neighbors(aged, age), "looks") for aged in chosen]

    def preview(self, age: float, settings: Settings) -> Image.Image:
        """Return the part of the photo around its faces, with the chosen ones at an age."""
        placed = [self._part.placed(result) for result in self._at([age], settings)]
        return self._paste(self._part.picture, placed)[0]

    def save_photo(self, age: float, settings: Settings) -> Path:
        """Write the whole photo at an age, as `facegen transfer` writes it, and return the path."""
        paths = save_photos(
            open_upload(self._file),
            self._at([age], settings),
            self._clear(),
            self.name,
            template=self._transfer.template,
        )
        return paths[0]

    def save_strips(self, settings: Settings) -> list[Path]:
        """Write a strip through the ages for each chosen face, and return the paths."""
        photo, results, folder = open_upload(self._file).image, self._at(STRIP_AGES, settings), self._clear()
        photos = self._paste(photo, results)
        mark = Mark(tuple(f"age {age}" for age in STRIP_AGES))
        return [
            save_marked(photo_strip(photo, photos, result), folder / f"{self.name}-face{number + 1}-strip.png", mark)
            for number, result in zip(self._chosen(settings), results, strict=True)
        ]

    def save_video(self, settings: Settings, kind: str) -> Path:
        """Write a video through all ages, `mp4` or `gif`, and return the path."""
        results = [self._whole.placed(result) for result in self._at(AGES, settings)]
        mark = Mark(tuple(f"age {age}" for age in AGES), len(results))
        return save_morph(
            self._paste(self._whole.picture, results), self._clear() / f"{self.name}-ages.{kind}", mark=mark
        )

    def _clear(self) -> Path:
        """The folder for results, empty: the page has what was in it."""
        for file in self._made.iterdir():
            file.unlink()
        return self._made

    def _chosen(self, settings: Settings) -> Sequence[int]:
        return range(len(self._faces)) if settings.chosen is None else settings.chosen

    def _at(self, ages: Sequence[float], settings: Settings) -> list[FaceResult]:
        """The chosen faces at ages."""
        strength = settings.edit.strength

        def face(aged: Sequence[AgedFace], age: float) -> AgedFace:
            found = replace(at_age(aged, age), group=group_of(age, self._transfer.groups))
            # How old it looks is known of the strength that was found alone.
            return found if strength is None else replace(found, strength=strength, looks=math.nan)

        chosen = [self._drawn.results[index] for index in self._chosen(settings)]
        return [replace(result, aged=[face(result.aged, age) for age in ages]) for result in chosen]

    def _paste(self, photo: Image.Image, results: list[FaceResult]) -> list[Image.Image]:
        """A photo at the ages of its faces; as it is where no face is chosen."""
        pasted = paste_results(photo, results, template=self._transfer.template)
        return [picture for _, picture in pasted] or [photo]


def at_age(aged: Sequence[AgedFace], age: float) -> AgedFace:
    """Return a face at an age, blended from the next younger and the next older one of those that are drawn.

    Args:
        aged: a face at several ages, youngest first.
    """
    below, above, share = neighbors(aged, age)
    change = None
    if below.change is not None and above.change is not None:
        low, high = below.change.astype(np.float32), above.change.astype(np.float32)
        change = (low + share * (high - low)).astype(np.float16)
    image = Image.blend(below.image, above.image, share)
    strength, looks = (_between(below, above, share, name) for name in ("strength", "looks"))
    return AgedFace(f"age {age:g}", age, above.group, image, strength, looks, change)


def neighbors(aged: Sequence[AgedFace], age: float) -> tuple[AgedFace, AgedFace, float]:
    """The next younger and the next older of the ages that are drawn, and how far `age` is from one to the other."""
    older = next((index for index, face in enumerate(aged) if face.age >= age), len(aged) - 1)
    below, above = aged[max(older - 1, 0)], aged[older]
    share = (age - below.age) / (above.age - below.age) if above.age > below.age else 1.0
    return below, above, min(max(share, 0.0), 1.0)


def _between(below: AgedFace, above: AgedFace, share: float, name: str) -> float:
    low, high = getattr(below, name), getattr(above, name)
    return low + share * (high - low)
