"""Work on many pictures at once, and in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def count_cores() -> int:
    """How many cores this process may use: fewer than the machine has where a scheduler shares it out."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 8, threads: int | None = None
) -> Iterator[Result]:
    """`map` on threads, as many as there are cores, in order, with at most `ahead` results a thread waiting in memory.

    Threads are enough for pictures: Pillow decodes, resizes and encodes outside the interpreter lock. An
    exception of `function` comes out where its result would; work that has not begun is then dropped.
    """
    threads = threads or count_cores()
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def run_in_child(function: Callable[[], None], *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Call a function in a Python process of its own, whose memory comes back and whose crash is no crash of this one.

    Args:
        function: at the top of its module; reads standard input, writes standard output.
        arguments: the child's `sys.argv[1:]`.
        options: of `subprocess.run`, such as `input`. Standard output is caught.
    """
    names = f"from {__name__} import end_with; from {function.__module__} import {function.__name__} as f"
    code = python_code(f"{names}; end_with({os.getpid()}); f()")
    return subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, **options)


def end_with(parent: int) -> None:
    """End this process soon after the one that started it ends, in whatever way, so that it does not work on alone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def python_code(statement: str) -> str:
    """Return what `python -c` is to run so that it finds the modules that this process finds, and no others.

    `python -c` and `python -m` look in the current folder first, which may be a stranger's and hold a `torch.py`.
    """
    return f"import sys; sys.path[:] = {sys.path}; {statement}"
