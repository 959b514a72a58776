"""How the C library hands memory to PyTorch on the CPU."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones; return whether that was possible.

    By default glibc returns every large block to the system and the system clears every page of the next one: some
    percent of a training step on the CPU. Only glibc has this switch; elsewhere nothing happens. The process's memory
    stays at its peak until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl, static builds
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
