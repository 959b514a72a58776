"""Run folders from strangers: links, pipes, notes of any kind and size. Each answers in one line, or is left out."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image
from trainings import assert_one_line

from facegen import reading
from facegen.cli import main
from facegen.errors import FacegenError
from facegen.training.age.options import AgeOptions
from facegen.training.encoder.options import EncoderOptions
from facegen.training.generator.options import TrainOptions
from facegen.training.run.data import changes, check_same_classes
from facegen.training.run.folder import RunFolder, read_options, read_stats
from facegen.training.run.list import find_runs
from facegen.training.run.lock import read_status
from facegen.training.run.snapshots import read_best, read_metrics

GOOD = {
    "training_options.json": '{"cfg": "tiny", "kimg": 1, "batch": 4, "data": "faces.zip"}',
    "stats.jsonl": '{"step": 1, "Loss/G/loss": 0.5, "Progress/augment": 0.25, "Timing/sec_per_kimg": 2}\n' * 2,
    "status.json": '{"state": "stopped", "reason": "", "pid": 1, "host": "a", "time": 1.5}',
    "metrics.jsonl": '{"snapshot": "a", "kimg": 1, "fid": 2}\n' * 2,
    "best.json": '{"snapshot": "a", "kimg": 1, "metric": "fid", "value": 2}',
}
DEEP = "[" * 100_000
EVIL = {
    "not a text": b"\xff\xfe\x00",
    "deep": DEEP,
    "a deep step": f'{{"step": {DEEP}',
    "a deep entry": f'{{"step": 1, "cfg": "tiny", "kimg": {DEEP}{"]" * 100_000}}}',
    "a long number": f'{{"step": {"9" * 400}, "kimg": {"9" * 400}, "cfg": "a", "snapshot": "a", "value": {"9" * 400}}}',
    "a longer number": f'{{"step": {"9" * 5000}}}',
    "a huge number": '{"step": 1e999, "kimg": 1e999, "cfg": "a", "value": 1e999, "snapshot": "a", "metric": "m"}',
    "a large number": '{"step": 1e308, "kimg": 1e308, "cfg": "a", "Loss/G/loss": -1e308, "Timing/sec_per_kimg": 1e308}',
    "NaN": '{"step": NaN, "kimg": NaN, "cfg": "a", "time": NaN, "state": "running"}',
    "texts": '{"step": 1, "Progress/augment": "x", "Timing/sec_per_kimg": "x", "kimg": "x", "cfg": "x", "pid": "x"}',
    "lists": '{"step": [1], "kimg": [], "cfg": [], "state": [], "reason": {}, "snapshot": [], "metric": []}',
    "no objects": "[1]\n7\nnull\n\"x\"\n",
    "nothing": "",
    "half": '{"step": 1, "ki',
    "an encoder": '{"pairs": [], "epochs": 3}',
    "an estimator": '{"arch": {}, "kimg": 3, "half": [], "data": {}, "generator": 7}',
    "truths": '{"step": true, "kimg": true, "cfg": true, "pairs": true, "epochs": true, "state": true}',
    "surrogates": '{"cfg": "\\ud800\\u001b[2J", "kimg": 1, "data": "\\ud800\\u0000", "state": "\\u202e"}',
}  # fmt: skip


def make(folder: Path, **changed: str | bytes) -> Path:
    folder.mkdir(parents=True)
    for name, content in GOOD.items():
        content = changed.get(name, content)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.mark.parametrize("evil", EVIL)
def test_one_damaged_run_does_not_hide_the_others(tmp_path: Path, evil: str):
    make(tmp_path / "runs/00000-good")
    for number, name in enumerate(GOOD, start=1):
        make(tmp_path / f"runs/{number:05d}-bad", **{name: EVIL[evil]})
    result = CliRunner().invoke(main, ["runs", str(tmp_path / "runs"), "--html", str(tmp_path / "runs.html")])
    assert result.exit_code == 0, result.output
    assert result.exception is None
    line = next(line for line in result.output.splitlines() if line.endswith("00000-good"))
    words = [
        "stopped",
        "1 of 1 kimg",
        "2 s/kimg",
        "0.250",
        "fid 2 at 1 kimg",
        "tiny, batch 4",
        "faces.zip",
        "00000-good",
    ]
    assert re.split("  +", line) == words
    assert len([line for line in result.output.splitlines() if line.endswith("-bad")]) == len(GOOD)
    assert "\x1b" not in result.output


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_devices_and_links(tmp_path: Path):
    make(tmp_path / "runs/00000-good")
    for number, name in enumerate([*GOOD, "fakes000001.png", "network-snapshot-000001.safetensors"]):
        for kind, place in enumerate(("pipe", "/dev/zero", "nowhere", ".", "folder", "itself")):
            path = make(tmp_path / f"runs/{number}{kind}-bad") / name
            path.unlink(missing_ok=True)
            if place == "pipe":
                os.mkfifo(path)
            elif place == "folder":
                path.mkdir()
            else:
                path.symlink_to(path if place == "itself" else place)
    result = CliRunner().invoke(main, ["runs", str(tmp_path / "runs"), "--html", str(tmp_path / "runs.html")])
    assert result.exit_code == 0, result.output
    assert "00000-good" in result.output
    for path in (tmp_path / "runs").glob("60-bad"):
        found = CliRunner().invoke(main, ["info", str(path)])
        assert found.exit_code == 1
        assert_one_line(found.output)


def test_runs_within_each_other(tmp_path: Path):
    run = make(tmp_path / "runs/00000-good")
    (run / "00000-again").symlink_to(tmp_path / "runs", target_is_directory=True)
    (tmp_path / "runs/00001-again").symlink_to(tmp_path / "runs", target_is_directory=True)
    assert [found.path.name for found in find_runs(tmp_path / "runs")] == ["00000-good"]


def test_more_than_any_training_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path / "runs/00000-good")
    many = make(tmp_path / "runs/00001-lines", **{"stats.jsonl": "{}\n" * 301})
    large = make(tmp_path / "runs/00002-bytes", **{"stats.jsonl": "x" * 2001})
    make(tmp_path / "runs/00003-options", **{"training_options.json": '{"cfg": "' + "x" * 2001 + '", "kimg": 1}'})
    monkeypatch.setattr(reading, "MAX_LINES", 300)
    monkeypatch.setattr(reading, "MAX_TEXT_BYTES", 2000)
    monkeypatch.setattr(reading, "MAX_NOTE_BYTES", 2000)
    found = {run.path.name: (run.state, run.reason) for run in find_runs(tmp_path / "runs")}
    assert found["00000-good"] == ("stopped", "")
    assert all(state == "broken" for name, (state, _) in found.items() if name != "00000-good")
    for run in (many, large):
        assert "stats.jsonl" in found[run.name][1]
        with pytest.raises(FacegenError, match=r"stats\.jsonl"):
            read_stats(run)


def test_a_picture_that_unpacks_to_more_than_a_training_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = make(tmp_path / "runs/00000-good")
    Image.new("1", (12_000, 12_000)).save(run / "fakes000001.png")
    assert (run / "fakes000001.png").stat().st_size < 50_000
    decoded: list[Any] = []
    monkeypatch.setattr(Image.Image, "convert", lambda *rest: decoded.append(rest))
    assert CliRunner().invoke(main, ["runs", str(run), "--html", str(tmp_path / "r.html")]).exit_code == 0
    assert decoded == []


def test_notes_are_what_a_training_writes_or_none(tmp_path: Path):
    for number, evil in enumerate(EVIL.values()):
        run = make(tmp_path / f"{number}", **dict.fromkeys(GOOD, evil))
        (run / "data.json").write_bytes(evil if isinstance(evil, bytes) else evil.encode())
        assert read_status(run) is None
        assert read_best(run) is None
        assert all(isinstance(value, float | int) for line in read_stats(run) for value in line.values())
        assert all(isinstance(line["snapshot"], str) for line in read_metrics(run))
        note = {"data": {"path": "a.zip", "classes": ["a"], "pictures": 1, "content": "x"}}
        check_same_classes(run, note)
        assert changes(run, note) == []
    for classes in (7, "a", [1], None, [["a"]]):
        (run / "data.json").write_text(json.dumps({"data": {"classes": classes, "pictures": 1, "content": "x"}}))
        check_same_classes(run, note)


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
@pytest.mark.parametrize("name", ["status.json", "log.txt", "stats.jsonl", ".lock", "training_options.json"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]):
    run, mine = make(tmp_path / "run"), tmp_path / "mine.txt"
    for there in (True, False):
        mine.write_text("mine") if there else mine.unlink()
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(mine)
        try:
            with RunFolder.open(run) as opened:
                opened.log("text")
                opened.stats(1, {"a": 1})
                opened.write_json("training_options.json", {"a": 1})
        except (OSError, FacegenError) as error:
            assert_one_line(str(error))
            assert name == "status.json"
        assert mine.exists() == there
        assert not there or mine.read_text() == "mine"


OPTIONS = {
    TrainOptions: {"data": "faces.zip"},
    EncoderOptions: {"generator": "generator.safetensors"},
    AgeOptions: {"data": "faces.zip"},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_of_wrong_types(tmp_path: Path, kind: Any):
    path = tmp_path / "training_options.json"
    plain = kind(**OPTIONS[kind]).to_json()
    path.write_text(json.dumps(plain))
    assert read_options(tmp_path, kind) == kind(**OPTIONS[kind])
    values = ([1] * 1000, [], {}, {"a": 1}, "x" * 5000, 10**99, -(10**99), 1e300, True, [[1]], ["a"], 0.5, "7", "a\0b")
    accepted = set()
    for name in plain:
        for value in values:
            path.write_text(json.dumps({**plain, name: value}))
            try:
                read_options(tmp_path, kind)
            except FacegenError as error:
                assert_one_line(str(error))
            else:
                accepted.add((name, str(value)[:9]))
    for name, value in accepted:
        assert value == "True" if isinstance(plain[name], bool) else value in {"0.5", "7"}, (name, value)


@pytest.mark.parametrize("value", ["https://example.org/a.pkl", "hf://a/b", "ffhq256", "some/network"])
@pytest.mark.parametrize("name", ["generator", "age_estimator"])
def test_options_that_would_ask_another_machine(tmp_path: Path, name: str, value: str):
    options = EncoderOptions(**{"generator": "g.safetensors", name: value}).to_json()
    (tmp_path / "training_options.json").write_text(json.dumps(options))
    with pytest.raises(FacegenError, match=f"{name}.*--{name.replace('_', '-')}"):
        read_options(tmp_path, EncoderOptions)


def test_options_without_end(tmp_path: Path):
    for content in (DEEP, '{"data": ' * 10**5, "[1]", "7", '{"data": 1, "data": ' + "9" * 5000 + "}"):
        (tmp_path / "training_options.json").write_text(content)
        with pytest.raises(FacegenError) as caught:
            read_options(tmp_path, TrainOptions)
        assert_one_line(str(caught.value))


def test_the_page_draws_some_metrics_however_many_names_there_are(tmp_path: Path):
    lines = (f'{{"snapshot": "a", "kimg": {k}, "fid": 2, "m{k // 2}": {k}}}\n' for k in range(3000))
    for name, content in (GOOD | {"metrics.jsonl": "".join(lines)}).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert CliRunner().invoke(main, ["runs", str(tmp_path), "--html", str(tmp_path / "runs.html")]).exit_code == 0
    headings = re.findall("<h4>(fid|m.*?)</h4>", (tmp_path / "runs.html").read_text(encoding="utf-8"))
    assert headings[0] == "fid"
    assert 2 <= len(headings) < 100
