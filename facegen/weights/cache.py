"""Where downloaded weights are kept, and how they get there."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facegen import beside
from facegen.errors import DamagedError, FacegenError

BY_HAND = "or download the file by hand and give its path instead"


def cache_folder() -> Path:
    """Return the folder of facegen's downloads: FACEGEN_CACHE, else where the platform keeps caches.

    It need not exist; it is made for its owner alone. Everything in it may be deleted at any time.
    """
    from platformdirs import user_cache_path

    chosen = os.environ.get("FACEGEN_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("facegen", appauthor=False)


def offline() -> bool:
    """Whether FACEGEN_OFFLINE or HF_HUB_OFFLINE forbids connections."""
    return any(
        os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"}
        for name in ("FACEGEN_OFFLINE", "HF_HUB_OFFLINE")
    )


def download(url: str, *, sha256: str | None = None, progress: bool = True) -> Path:
    """Return a local copy of the file at `url`, downloaded when the cache does not have it.

    What is in the cache is not compared with the server's file again. A copy that does not have the given SHA-256
    counts as not there, so a damaged one is replaced. `dnnlib.download.fetch` tells of resuming and of several
    processes at once.

    Args:
        url: http or https.
        sha256: What the content must have, in hex.
        progress: Show a bar with the remaining time.

    Raises:
        FacegenError: it cannot be had or cannot be kept; one line that names the address and what to do.
    """
    try:
        path = _downloads() / beside.download.local_name(url)
    except ValueError as error:
        raise FacegenError(str(error)) from error
    try:
        if beside.download.is_complete(path, sha256):
            return path
        if offline():
            raise FacegenError(
                f"{url}: not in the cache {path.parent}, and FACEGEN_OFFLINE or HF_HUB_OFFLINE forbids connecting; "
                f"unset it, {BY_HAND}"
            )
        cache_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        beside.download.fetch(url, path, sha256=sha256, progress=progress)
    except beside.download.DownloadError as error:
        raise FacegenError(f"{error}; {BY_HAND}") from error
    except OSError as error:
        problem = "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "cannot be written"
        raise FacegenError(
            f"{path.parent}: {problem}, so {url} cannot be kept there ({error.strerror or error}); fix that, or "
            "name another folder in FACEGEN_CACHE"
        ) from error
    return path


@contextmanager
def removed_if_damaged(path: Path) -> Iterator[None]:
    """Remove a download from the cache when the block that reads it finds it damaged: the next try gets it again.

    A file that is whole but of a kind that facegen does not read stays: another copy would be the same.
    Only files that `download` has put there are removed. For the hub's files, which other programs may use, the message
    says what to delete.
    """
    try:
        yield
    except DamagedError as error:
        in_hub = path.parent.parent.name == "snapshots" and path.parents[2].name.startswith("models--")
        if in_hub:
            raise DamagedError(f"{error}; to download it again, delete {path.resolve()}") from error
        ours = path.parent == _downloads() and re.match("[0-9a-f]{16}_", path.name)
        if not ours or offline():
            raise
        try:
            path.unlink(missing_ok=True)
        except OSError:
            raise error from None
        raise DamagedError(
            f"{error}; this copy was removed from the cache, so the next try downloads it again"
        ) from error


def _downloads() -> Path:
    return cache_folder() / "downloads"
