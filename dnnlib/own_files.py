"""Files in a folder that others may write to as well, such as a cache in /tmp: what they put there is not trusted."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def is_own(path: Path) -> bool:
    """Whether a file, or the link there, is not one that a stranger may have put there.

    It belongs to the user or to the owner of the folder, or only chosen people may write to the folder.
    """
    return _is_own(path.lstat(), path)


def open_own(path: Path, flags: int) -> int:
    """Open a file as `os.open` does, but no link of any kind and no file that `is_own` says no to.

    Raises:
        OSError: as `os.open`, or it is such a file.
    """
    opened = os.open(path, flags | _NO_LINK)
    found = os.fstat(opened)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and _is_own(found, path):
        return opened
    os.close(opened)
    raise PermissionError(errno.EPERM, "is a link, or belongs to somebody else", str(path))


def create_own(path: Path, mode: int) -> int:
    """Open a new file for writing; raises FileExistsError where there is anything."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, mode)


def _is_own(found: os.stat_result, path: Path) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    folder = path.parent.stat()
    return found.st_uid in {os.geteuid(), folder.st_uid} or not folder.st_mode & stat.S_IWOTH
