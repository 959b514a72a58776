"""The current folder may be a stranger's: no code of it runs, in facegen or in a process that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ["torch", "json", "numpy", "PIL", "click", "facegen", "pickle", "multiprocessing", "sitecustomize", "runpy"]
# What the console command does: a script's folder is looked in, the current one is not.
CONSOLE = "import sys; del sys.path[0]; sys.argv[0] = 'facegen'; from facegen.cli import main; main()"


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> Path:
    """A folder, the current one, with modules that leave a trace when they run."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\nraise SystemExit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return tmp_path


def python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_trap_works(hostile):
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    assert (hostile / "ran").read_text() == "torch "


def test_commands(hostile):
    assert "Commands:" in python(CONSOLE, "--help")
    assert "facegen" in python(CONSOLE, "doctor")
    assert not (hostile / "ran").exists()


def test_children(hostile):
    code = """
import sys; del sys.path[0]
import subprocess
from facegen.parallel import python_code
subprocess.run([sys.executable, "-c", python_code("import json, numpy, facegen; print('here')")], check=True)
"""
    assert python(code) == "here\n"
    assert not (hostile / "ran").exists()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH")
def test_children_of_libraries(hostile):
    code = f"""
{CONSOLE.removesuffix("main()")}
import subprocess
main.callback()
for arguments in (["-c", "import multiprocessing.spawn"], ["-m", "this"]):
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
"""
    python(code)
    assert not (hostile / "ran").exists()
