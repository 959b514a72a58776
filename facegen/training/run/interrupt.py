"""Ctrl-C and a scheduler's SIGTERM as a request: finish the step, save, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, run it again. 143 would be a process that saved nothing


class StopRequest:
    """Within this context the first Ctrl-C (or SIGTERM) sets `requested`; a second one interrupts as usual.

    Outside of the main thread, where Python handles no signals, it never requests anything.

    Attributes:
        requested: Whether somebody asked to stop.
        preempted: Whether it was a SIGTERM.

    Example:
        >>> with StopRequest() as stop:
        ...     for step in range(3):
        ...         if stop.requested:
        ...             break
    """

    def __init__(self) -> None:
        self.requested = False
        self.preempted = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.preempted = number == signal.SIGTERM

    def leave(self) -> None:
        """End the process with `RESUME_ME` if it was a SIGTERM; to be called when all is saved."""
        if self.preempted:
            raise SystemExit(RESUME_ME)
