"""IMDB-WIKI: half a million photos of actors and other known people, with dates of birth and years in `.mat` files.

Facts of the data set: `imdb.mat` and `wiki.mat` hold one struct each (MATLAB 5) of as many entries per field as there
are pictures. `dob` is MATLAB's serial date, the days since the year 0, `photo_taken` a year; the file names repeat
both (`nm0000100_rm46373120_1955-1-6_2003.jpg`). `face_score` is that of a face detector, -inf where it found none and
the file is the whole photo; `second_face_score` is NaN unless it found another face.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath
from typing import Any, ClassVar

import numpy as np

from facegen.container import Container
from facegen.data.sources.base import Record, Skipped, Source
from facegen.data.sources.matlab import read_struct
from facegen.data.sources.named_files import mostly_named
from facegen.data.sources.tables import add, find_named, folder_of, in_order, path_in
from facegen.errors import FacegenError
from facegen.options import option

_METADATA = re.compile(r"(imdb|wiki)\.mat")
_NUMBERS = ("dob", "photo_taken", "gender", "face_score", "second_face_score")
_TEXTS = ("full_path", "name")
# IDENTITY_[PHOTO_]YEAR-MONTH-DAY_YEAR: the date of birth and the year of the photo.
_NAME = re.compile(r"([^_]+)_(?:.+_)?(\d{1,4})-(\d{1,2})-(\d{1,2})_(\d{4})\.jpg", re.DOTALL)
_GENDERS = {0.0: "female", 1.0: "male"}

_MATLAB_DAYS = 366  # MATLAB counts days from the year 0, Python's ordinals from the year 1
_EPOCH = date(1970, 1, 1).toordinal()  # where numpy counts from


@dataclass(frozen=True)
class Metadata:
    """What a `.mat` file says of N pictures: an array [N] for each field that is needed, named as in the file."""

    dob: np.ndarray  # days, float64
    photo_taken: np.ndarray  # year, float64
    gender: np.ndarray  # 0 female, 1 male, NaN
    face_score: np.ndarray
    second_face_score: np.ndarray
    full_path: np.ndarray  # str
    name: np.ndarray  # str


@dataclass(frozen=True)
class ImdbWiki(Source):
    """IMDB-WIKI (Rothe et al. 2015), faces only: `imdb_crop/imdb.mat`, `wiki_crop/wiki.mat`, either or both.

    The age is computed as its authors do, as if the photo was taken in the middle of its year. A person is a name: the
    same in both halves is the same person. For their scores the same faces are dropped by default as in
    processed-imdb-wiki-dataset, whose ages are full years on 1 January, up to 101, by the dates in file names.
    """

    name: ClassVar[str] = "imdb-wiki"
    title: ClassVar[str] = "IMDB-WIKI (Rothe et al. 2015)"

    min_age: int = option(0, "Drop faces younger than this.")
    max_age: int = option(100, "Drop faces older than this.")
    min_face_score: float | None = option(
        None,
        "Drop faces that the data set's own detector gave a lower score. By default only faces it did not"
        " find are dropped.",
        finite=False,
    )
    second_face: str = option("drop", "What to do with pictures that show a second face.", choices=("drop", "keep"))
    date_check: str = option(
        "drop", "What to do with pictures whose file name and metadata disagree on a date.", choices=("drop", "ignore")
    )

    @classmethod
    def recognizes(cls, files: Container) -> bool:
        """There is one of its `.mat` files, or most of the first pictures are named as in it."""
        return bool(find_named(files, _METADATA)) or mostly_named(files, _NAME)

    def read(self, files: Container) -> Iterator[Record | Skipped]:
        """Read the `.mat` files. Raises FacegenError if there is none."""
        own = find_named(files, _METADATA)
        if not own:
            raise FacegenError(
                f"{files.path}: neither imdb.mat nor wiki.mat; it should be next to the numbered folders"
            )
        found: dict[str, Record | Skipped] = {}
        for metadata in own:
            try:
                records = Metadata(**read_struct(files, metadata, PurePosixPath(metadata).stem, _NUMBERS, _TEXTS))
            except FacegenError as error:
                add(found, Skipped(metadata, "metadata not usable", str(error)))
            else:
                for item in self._judge_all(records, folder_of(metadata)):
                    add(found, item)
        return in_order(files, found, own, f"not in {' or '.join(own)}")

    def _judge_all(self, data: Metadata, folder: str) -> Iterator[Record | Skipped]:
        ages = ages_in_midyear(data.dob, data.photo_taken)
        persons: dict[str, str] = {}  # one text for all pictures of a person: half a million take memory
        for index, path in enumerate(data.full_path):
            name = path_in(folder, path)
            if name is None or not path:
                yield Skipped(path, "path leads out of the folder", f"entry {index} of {folder}*.mat")
            elif problem := self._problem(data, index, ages[index], path):
                yield Skipped(name, *problem)
            else:
                match = _NAME.fullmatch(name.rpartition("/")[2])
                person = " ".join(data.name[index].split()) or (match[1] if match else "")
                person = persons.setdefault(person, person)
                age = int(ages[index])
                yield Record(name, age, age, person or None, _GENDERS.get(float(data.gender[index])))

    def _problem(self, data: Metadata, index: int, age: float, path: str) -> tuple[str, str] | None:
        """Why a picture is left out, as reason and detail."""
        born, taken, score = data.dob[index], data.photo_taken[index], data.face_score[index]
        second = data.second_face_score[index]
        if not _is_date(born):
            return "date of birth not possible", f"serial date {born:.10g}"
        if not 1 <= taken <= 9999:
            return "year of the photo not possible", f"{taken:.10g}"
        if self.date_check == "drop" and (other := _other_dates(path, born, taken)):
            return "dates disagree", other
        if not self.min_age <= age <= self.max_age:
            detail = f"{age:.0f}: born {_to_date(born)}, photo of {taken:.0f}"
            return f"age outside {self.min_age}-{self.max_age}", detail
        if self.min_face_score is None:
            if not score > -np.inf:
                return "no face", f"face score {score:g}"
        elif not score >= self.min_face_score:
            return "face score too low", f"{score:.3g}, at least {self.min_face_score:g} required"
        if self.second_face == "drop" and not np.isnan(second):
            return "second face", f"its score is {second:.3g}"
        return None


def ages_in_midyear(dob: np.ndarray, photo_taken: np.ndarray) -> np.ndarray:
    """Full years from birth to the middle (1 July) of the year of the photo; NaN where a date is not possible.

    Args:
        dob: MATLAB serial dates, days, float [N].
        photo_taken: Years, float [N].
    """
    possible = _is_date(dob)
    days = (np.floor(np.where(possible, dob, _EPOCH + _MATLAB_DAYS)) - _MATLAB_DAYS - _EPOCH).astype("datetime64[D]")
    years = days.astype("datetime64[Y]").astype(np.int64) + 1970
    months = days.astype("datetime64[M]").astype(np.int64) % 12 + 1
    return np.where(possible, photo_taken - years - (months >= 7), np.nan)


def _is_date(serial: Any) -> Any:
    """Whether a MATLAB serial date lies in the years 1 to 9999."""
    return (serial >= _MATLAB_DAYS + 1) & (serial < date.max.toordinal() + _MATLAB_DAYS + 1)


def _to_date(serial: float) -> date:
    return date.fromordinal(int(serial) - _MATLAB_DAYS)


def _other_dates(path: str, born: float, taken: float) -> str | None:
    """What the name of a picture says where it contradicts the metadata.

    A name without dates, or with a date of birth of which only the year is known (month or day 0), says nothing.
    """
    match = _NAME.fullmatch(path.rpartition("/")[2])
    if match is None:
        return None
    year, month, day, photo = (int(group) for group in match.groups()[1:])
    if photo != taken:
        return f"photo of {photo} by its name, of {taken:.0f} by its metadata"
    try:
        same = 0 in (month, day) or date(year, month, day) == _to_date(born)
    except ValueError:
        same = False
    return None if same else f"born {year}-{month}-{day} by its name, {_to_date(born)} by its metadata"
