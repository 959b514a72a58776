"""What aging changes in a face of a clip: as in a photo, but averaged over time, so that it moves slowly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import numpy as np
import torch
from PIL import Image

from facegen.aging.edit import Age, Edit
from facegen.aging.transfer import AgeTransfer
from facegen.clips.method import Method
from facegen.clips.track import Track
from facegen.images import shows_no_color

SAMPLES = 9  # crops that say how old a face looks, and how strong its change has to be
AVERAGED = 3.0  # crops, of which there are eight a second: the width (standard deviation) of the average over time
REACH = 3  # such widths on either side count
AT_ONCE = 32  # crops that are drawn together


class Crops:
    """Square RGB pictures in a file: a long clip has too many of them for the memory."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size, self._count = file, size, 0

    def add(self, picture: Image.Image) -> int:
        """Keep a picture; its number."""
        self._file.seek(0, 2)
        self._file.write(picture.tobytes())
        self._count += 1
        return self._count - 1

    def read(self, numbers: Sequence[int]) -> list[Image.Image]:
        """Pictures by their numbers."""
        length, pictures = 3 * self._size**2, []
        for number in numbers:
            self._file.seek(number * length)
            pictures.append(Image.frombytes("RGB", (self._size, self._size), self._file.read(length)))
        return pictures


class Person:
    """The face of one track: how old it is, and what is the same in all of its frames.

    Attributes:
        own: its age in years; `is_estimated` if it was not given.
        strengths: how much of the change to each age it takes.
        understood: 0..1, as `FaceChange.understood`.
        has_color: the clip is not black and white.
    """

    def __init__(
        self,
        transfer: AgeTransfer,
        method: Method,
        track: Track,
        crops: Crops,
        ages: Sequence[Age],
        edit: Edit,
        given: Sequence[float] | None,
    ) -> None:
        self.track, self.is_estimated = track, given is None
        numbers = list(track.crops.values())
        chosen = np.unique(np.linspace(0, len(numbers) - 1, min(SAMPLES, len(numbers))).round().astype(int))
        faces = crops.read([numbers[index] for index in chosen])
        self.has_color = not all(shows_no_color(face) for face in faces)
        years = [age.years for age in ages]
        if given is None:
            seen = transfer.estimate_ages(method.faces(faces))
            self.own = round(float(torch.tensor(seen).median()), 1)
        else:
            self.own = float(given[0])
        changes = method.changes(faces, self.own, years, self.has_color)
        strengths = [transfer.strengths(change, years, edit.strength)[0] for change in changes]
        self.understood = float(np.mean([change.understood for change in changes]))
        self.strengths = dict(zip(years, np.median(strengths, axis=0).tolist(), strict=True))


class TimedChange:
    """What aging to one age changes in the face of a track, in each of its frames."""

    def __init__(self, method: Method, person: Person, crops: Crops, age: Age) -> None:
        self._method, self._person, self._crops, self._age = method, person, crops, age
        self.track = person.track
        self._frames = np.array(list(self.track.crops))  # that have crops
        self._numbers = list(self.track.crops.values())
        self._first, self._averaged = 0, np.zeros([0])

    def at(self, frame: int) -> np.ndarray:
        """What is added to the face in a frame: float32 `[S, S, 3]`, in levels."""
        place = float(np.interp(frame, self._frames, np.arange(len(self._frames))))
        low = int(place)
        high = min(low + 1, len(self._frames) - 1)
        if not self._first <= low <= high < self._first + len(self._averaged):
            self._average_from(low)
        one, other = self._averaged[low - self._first], self._averaged[high - self._first]
        return self.track.weights[frame - self.track.first] * (one + (place - low) * (other - one))

    def _average_from(self, first: int) -> None:
        """Make ready the averages over time around the crops from one on, AT_ONCE of them."""
        from scipy.ndimage import gaussian_filter1d

        margin = round(REACH * AVERAGED)
        start, end = max(0, first - margin), first + AT_ONCE + margin
        changes = self._draw(self._crops.read(self._numbers[start:end]))
        averaged = gaussian_filter1d(changes, AVERAGED, axis=0, mode="nearest", truncate=REACH)
        self._first, self._averaged = first, averaged[first - start : first - start + AT_ONCE]

    def _draw(self, faces: Sequence[Image.Image]) -> np.ndarray:
        """What aging changes in each of some crops: float32 `[N, S, S, 3]`."""
        person, years = self._person, self._age.years
        changes = self._method.changes(faces, person.own, [years], person.has_color)
        return np.stack([change.added(0, person.strengths[years]) for change in changes])
