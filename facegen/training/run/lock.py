"""Whether a run is running, and how it ended: a note in its folder, next to a lock that its process holds.

The lock goes with the process, however the process ends, so a killed run is never taken for a running one and never has
to be unlocked by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import Timeout

from facegen.errors import FacegenError
from facegen.files import open_in_place, take_lock
from facegen.reading import is_number, read_note

STATUS, LOCK = "status.json", ".lock"
RUNNING, STOPPED, FINISHED, BROKEN = "running", "stopped", "finished", "broken"


@dataclass(frozen=True)
class Status:
    """How a run stands.

    Attributes:
        state: `running`, `stopped` (it can continue), `finished` or `broken` (an error ended it: see `reason`).
        reason: one line for people, or nothing.
        pid, host: the process that trains, or did last; 0 and empty where unknown.
        time: when this was written, in seconds since 1970.
    """

    state: str
    reason: str = ""
    pid: int = 0
    host: str = ""
    time: float = 0.0


class RunLock:
    """Holds a run's folder, so that no second process trains in it, and notes how the run ends.

    Raises:
        FacegenError: another process holds it.
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._status = folder / STATUS
        self._held = True
        try:
            self._lock = take_lock(folder / LOCK, wait=1)  # who asks how the run stands has the lock for an instant
        except Timeout:
            found = _read(self._status)
            who = f"process {found.pid} on {found.host}" if found and found.pid else "another process"
            raise FacegenError(f"{folder}: {who} is training in this folder; wait for it, or stop it first") from None
        try:
            self._write(RUNNING, "")
        except OSError:
            self._release()
            raise

    def release(self, state: str, reason: str = "") -> None:
        """Note how the run ended and let others in. Only the first call counts."""
        if self._held:
            with contextlib.suppress(OSError):  # a full disk: the file then tells of a run that is gone, so "stopped"
                self._write(state, reason)
            self._release()

    def _release(self) -> None:
        self._held = False
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.release()

    def _write(self, state: str, reason: str) -> None:
        """Write in place: a full disk has no room for a new file."""
        status = Status(state, reason, os.getpid(), socket.gethostname(), time.time())
        try:
            with open_in_place(self._status) as file:
                file.write(json.dumps(asdict(status)).encode() + b"\n")
                file.truncate()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._status)) from error


def read_status(folder: str | os.PathLike[str]) -> Status | None:
    """Return how the run in a folder stands; None where nothing was noted, as by facegen's first versions."""
    folder = Path(folder)
    found = _read(folder / STATUS)
    if found is None or found.state != RUNNING or _goes_on(folder / LOCK, found):
        return found
    return Status(STOPPED, "its process was killed, or the machine went down", found.pid, found.host, found.time)


def _goes_on(path: Path, status: Status) -> bool:
    """Whether the process of a run that is noted as running still lives."""
    try:
        # A second reader may hold the lock for an instant.
        lock = take_lock(path, wait=0.1) if path.exists() else None
    except Timeout:
        return True
    if lock is not None:
        lock.release()
        return False
    # A run of another user, of the version that had no such file, or on a file system without locks.
    if status.host != socket.gethostname():
        return False
    try:
        process = psutil.Process(status.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.create_time() <= status.time  # later: the number was given out again
    except (psutil.Error, ValueError, OverflowError):
        return False


def _read(path: Path) -> Status | None:
    """What a status file says; None if there is none, or if no training wrote it."""
    try:
        status = Status(**read_note(path))
    except (OSError, ValueError, TypeError):
        return None
    right = isinstance(status.reason, str) and isinstance(status.host, str) and type(status.pid) is int
    if not right or status.state not in (RUNNING, STOPPED, FINISHED, BROKEN) or not is_number(status.time):
        return None
    return status
