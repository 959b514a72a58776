"""`facegen transfer` takes clips among photos."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import clip_files as clips
from click.testing import CliRunner, Result
from helpers import start_python
from PIL import Image

from facegen.cli import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["transfer", *map(str, arguments)])


def test_clips_and_photos_in_one_run(tmp_path: Path, hopper: Image.Image):
    source = clips.write_animation(tmp_path / "clip.gif", clips.moving(hopper, 3))
    hopper.resize((256, 300)).save(tmp_path / "photo.jpg")
    arguments = [source, tmp_path / "photo.jpg", "--ages", "30", "--outdir", tmp_path / "out", "--format", "jpg"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert clips.read_animation(tmp_path / "out" / "clip" / "clip-age30.gif")[0].shape[0] == 3
    assert (tmp_path / "out" / "photo" / "photo-age30.jpg").exists()
    assert result.stderr.count("a clip stays a clip") == 1
    record = json.loads((tmp_path / "out" / "clip" / "clip.json").read_text(encoding="utf-8"))
    assert record["files"] == ["clip-age30.gif"]
    assert "2 of them from before" in run(*arguments, "--skip-existing").output


def test_what_is_for_photos_only_is_refused_for_a_clip(tmp_path: Path, hopper: Image.Image):
    source = clips.write_animation(tmp_path / "clip.gif", clips.moving(hopper, 3))
    for options in (["--output", "face"], ["--paste-back", "face"], ["--refine", "5"]):
        result = run(source, "--ages", "30", "--outdir", tmp_path / "out", *options)
        assert result.exit_code == 1
        assert result.output.count("Error:") == 1
    assert not list((tmp_path / "out").glob("*.gif"))


def test_ctrl_c_leaves_a_file_that_can_be_played(tmp_path: Path, hopper: Image.Image):
    source = clips.write_animation(tmp_path / "clip.gif", clips.moving(hopper, 60))
    process = start_python(
        "-c",
        "import sys; from facegen.clips import age; add = age.put_in\n"
        "def said(*a, **k): print('frame', flush=True); return add(*a, **k)\n"
        "age.put_in = said\n"
        "from facegen.cli import main; main()",
        *["transfer", str(source), "--ages", "30", "--outdir", str(tmp_path / "out")],
    )
    assert process.stdout is not None
    while "frame" not in (line := process.stdout.readline()):
        assert line, "it ended before"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "has the first" in errors
    path = tmp_path / "out" / "clip-age30.gif"
    assert {file.name for file in path.parent.iterdir()} == {path.name, "clip.json"}
    assert json.loads((path.parent / "clip.json").read_text(encoding="utf-8"))["files"] == []  # it is not done
    assert 1 <= len(clips.read_animation(path)[0]) < 60
