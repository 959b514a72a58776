"""What visitors upload: files of strangers, each looked at before it is decoded."""

from __future__ import annotations

import os
from pathlib import Path

from facegen.errors import FacegenError
from facegen.images import TooManyPixelsError, read_header
from facegen.photos.original import Original, open_original

MAX_BYTES = 40 * 1024**2
MAX_PIXELS = 50_000_000  # less than `facegen transfer` takes: several visitors share the memory


def open_upload(path: str | os.PathLike[str]) -> Original:
    """Open an uploaded photo.

    Raises:
        FacegenError: it is too large or no photo, in a line that names the file and no folder of this machine.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise FacegenError(f"{path.name} has {size / 1e6:.0f} MB; this page takes up to {MAX_BYTES / 1e6:.0f} MB.")
    try:
        width, height, _ = read_header(path.read_bytes(), path.name)
        if width * height > MAX_PIXELS:
            raise TooManyPixelsError(
                f"{path.name} has {width * height / 1e6:.0f} million pixels; this page takes up to "
                f"{MAX_PIXELS / 1e6:.0f} million. Make it smaller."
            )
        return open_original(path)
    except FacegenError as error:
        raise FacegenError(str(error).replace(str(path), path.name)) from error
