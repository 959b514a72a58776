"""`facegen app`: what it says before it serves."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from facegen.cli import main


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--host", "::"], ["--share"]])
def test_others_need_a_password(options: list[str]):
    ended = CliRunner().invoke(main, ["app", *options], env={"FACEGEN_PASSWORD": ""})
    assert ended.exit_code == 2
    assert "can open the page. Photos travel unencrypted" in ended.stderr
    assert "give it a password with --password" in ended.stderr


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_no_port(port: str):
    ended = CliRunner().invoke(main, ["app", "--port", port])
    assert ended.exit_code == 2
    assert "--port" in ended.stderr


def test_help_loads_nothing_heavy():
    code = "import sys; from facegen.cli import main\ntry: main(['app', '--help'])\nfinally: print(sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "drops a photo and moves a slider" in said
    assert "'gradio'" not in said
    assert "'torch'" not in said
