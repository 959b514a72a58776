"""The held-out faces: a training archive with exact ages, or a folder of photos in which faces are found."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from facegen import images as pictures
from facegen.ages import AgeGroups
from facegen.container import Container, is_image_name
from facegen.data.archive import FaceArchive
from facegen.data.contents import read_contents
from facegen.data.sources import Record, Source, detect_source
from facegen.data.sources.named_files import UtkFace
from facegen.errors import FacegenError
from facegen.evaluation.age import group_of_years
from facegen.faces.align import align_face
from facegen.faces.find import find_faces
from facegen.faces.template import AlignmentTemplate, alignment_matrix, landmarks_of, moved

VIEW = 256  # side at which a face in a photo is judged: what people see of it, and more than any judge takes
REALS_PER_GROUP = 100  # real faces of each group that results are compared with
SAME_TEMPLATE = 0.02  # share of the side: landmarks this close are the same alignment, as measured ones differ as much


@dataclass(frozen=True)
class Photos:
    """Aligned faces; the first `tested` are evaluated, the others only show what real faces of a group look like.

    Attributes:
        path: Where they are from.
        names: File names.
        images: uint8 `[N, 3, V, V]`: what a face that is put back into its photo is seen beside. An archive's
            crops keep their size, of larger ones and of photos V is VIEW, and it is never below the generator's size.
        landmarks: Where they lie in the pictures, `[N, 5, 2]`; in an archive, where its alignment has them.
        ages: Exact ages in years `[N]`, float64; NaN where unknown.
        people: Who it is `[N]`; None where the data set does not tell.
        tested: How many are evaluated.
        available: Pictures at `path`.
        left_out: Why, by file name, for pictures that were chosen but cannot be used.
        realigned: Whether the archive has another alignment than the generator, and faces were warped to it.
    """

    path: Path
    names: list[str]
    images: torch.Tensor
    landmarks: np.ndarray
    ages: np.ndarray
    people: list[str | None]
    tested: int
    available: int
    left_out: dict[str, str] = field(default_factory=dict)
    realigned: bool = False


def load_photos(
    path: str | os.PathLike[str],
    *,
    size: int,
    template: AlignmentTemplate,
    groups: AgeGroups,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Photos:
    """Load faces, aligned as a generator wants them.

    Args:
        path: A training archive (zip, or folder with a dataset.json), or a folder or zip of photos, where
            the largest face of each counts; ages are read as `facegen prepare` reads them of a data set it knows.
        size, template: The generator's.
        groups: Faces are drawn evenly from them.
        limit: Evaluate at most this many, as many of each age group as possible; None for all.
        seed: Seeds the draw.
        progress: Show a bar.

    Raises:
        FileNotFoundError, FacegenError: nothing there, no picture, no face, an archive that is damaged.
    """
    files = Container(path)
    is_archive = {"dataset.json", "facegen.json"} & set(files.names)
    source = _archive_source(path, size, template) if is_archive else _photo_source(files, size, template)
    names, ages, people, load, realigned = source
    chosen, others = choose(ages, groups, limit=limit, seed=seed)
    found, kept, left_out, tested = list[_Aligned](), [], {}, 0
    bar = tqdm([*chosen, *others], "reading faces", unit="face", disable=not progress)
    for number, index in enumerate(bar):
        try:
            found.append(load(index))
        except FacegenError as error:
            if is_archive:
                raise
            left_out[names[index]] = str(error)
            continue
        kept.append(index)
        tested += number < len(chosen)
    if tested == 0:
        reason = f" (first: {next(iter(left_out.values()))})" if left_out else ""
        raise FacegenError(f"{path}: it has no face to evaluate{reason}")
    stack = torch.from_numpy(np.stack([np.asarray(image) for image, _ in found])).permute(0, 3, 1, 2).contiguous()
    return Photos(
        Path(path),
        [names[i] for i in kept],
        stack,
        np.stack([landmarks for _, landmarks in found]),
        ages[kept],
        [people[i] for i in kept],
        tested,
        len(names),
        left_out,
        realigned,
    )


def same_alignment(one: AlignmentTemplate, other: AlignmentTemplate) -> bool:
    """Whether faces aligned to one template are aligned to the other, too."""
    return bool(np.abs(np.subtract(one.points, other.points)).max() <= SAME_TEMPLATE)


def choose(
    ages: np.ndarray, groups: AgeGroups, *, limit: int | None = None, seed: int = 0, reals: int = REALS_PER_GROUP
) -> tuple[list[int], list[int]]:
    """Draw which faces are evaluated, and which others stand for the real faces of their group.

    Groups are drawn from in turns, so that each has as many as the others while it has any left; faces of unknown age
    are one more group. The result is in random order.

    Args:
        ages: In years `[N]`, NaN where unknown.
        limit: How many to evaluate; None for all.
        reals: How many of each group are wanted in all.
    """
    if limit is not None and limit < 1:
        raise FacegenError(f"{limit} faces to evaluate: at least one is needed")
    order = np.random.default_rng(seed).permutation(len(ages))
    known = np.isfinite(ages)
    group = np.where(known, group_of_years(np.where(known, ages, 0), groups), len(groups))[order]
    turn = np.zeros(len(ages), dtype=np.int64)
    for index in range(len(groups) + 1):
        members = np.flatnonzero(group == index)
        turn[members] = np.arange(len(members))
    by_turn = np.argsort(turn, kind="stable")
    chosen = order[by_turn[:limit]].tolist()
    rest = by_turn[len(chosen) :]
    others = order[rest[(turn[rest] < reals) & (group[rest] < len(groups))]].tolist()
    return chosen, others


def _read_records(files: Container, names: list[str]) -> tuple[np.ndarray, list[str | None]]:
    """Read what the data set that the files are laid out as says: exact ages `[N]`, NaN where unknown, and persons."""

    def known(source: Source) -> dict[str, Record]:
        return {record.name: record for record in source.read(files) if isinstance(record, Record)}

    try:
        records = known(detect_source(files)())
    except FacegenError:  # no data set: a few of the photos may be named as in UTKFace all the same
        records = known(UtkFace())
    found = [records.get(name) for name in names]
    ages = np.array([None if record is None else record.age for record in found], dtype=np.float64)
    return ages, [None if record is None else record.person for record in found]


_Aligned = tuple[Image.Image, np.ndarray]  # a face, and its landmarks in it
_Source = tuple[list[str], np.ndarray, list[str | None], Callable[[int], _Aligned], bool]


def _archive_source(path: str | os.PathLike[str], size: int, template: AlignmentTemplate) -> _Source:
    archive = FaceArchive(path, use_labels=False)
    ages = np.full(len(archive), np.nan) if archive.ages is None else archive.ages.astype(np.float64)
    ages[ages < 0] = np.nan
    own = template if archive.template is None else archive.template
    realigned = not same_alignment(own, template)
    view = max(size, min(VIEW, archive.resolution))
    persons = {face.name: face.person for face in read_contents(path, use_labels=False).faces}

    def load(index: int) -> _Aligned:
        pixels = archive.image(index).transpose(1, 2, 0)
        image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))
        if realigned:
            image = align_face(image, np.asarray(own.points) * image.width, template, view)
        elif image.width != view:
            image = image.resize((view, view), Image.Resampling.LANCZOS)
        return image, np.asarray(template.points) * view

    return archive.file_names, ages, [persons.get(name) for name in archive.file_names], load, realigned


def _photo_source(files: Container, size: int, template: AlignmentTemplate) -> _Source:
    names = [name for name in files.names if is_image_name(name)]
    if not names:
        raise FacegenError(f"{files.path}: no picture in it (JPEG, PNG, WebP, TIFF, ...)")

    view = max(size, VIEW)

    def load(index: int) -> _Aligned:
        photo = pictures.to_rgb(pictures.decode(files.read(names[index]), f"{files.path}: {names[index]}"))
        faces = find_faces(photo)
        if not faces:
            raise FacegenError(f"{files.path}: {names[index]}: no face found")
        matrix = alignment_matrix(faces[0], template, view)
        return align_face(photo, faces[0], template, view), moved(landmarks_of(faces[0]), matrix)

    return names, *_read_records(files, names), load, False
