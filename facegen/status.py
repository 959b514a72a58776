"""Messages on the terminal, above any progress bars; and Ctrl-C as a request to stop."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

from tqdm import tqdm

from facegen.text import visible

RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, run it again. 143 would be a process that saved nothing


def say(*lines: str, err: bool = False) -> None:
    """Print lines on stdout or stderr; whatever strangers wrote in them is visible, line breaks too."""
    file = sys.stderr if err else sys.stdout
    tqdm.write("\n".join(map(visible, lines)), file=file)
    file.flush()


def status(words: str, shown: bool = True) -> tqdm:
    """What is going on, where it takes longer and no bar says so: a line as long as the `with` block runs.

    Where stderr is a file, nothing. It is a bar of tqdm, so other bars find their place below it;
    `set_description_str` changes the words.
    """
    return tqdm(desc=visible(words), bar_format="{desc}", leave=False, disable=None if shown else True)


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
