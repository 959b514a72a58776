"""What is written must be on the disk before it replaces what was there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

# Network file systems and FUSE refuse what they cannot do, in any of these ways; the data is written all the same.
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.ENOTTY}


def flush_to_disk(path: str | os.PathLike[str]) -> None:
    """Wait until a file's data is on the disk, where the file system can do so. Raises OSError when the disk fails."""
    with Path(path).open("r+b") as file:  # Windows flushes no file that is open for reading only
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
