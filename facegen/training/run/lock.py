"""Whether a run goes on, and how it ended: a file that its process keeps locked for as long as it lives.

The lock is the system's (flock): it goes with the process, however that ends, so a killed run is never taken for a
running one and never has to be unlocked by hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from facegen.errors import FacegenError

STATUS = "status.json"
RUNNING, STOPPED, FINISHED, BROKEN = "running", "stopped", "finished", "broken"


@dataclass(frozen=True)
class Status:
    """How a run stands.

    Attributes:
        state: `running`, `stopped` (it can go on), `finished` or `broken` (an error ended it: see `reason`).
        reason: One line for people, or nothing.
        pid, host: Of the process that trains, or did last; 0 and empty where unknown.
        time: When this was written, in seconds since 1970.
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
        self._file: int | None = os.open(folder / STATUS, os.O_RDWR | os.O_CREAT, 0o666)
        _held.add(self._file)
        try:
            _lock(self._file)
            self._write(Status(RUNNING, "", os.getpid(), socket.gethostname(), time.time()))
        except BlockingIOError as error:
            self._close()
            found = _read(folder / STATUS)
            who = f"process {found.pid} on {found.host}" if found and found.pid else "another process"
            raise FacegenError(f"{folder}: {who} is training in this folder; wait for it, or stop it first") from error
        except OSError as error:
            self._close()
            raise OSError(error.errno, error.strerror, str(folder / STATUS)) from error

    def release(self, state: str, reason: str = "") -> None:
        """Note how the run ended and let others in. Only the first call counts."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk: the file then tells of a run that is gone, so "stopped"
                self._write(Status(state, reason, os.getpid(), socket.gethostname(), time.time()))
            self._close()

    def _close(self) -> None:
        _held.discard(self._file)
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)
        self._file = None

    def _write(self, status: Status) -> None:
        """Write in place: a file moved here would not be the locked one."""
        content = json.dumps(asdict(status)).encode() + b"\n"
        os.pwrite(self._file, content, 0)
        os.ftruncate(self._file, len(content))


_held: set[int] = set()  # open files of this process that hold a lock


def _forget_in_child() -> None:
    """Close what a child inherits: processes that read pictures may outlive one that is killed, and would hold on."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def read_status(folder: str | os.PathLike[str]) -> Status | None:
    """Return how the run in a folder stands; None where nothing was noted, as by facegen's first versions."""
    path = Path(folder) / STATUS
    found = _read(path)
    if found is None or found.state != RUNNING:
        return found
    if _is_locked(path):
        return found
    return Status(STOPPED, "its process was killed, or the machine went down", found.pid, found.host, found.time)


def _lock(file: int) -> None:
    """Take the lock; who asks how a run stands has it for an instant, so try for a second."""
    for attempt in range(10):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt == 9:
                raise
            time.sleep(0.1)
        except OSError:  # some network file systems have no locks; train all the same
            return


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def _read(path: Path) -> Status | None:
    try:
        return Status(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
