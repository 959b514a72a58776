from __future__ import annotations

import subprocess
import sys

import pytest

from facegen.training.run import cpu_memory

# Fill and free 64 MB again and again, and count the pages that the system had to clear: as it is, and then kept.
PROGRAM = """
import resource
from facegen.training.run.cpu_memory import keep_freed_memory
import torch
for prepare in (lambda: True, keep_freed_memory):
    assert prepare()
    for i in range(30):  # older glibc takes a few more blocks before it fits an aligned one into a freed one
        if i == 20:
            start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
"""


@pytest.mark.skipif(not cpu_memory.keep_freed_memory(), reason="not glibc")
def test_memory_is_cleared_once_and_not_for_every_tensor():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    plain, kept = map(int, done.stdout.split())
    pages = 2**26 // 4096
    assert plain >= 10 * pages * 0.9  # else the test would show nothing
    assert kept < pages


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(cpu_memory.sys, "platform", "darwin")
    assert cpu_memory.keep_freed_memory() is False


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch):
    monkeypatch.setattr(cpu_memory.sys, "platform", "linux")
    monkeypatch.setattr(cpu_memory.ctypes, "CDLL", lambda name: object())
    assert cpu_memory.keep_freed_memory() is False
