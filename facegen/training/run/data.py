"""What a run learns from, recorded in its folder, so that a run does not continue with other data silently."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.reading import read_note

DATA = "data.json"
Notes = Mapping[str, Mapping[str, Any]]  # by the option that names the archive: what `note_of` says of it


def note_of(archive: FaceArchive, classes: Sequence[str]) -> dict[str, Any]:
    """Return what a run notes of an archive: `path`, `classes`, number of `pictures`, and a digest of the `content`.

    Args:
        archive: the archive.
        classes: what its labels mean to the run, by label; none where it has no use for labels.
    """
    path = str(archive.path)
    return {"path": path, "classes": list(classes), "pictures": len(archive), "content": archive.digest()}


def check_same_classes(folder: str | os.PathLike[str], notes: Notes) -> None:
    """Raise a FacegenError that names both lists if an archive has other classes than the run in a folder began with.

    A run of a version that recorded nothing may continue with any data.
    """
    for option, before in _read(folder).items():
        now = notes.get(option)
        if now is not None and now["classes"] != before["classes"]:
            raise FacegenError(
                f"{now['path']}: its classes are {_listed(now['classes'])}, but those of the run {folder} are "
                f"{_listed(before['classes'])}: continue with --{option} that has the same classes, or start a new run"
            )


def changes(folder: str | os.PathLike[str], notes: Notes) -> list[str]:
    """Return a line for each archive with other pictures or labels than the run in a folder has learned from so far."""
    lines = []
    for option, before in _read(folder).items():
        now = notes.get(option)
        if now is None:
            continue
        if now["pictures"] != before["pictures"]:
            was = f"it has {now['pictures']} pictures, had {before['pictures']}"
        elif now["content"] != before["content"]:
            was = f"its {now['pictures']} pictures or their labels have changed"
        else:
            continue
        lines.append(f"other data than before: {now['path']}: {was}; the run continues with it")
    return lines


def _read(folder: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """What a run noted, or nothing."""
    try:
        noted = read_note(Path(folder) / DATA)
    except (FileNotFoundError, ValueError):
        return {}
    return {name: note for name, note in noted.items() if _is_note(note)}


def _is_note(note: Any) -> bool:
    """Whether this is what `note_of` returns."""
    if (
        not isinstance(note, dict)
        or not isinstance(note.get("classes"), list)
        or not {"pictures", "content"} <= {*note}
    ):
        return False
    return all(isinstance(name, str) for name in note["classes"])


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(classes) or "none"
