"""Write files atomically, so that nobody sees half of one, and lock them between processes."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from filelock import FileLock, Timeout

from facegen.beside import disk
from facegen.errors import FacegenError
from facegen.text import json_text


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, quick: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it to `path` when the block ends well, delete it otherwise.

    The move is `os.replace`, so a reader sees the old file or the whole new one. The data is flushed to disk first.
    A missing folder is made. Raises an OSError that names `path` when nothing can be written there, or not all.

    Args:
        quick: of many small files that are made again easily, do not wait for the disk: it takes longer than writing
            them. Their folder must be there, and the writer a plain `open`.

    Example:
        >>> with atomic_path("stats.json") as temporary:
        ...     temporary.write_text("{}", encoding="utf-8")
        2
    """
    path = Path(path)
    temporary = _secret_name(path)
    mode = None
    try:
        if not quick:
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = _mode_of_new_files(_secret_name(path))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        yield temporary
        if mode is not None:
            with suppress(OSError):  # many file systems that anybody may write to have no modes
                temporary.chmod(mode)
            disk.flush_to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        raise _named(error, path, temporary) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """As `atomic_path`, for a folder: give one to fill, which takes the place of `path` when the block ends well.

    Raises an OSError, too, when there are files in `path` then.
    """
    path = Path(path)
    temporary = _secret_name(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.is_dir():
            path.rmdir()  # refuses what is not empty
        temporary.replace(path)
    except OSError as error:
        raise _named(error, path, temporary) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _named(error: OSError, path: Path, temporary: Path) -> OSError:
    """Return an error of writing with the name of the file: a full disk gives none, and the temporary name is useless.

    An error that names another file stays: it is about what was to be written.
    """
    if error.errno is not None and error.filename in (None, str(temporary)):
        return OSError(error.errno, error.strerror, str(path))
    if error.errno is None and str(path) not in str(error):  # as Pillow's
        return OSError(f"{path}: cannot be written ({error}); is the disk full?")
    return error


def _secret_name(path: Path) -> Path:
    """Return a name next to `path` that cannot be guessed, so that nobody can place a link there for us to write
    through.

    Most writers open a file by its name, where they would follow one.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _mode_of_new_files(probe: Path) -> int:
    """Return the mode that the umask gives; some writers make files that only their owner may read.

    Raises OSError where no file can be made.
    """
    opened = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # never what was there, link or not
    mode = os.fstat(opened).st_mode
    os.close(opened)
    probe.unlink()
    return mode


def open_in_place(path: str | os.PathLike[str], *, append: bool = False) -> BinaryIO:
    """Open a file to write in it where it is, made when missing: for notes that a full disk must not keep from saying.

    Args:
        path: the file; never what a link in its place names, which in a folder from a stranger may be any file.
        append: write behind what it holds, wherever one has read.

    Raises:
        OSError: it cannot be written, or is a link, a pipe or a device.
    """
    flags = os.O_RDWR | os.O_CREAT | (os.O_APPEND if append else 0)
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # no system has all of them
        flags |= getattr(os, name, 0)
    if Path(path).is_symlink():  # for systems without O_NOFOLLOW
        raise OSError(errno.ELOOP, "is a link", str(path))
    file = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "is no plain file", str(path))
    return cast(BinaryIO, os.fdopen(file, "a+b" if append else "r+b"))


def at_home(path: str | os.PathLike[str]) -> Path:
    """Return the path with `~` as the home folder, where no shell has expanded it."""
    path = Path(path)
    if str(path).startswith("~") and not os.path.lexists(path):
        with suppress(RuntimeError):  # there is no such user: a file that is yet to come may begin with ~
            return path.expanduser()
    return path


def check_free(path: str | os.PathLike[str], force: bool = False) -> None:
    """Raise a FacegenError if a file is there that the caller would replace, unless the user wants that (`--force`)."""
    if not force and os.path.lexists(path):
        raise FacegenError(f"{path}: already exists; --force replaces it")


def check_folder(outdir: str | os.PathLike[str]) -> None:
    """Raise an OSError if nothing can be written in a folder that may not be there yet: ask before long work."""
    outdir = Path(outdir).absolute()
    there = next(path for path in (outdir, *outdir.parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there}: is a file, not a folder to write in")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{there}: nothing can be written there")


def write_with_torch(content: Any, temporary: Path) -> None:
    """Write what `torch.save` takes to a path from `atomic_path`; an OSError where the disk is full."""
    import torch

    try:
        torch.save(content, temporary)
    except RuntimeError as error:  # so it tells of it
        raise OSError("PyTorch did not write all of it") from error


def write_json(path: str | os.PathLike[str], content: Any, *, indent: int = 2) -> None:
    """Write what JSON can hold, atomically and readable by people."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(content, indent) + "\n", encoding="utf-8", newline="\n")


def take_lock(path: str | os.PathLike[str], wait: float = 0.0) -> FileLock | None:
    """Take a lock that goes with this process, however the process ends. Its child processes do not inherit the lock.

    Args:
        path: the lock file; made when missing, it may stay after the release.
        wait: seconds to wait for another holder.

    Returns:
        The lock, for its `release`; None where there can be none: some network file systems have no locks.

    Raises:
        filelock.Timeout: another process, or another part of this one, holds the lock.
    """
    lock = FileLock(path, timeout=wait, poll_interval=0.02, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise
    except OSError:
        return None
    return lock
