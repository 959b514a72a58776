"""What aging changes in a face of a clip: as in a photo, but averaged over time, so that it moves slowly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import numpy as np
from PIL import Image

from facegen.aging.change import FaceChange
from facegen.aging.edit import Age, Edit
from facegen.aging.transfer import AgeTransfer, drawn_pictures
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
        own: its age in years; `is_estimated` if nobody said it.
        strengths: how much of the change to each age it takes.
        understood: 0..1, as `FaceChange.understood`.
        has_color: it is no face of a black and white clip.
    """

    def __init__(
        self,
        transfer: AgeTransfer,
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
        tensor = transfer.to_tensor(faces)
        years = [age.years for age in ages]
        if given is None:
            seen = transfer.render(tensor, years[:1], edit=edit).input_ages
            self.own = round(float(seen.median()), 1)
        else:
            self.own = float(given[0])
        rendered = transfer.render(tensor, years, input_ages=[self.own] * len(faces), edit=edit)
        copies, strengths, understood = drawn_pictures(rendered.reconstructions, self.has_color), [], []
        for face, copy, aged in zip(faces, copies, rendered.aged, strict=True):
            change = FaceChange(face, copy, transfer.template)
            understood.append(change.understood)
            pictures = drawn_pictures(aged, self.has_color)
            strengths.append(transfer.strengths(face, self.own, change, pictures, years, edit.strength)[0])
        self.understood = float(np.mean(understood))
        self.strengths = dict(zip(years, np.median(strengths, axis=0).tolist(), strict=True))


class TimedChange:
    """What aging to one age changes in the face of a track, in each of its frames."""

    def __init__(self, transfer: AgeTransfer, person: Person, crops: Crops, age: Age, edit: Edit) -> None:
        self._transfer, self._person, self._crops, self._age, self._edit = transfer, person, crops, age, edit
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
        tensor = self._transfer.to_tensor(faces)
        rendered = self._transfer.render(tensor, [years], input_ages=[person.own] * len(faces), edit=self._edit)
        copies = drawn_pictures(rendered.reconstructions, person.has_color)
        aged = drawn_pictures(rendered.aged[:, 0], person.has_color)
        changes = [
            FaceChange(face, copy, self._transfer.template).to(picture, person.strengths[years], years - person.own)
            for face, copy, picture in zip(faces, copies, aged, strict=True)
        ]
        return np.stack(changes)
