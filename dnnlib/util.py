"""A dictionary with attributes, and downloads that are kept."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

_CHUNK = 1 << 20  # bytes
_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of the answer


class EasyDict(dict):
    """A dict whose items are attributes as well: `d.lr` is `d["lr"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no item {name!r}; there are {', '.join(map(str, self))}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"there is no item {name!r}")
        del self[name]


def open_url(url: str, cache_dir: str | os.PathLike[str] | None = None) -> BinaryIO:
    """Download `url` (http or https) unless it is in the cache, and open the local copy for reading bytes.

    The copy is complete or not there. The cache is `cache_dir`, else the environment variable
    DNNLIB_CACHE_DIR, else `~/.cache/dnnlib`.

    Raises ValueError for another kind of address, ConnectionError in one line when it cannot be had.
    """
    path = cached_path(url, cache_dir)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own for each download: two processes may fetch the same address at once.
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _download(url, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path.open("rb")


def cached_path(url: str, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where `open_url` keeps its copy of `url`."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError(f"{url}: not an address that can be downloaded; it must begin with http:// or https://")
    folder = Path(cache_dir or os.environ.get("DNNLIB_CACHE_DIR") or Path.home() / ".cache" / "dnnlib")
    name = re.sub(r"[^\w.-]", "_", parts.path.rsplit("/", 1)[-1])[-80:] or "file"
    # The digest keeps apart what two servers call alike; the name is for people.
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}_{name}"


def _download(url: str, file: BinaryIO) -> None:
    import requests
    from tqdm import tqdm

    try:
        with requests.get(url, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code != 200:
                raise ConnectionError(f"{url}: the server answers {answer.status_code} {answer.reason}")
            total = int(answer.headers.get("Content-Length") or 0) or None
            with tqdm(desc=url.rsplit("/", 1)[-1], total=total, unit="B", unit_scale=True) as bar:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
    except requests.RequestException as error:
        reason = "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__
        raise ConnectionError(
            f"{url}: cannot be downloaded ({reason}); check the network, or fetch the file elsewhere"
        ) from error
