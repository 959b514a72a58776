"""Finished work of `prepare` or `pack`, on disk, so that a killed run continues without doing a picture twice."""

from __future__ import annotations

import json
import os
import reprlib
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from filelock import Timeout

from facegen.data.crops import UNREADABLE, Cropped, read_outcome
from facegen.data.sources import Skipped
from facegen.errors import FacegenError
from facegen.files import atomic_path, open_in_place, take_lock
from facegen.parallel import map_in_order
from facegen.reading import parse_json, read_json

BATCH = 8  # pictures that a thread takes at a time; alignment searches them together
_JOB, _PICTURES, _OUTCOMES, _LOCK = "job.json", "pictures.bin", "outcomes.jsonl", ".lock"


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_HasName)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A cropped picture without its PNG, which is in the file of pictures; small, since there may be half a million."""

    sha256: bytes
    dhash: int | None
    notes: tuple[str, ...]
    offset: int
    size: int


def spool_path(archive: str | os.PathLike[str]) -> Path:
    """Where the pictures of an archive lie until it is written."""
    archive = Path(archive)
    return archive.with_name(f"{archive.name}.partial")


class Spool:
    """The outcome of every picture that was worked on: its PNG, or why it was dropped.

    Two files that only grow: PNGs end to end, and one JSON line per picture, written after its PNG; a later line of the
    same picture counts. What a crash left of a last line is cut off when the spool is opened again.

    Args:
        folder: where the two files lie; made when missing.
        job: what the outcomes depend on. A spool of another job is refused.
    """

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._check_job(json.loads(json.dumps(job)))
        self._outcomes: dict[str, _Stored | Skipped] = {}
        self._stamps: dict[str, list[int]] = {}
        self._notes: dict[tuple[str, ...], tuple[str, ...]] = {}
        try:
            self._lock = take_lock(folder / _LOCK)
        except Timeout:
            raise FacegenError(f"{folder}: another run is working on this archive; wait for it or stop it") from None
        self._lines = open_in_place(folder / _OUTCOMES, append=True)
        self._pictures = open_in_place(folder / _PICTURES, append=True)
        self._read()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self.close()
        except OSError:
            if kind is None:  # else a full disk has been reported
                raise

    def __len__(self) -> int:
        return len(self._outcomes)

    def __contains__(self, name: str) -> bool:
        return name in self._outcomes

    def is_done(self, name: str, stamp: list[int]) -> bool:
        """Tell whether a picture has an outcome that holds: its file has not changed since, and could be read.

        Args:
            stamp: the file's as it is now, see `Container.stamp`. Spools of earlier versions have none: theirs hold.
        """
        outcome = self._outcomes.get(name)
        if outcome is None or (isinstance(outcome, Skipped) and outcome.reason == UNREADABLE):
            return False
        return self._stamps.get(name, stamp) == stamp

    def get(self, name: str) -> Cropped | Skipped:
        """Return the outcome of a picture, without its PNG."""
        stored = self._outcomes[name]
        if isinstance(stored, Skipped):
            return stored
        return Cropped(name, stored.sha256.hex(), stored.dhash, stored.notes)

    def png(self, name: str) -> bytes:
        """Return the PNG of a picture that was not dropped."""
        stored = self._outcomes[name]
        assert isinstance(stored, _Stored)
        self._pictures.seek(stored.offset)
        return self._pictures.read(stored.size)

    def add(self, outcomes: Iterable[Cropped | Skipped], stamps: Mapping[str, list[int]] | None = None) -> None:
        """Store outcomes; after this a killed process does not lose them.

        Args:
            stamps: of the files that they were made from, by name, see `is_done`.
        """
        try:
            self._write(outcomes, stamps or {})
        except OSError as error:  # a full disk: it names no file
            raise OSError(error.errno, error.strerror, str(self.folder)) from error

    def forget(self) -> None:
        """Give back the memory of the outcomes when they are needed no more; on disk they stay."""
        self._outcomes.clear()
        self._stamps.clear()

    def close(self) -> None:
        """Close the files; they stay for the next run."""
        with ExitStack() as stack:  # every file is closed, whichever of them fails
            if self._lock is not None:
                stack.callback(self._lock.release)
            stack.callback(self._pictures.close)
            stack.callback(self._lines.close)

    def remove(self) -> None:
        """Delete the spool: its pictures are in the archive."""
        self.close()
        shutil.rmtree(self.folder)

    def _check_job(self, job: dict[str, Any]) -> None:
        path = self.folder / _JOB
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(job), encoding="utf-8")
            return
        try:
            found = read_json(path)
        except FacegenError:
            found = {}
        if not isinstance(found, dict):
            found = {}
        if found != job:
            differing = [
                f"{key} {reprlib.repr(found.get(key))}, now {value!r}"
                for key, value in job.items()
                if found.get(key) != value
            ]
            raise FacegenError(
                f"{self.folder}: holds the pictures of a run with other options ({'; '.join(differing) or 'unknown'});"
                " give the same options to continue it, or delete it"
            )

    def _read(self) -> None:
        pictures_end = self._pictures.seek(0, os.SEEK_END)
        good_end = pictures_used = 0
        self._lines.seek(0)
        for line in self._lines:
            try:
                outcome = parse_json(line, _OUTCOMES)
                end = _check_line(outcome, pictures_end)
                if not line.endswith(b"\n"):
                    break
                self._remember(outcome)
            except FacegenError:
                break
            good_end += len(line)
            pictures_used = max(pictures_used, end)
        self._lines.truncate(good_end)
        self._pictures.truncate(pictures_used)

    def _write(self, outcomes: Iterable[Cropped | Skipped], stamps: Mapping[str, list[int]]) -> None:
        lines = []
        offset = self._pictures.seek(0, os.SEEK_END)
        for outcome in outcomes:
            if isinstance(outcome, Skipped):
                line: dict[str, Any] = {"name": outcome.name, "reason": outcome.reason, "detail": outcome.detail}
            else:
                self._pictures.write(outcome.png)
                line = {"name": outcome.name, "offset": offset, "size": len(outcome.png), "sha256": outcome.sha256}
                line |= {"dhash": outcome.dhash, "notes": outcome.notes}
                offset += len(outcome.png)
            if outcome.name in stamps:
                line["stamp"] = stamps[outcome.name]
            self._remember(line)
            lines.append(json.dumps(line).encode() + b"\n")
        self._pictures.flush()
        self._lines.write(b"".join(lines))
        self._lines.flush()

    def _remember(self, line: dict[str, Any]) -> None:
        name = line["name"]
        if "stamp" in line:
            self._stamps[name] = line["stamp"]
        if "reason" in line:
            self._outcomes[name] = Skipped(name, line["reason"], line["detail"])
            return
        notes = tuple(line["notes"])
        notes = self._notes.setdefault(notes, notes)
        sha256 = bytes.fromhex(line["sha256"])
        self._outcomes[name] = _Stored(sha256, line["dhash"], notes, line["offset"], line["size"])


def worked_on(
    items: Iterable[Named],
    work: Callable[[list[str]], Sequence[Cropped | Skipped]],
    stamp: Callable[[str], list[int]],
    spool: Spool,
) -> Generator[tuple[Named, Cropped | Skipped], None, None]:
    """Work on pictures on all cores, in order: on what the spool does not have yet, or has from before a file changed.

    Args:
        items: the pictures, by their names.
        work: from names to what comes of them, in order; called from several threads.
        stamp: what changes when the file of that name does, see `Container.stamp`.
    """

    def outcomes_of(batch: list[Named]) -> tuple[list[Named], Sequence[Cropped | Skipped], dict[str, list[int]]]:
        # Stamped before they are read: what changes meanwhile is done again by the next run.
        stamps = {item.name: stamp(item.name) for item in batch}
        missing = [name for name, found in stamps.items() if not spool.is_done(name, found)]
        return batch, work(missing) if missing else [], stamps

    for batch, outcomes, stamps in map_in_order(outcomes_of, _batches(items), ahead=2):
        if outcomes:
            spool.add(outcomes, stamps)
        for item in batch:
            yield item, spool.get(item.name)


def _batches(items: Iterable[Named]) -> Iterator[list[Named]]:
    items = iter(items)
    while batch := list(islice(items, BATCH)):
        yield batch


def _check_line(line: Any, pictures_end: int) -> int:
    """Return where the picture of a line ends, 0 for none; raise a FacegenError if `Spool` has not written the line."""
    if not isinstance(line, dict):
        raise FacegenError("a line is no object")
    read_outcome({name: value for name, value in line.items() if name not in {"offset", "size", "stamp"}})
    if "reason" in line:
        return 0
    offset, size = line.get("offset"), line.get("size")
    if type(offset) is not int or type(size) is not int or not 0 <= offset <= offset + size <= pictures_end:
        raise FacegenError("a picture in it is missing")
    return offset + size
