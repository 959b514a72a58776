"""The JSON file next to the pictures of a photo, for programs and for continuing a stopped run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import facegen
from facegen.aging.results import FaceResult
from facegen.batch.page import PAGE
from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.reading import read_bytes, read_json
from facegen.text import json_text


def photo_facts(photo: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Which photo it is, and how it is aged: what must be the same for its pictures to be still right.

    To be called before the photo is opened: one that changes in the meantime is then another one.
    """
    if not photo.exists():
        raise FileNotFoundError(f"{photo}: no such file")
    about = photo.stat()
    return {
        "photo": photo.name,
        "bytes": about.st_size,
        "modified": about.st_mtime,
        "settings": dict(settings),
        "facegen": facegen.__version__,
    }


def check_ours(path: Path) -> None:
    """Raise a FacegenError if a file is there that no run has written: no record, page or marked picture."""
    if os.path.lexists(path) and not _is_ours(path):
        raise FacegenError(f"{path}: exists and was not made by facegen, so it is not replaced; use another --outdir")


def is_output(folder: Path) -> bool:
    """Tell whether a folder is one that a run has written to."""
    page = folder / PAGE
    return page.is_file() and _is_ours(page)


def _is_ours(path: Path) -> bool:
    return b"facegen" in read_bytes(path)


def begin_record(path: Path, pictures: Iterable[Path]) -> None:
    """Write that a photo's pictures are being made: stopped now, those of two runs lie there, and none is finished.

    Raises:
        FacegenError: a file of the user's own is in the way, see `check_ours`. Nothing is written then.
    """
    check_ours(path)
    if not path.exists():  # else these are an earlier run's, marked or not
        for picture in pictures:
            check_ours(picture)
    write_record(path, {"facegen": facegen.__version__}, [], [])


def write_record(
    path: Path, facts: Mapping[str, Any], results: Sequence[FaceResult], files: Sequence[Path]
) -> dict[str, Any]:
    """Write the record of a photo, last of its files; return it."""
    record = {**facts, "faces": [_face(result) for result in results], "files": [file.name for file in files]}
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(record, indent=1) + "\n", encoding="utf-8")
    return record


def finished(path: Path, facts: Mapping[str, Any]) -> list[Path] | None:
    """Return the pictures of a photo that was aged in the same way before and are all there; None where not."""
    try:
        record = read_json(path)
    except (FacegenError, OSError):
        return None
    if not isinstance(record, dict) or any(record.get(name) != value for name, value in facts.items()):
        return None
    names = record.get("files")
    if not isinstance(names, list) or not all(isinstance(name, str) and name == Path(name).name for name in names):
        return None
    files = [path.parent / name for name in names]
    return files if all(file.is_file() for file in files) else None


def _face(result: FaceResult) -> dict[str, Any]:
    return {
        "box": [round(side, 1) for side in result.box],
        "age": result.input_age,
        "age_is_estimated": result.age_is_estimated,
        "understood": round(result.understood, 3),
        "yaw": round(result.yaw, 1),
        "inside": round(result.inside, 3),
        "ages": [
            {
                "age": face.age,
                "caption": face.caption,
                "strength": face.strength,
                "looks": None if math.isnan(face.looks) else round(face.looks, 1),
            }
            for face in result.aged
        ],
    }
