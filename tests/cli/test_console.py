"""What every command does alike: errors of the system in one line, SIGTERM without leftovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from helpers import start_python
from PIL import Image

from facegen.cli import main


@pytest.mark.parametrize("command", [["prepare", "SOURCE", "FILE/faces.zip"], ["prepare", "SOURCE", "/proc/faces.zip"]])
def test_an_output_that_cannot_be_written_is_named(tmp_path, command):
    source, file = tmp_path / "source", tmp_path / "file"
    source.mkdir()
    file.write_text("x")
    command = [part.replace("SOURCE", str(source)).replace("FILE", str(file)) for part in command]
    result = CliRunner().invoke(main, [*command, "--source", "utkface"])
    assert result.exit_code == 1
    assert f"Error: {command[-1]}" in result.output
    assert ": cannot be read or written (" in result.output
    assert "Errno" not in result.output


@pytest.mark.skipif(os.name != "posix", reason="other signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_removes_what_is_half_written(tmp_path: Path, number: int):
    """A real process, stopped while its archive is half written: a writer that waits stands in for much data."""
    script = (
        "import time\n"
        "from facegen.data.archive import ArchiveWriter\n"
        "ArchiveWriter.add_png = lambda *args, **kwargs: time.sleep(60)\n"
        "import facegen.data.assemble\n"
        "facegen.data.assemble.measure_alignment = lambda pngs, progress: None\n"
        "from facegen.cli import main\n"
        f"main(['prepare', {str(tmp_path / 'in')!r}, {str(tmp_path / 'out' / 'faces.zip')!r}])\n"
    )
    (tmp_path / "in").mkdir()
    for age in range(3):
        Image.new("RGB", (32, 32), (age, 0, 0)).save(tmp_path / "in" / f"{age}_1_2_20170116174525125.jpg")
    process = start_python("-c", script)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/.*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.glob("out/.*.tmp")), "the archive was never begun"
    time.sleep(0.2)
    process.send_signal(number)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["faces.zip.partial"]  # what is done stays


@pytest.mark.skipif(os.name != "posix", reason="other signals")
def test_ctrl_c_while_the_command_is_imported_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package that the command imports presses Ctrl-C."""
    (tmp_path / "click.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    )
    process = start_python("-m", "facegen", "--version")
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, said, errors) == (130, "", "\nStopped.\n")


def test_sigterm_while_python_clears_up_is_no_traceback(tmp_path: Path):
    script = (
        "import atexit, time\n"
        "atexit.register(lambda: (print('leaving', flush=True), time.sleep(30)))\n"
        "from facegen.cli import main\n"
        f"main(['label', {str(tmp_path)!r}])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"leaving\n"
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == -signal.SIGTERM
    assert errors.rstrip().endswith(b"make one subfolder per class")  # the command's own last line is the last of all
    assert b"Traceback" not in errors


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file name is Unicode")
def test_names_that_are_no_utf_8(tmp_path: Path):
    """As unpacked from zips of Windows, in a terminal that refuses them: every command names them and does its work."""
    for k in range(8):
        folder = tmp_path / "faces" / str((5, 25)[k % 2])
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (k * 30, 0, 0)).save(folder / os.fsdecode(b"M\xfcller%d.png" % k))
    data = os.fsdecode(b"M\xfcller.zip")
    outdir = os.fsdecode(b"\xfcber")
    for command in (
        ["prepare", "faces", data, "--source", "folders", "--resolution", "16", "--crop", "center"],
        ["inspect", data],
        ["train", "--data", data, "--cfg", "tiny", "--kimg", "0.008", "--batch", "8", "--outdir", outdir],
        ["runs", outdir],
        ["train", "--data", os.fsdecode(b"no\xfc.zip")],
    ):
        result = subprocess.run(
            [sys.executable, "-m", "facegen", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
            capture_output=True,
            timeout=120,
        )
        assert b"Traceback" not in result.stderr, result.stderr
        assert result.returncode == (1 if b"no\\udcfc.zip" in result.stderr else 0), result.stderr
    (run,) = (tmp_path / outdir).iterdir()
    assert run.name.startswith("00000-M_ller-")
    assert "udcfc" in (run / "log.txt").read_text(encoding="utf-8")
    assert json.loads((run / "training_options.json").read_text(encoding="utf-8"))["data"] == data


@pytest.mark.skipif(os.name != "posix", reason="no SIGHUP")
def test_nohup_stays(tmp_path: Path):
    script = (
        "import signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "import click, facegen.cli\n"
        "from facegen.cli.label import command\n"
        "command.callback = lambda **given: print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)\n"
        f"facegen.cli.main(['label', {str(tmp_path)!r}])\n"
    )
    assert subprocess.check_output([sys.executable, "-c", script]) == b"True\n"


def test_names_of_the_stylegan_family(tmp_path: Path):
    """Their scripts' names, hyphens or underscores, are ours and say so; `--help` does not show them."""

    def run(*arguments: str):
        return CliRunner().invoke(main, [*arguments, str(tmp_path / "none")])

    new = run("metrics", "--data", "x", "--metrics", "fid5", "--network")
    old = run("calc_metrics", "--data", "x", "--metrics", "fid5", "--pkl")
    assert old.exit_code == new.exit_code == 1
    said, *rest = old.stderr.splitlines()
    assert "facegen metrics" in said
    assert rest == new.stderr.splitlines()
    assert "calc" not in run("--help").output
    assert "--pkl" not in run("metrics", "--help").output
    assert run("calc").exit_code == 2
    left_out = run("pbaylies_projector", "--target-text", "an old man")
    assert left_out.exit_code == 2
    assert "facegen project" in left_out.stderr


def test_an_old_name_may_stand_for_two_words_and_wait_for_its_command(monkeypatch: pytest.MonkeyPatch):
    @click.group()
    def directions() -> None:
        """A command with commands."""

    @directions.command()
    @click.option("--random-seed", type=int)
    @click.argument("file")
    def apply(random_seed: int, file: str) -> None:
        click.echo(f"{random_seed} {file}")

    monkeypatch.setattr("facegen.cli.COMMANDS", {})
    line = ["apply_factor", "--random_seed=3", "my_factor.pt"]
    assert CliRunner().invoke(main, line).exit_code == 2
    monkeypatch.setattr("facegen.cli.COMMANDS", {"directions": ("facegen.cli.directions", "")})
    monkeypatch.setitem(sys.modules, "facegen.cli.directions", SimpleNamespace(command=directions))
    assert CliRunner().invoke(main, line).stdout == "3 my_factor.pt\n"


def test_truncation_has_the_names_of_the_family():
    for name in ("--psi", "--trunc", "--truncation", "--truncation-psi", "--truncation_psi"):
        for command in ("transfer", "convert", "train-encoder"):
            result = CliRunner().invoke(main, [command, name, "x"])
            assert result.exit_code == 2
            assert "'--psi'" in result.output
