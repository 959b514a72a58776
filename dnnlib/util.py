"""A dictionary with attributes, and downloads that are kept.

They are here for code and pickles of the StyleGAN family; facegen itself calls `dnnlib.download`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

from .download import fetch, local_name


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

    The copy is complete or not there; `dnnlib.download.fetch` says more. The cache is `cache_dir`, else the
    environment variable DNNLIB_CACHE_DIR, else `~/.cache/dnnlib`.

    Raises:
        ValueError: another kind of address.
        ConnectionError: it cannot be downloaded; one line.
    """
    path = cached_path(url, cache_dir)
    fetch(url, path)
    return path.open("rb")


def cached_path(url: str, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return where `open_url` keeps its copy of `url`."""
    folder = Path(cache_dir or os.environ.get("DNNLIB_CACHE_DIR") or Path.home() / ".cache" / "dnnlib")
    return folder / local_name(url)
