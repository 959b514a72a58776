"""Work in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from facegen.parallel import run_in_child


def wait_long() -> None:
    """What the child does."""
    sys.stdout.write("started")
    time.sleep(60)


def say() -> None:
    sys.stdout.write(sys.argv[1])


def test_what_a_child_says():
    child = run_in_child(say, "seven")
    assert (child.returncode, child.stdout) == (0, b"seven")


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
@pytest.mark.parametrize("kind", ["SIGTERM", "SIGKILL", "SIGINT", "SIGHUP"])
def test_a_child_ends_with_its_parent(kind: str):
    code = f"import sys; sys.path[:] = {sys.path}; from {__name__} import *; run_in_child(wait_long)"
    number = getattr(signal, kind)
    heed = None if number == signal.SIGKILL else lambda: signal.signal(number, signal.SIG_DFL)  # nohup ignores SIGHUP
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, preexec_fn=heed)
    try:
        children: list[psutil.Process] = []
        until = time.monotonic() + 60
        while time.monotonic() < until and not any(child.num_threads() > 1 for child in children):
            time.sleep(0.05)
            children = psutil.Process(parent.pid).children()
        assert len(children) == 1
        parent.send_signal(number)
        parent.wait(30)
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
    finally:
        parent.kill()
