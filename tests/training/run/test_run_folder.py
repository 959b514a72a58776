from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from facegen.options import Options, option
from facegen.training.run.folder import RunFolder, read_stats, save_state


@dataclass(frozen=True)
class Few(Options):
    data: str = option("")
    kimg: float = option(3.0)


def test_runs_are_numbered_one_after_the_other(tmp_path: Path):
    names = [RunFolder.create(tmp_path / "runs", name).path.name for name in ("faces-tiny", "encoder", "faces-tiny")]
    assert names == ["00000-faces-tiny", "00001-encoder", "00002-faces-tiny"]


def test_numbering_goes_on_after_the_largest_number_and_minds_only_runs(tmp_path: Path):
    for name in ("00007-old", "notes", "12.txt", "100000-many"):
        (tmp_path / name).mkdir()
    assert RunFolder.create(tmp_path, "new").path.name == "100001-new"


def test_runs_started_at_once_get_different_numbers(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda i: RunFolder.create(tmp_path, f"run{i}"), range(16)))
    numbers = sorted(run.path.name[:5] for run in runs)
    assert len(set(numbers)) == 16
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(run.path.name for run in runs)  # no claims left


def test_log_prints_and_keeps_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = RunFolder.create(tmp_path, "a")
    run.log("first")
    run.log("größer")
    assert (run.path / "log.txt").read_text(encoding="utf-8") == "first\ngrößer\n"
    assert capsys.readouterr().out == "first\ngrößer\n"


def test_stats_go_to_json_lines_and_tensorboard(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunFolder.create(tmp_path, "a") as run:
        run.stats(1, {"loss": 0.5})
        run.stats(2.0, {"loss": math.nan, "lr": 1e-3})
    first, second = read_stats(run.path)
    assert (first["step"], first["loss"]) == (1, 0.5)
    assert second["loss"] is None
    assert second["lr"] == 1e-3
    events = EventAccumulator(str(run.path)).Reload()
    assert [e.value for e in events.Scalars("loss")][:1] == [0.5]


def test_pictures_and_options_go_to_tensorboard(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunFolder.create(tmp_path, "a") as run:
        run.write_options(Few("faces\udcff.zip"))
        Image.new("L", (20, 10), 77).save(run.path / "fakes.png")
        run.show("fakes", 12_345, run.path / "fakes.png")
    assert json.loads((run.path / "training_options.json").read_text())["kimg"] == 3.0
    events = EventAccumulator(str(run.path)).Reload()
    (shown,) = events.Images("fakes")
    assert (shown.step, shown.width, shown.height) == (12_345, 20, 10)
    (tag,) = events.Tags()["tensors"]
    (text,) = events.Tensors(tag)[0].tensor_proto.string_val
    assert b"| kimg | 3.0 |" in text


def test_open_drops_statistics_after_the_last_step(tmp_path: Path):
    with RunFolder.create(tmp_path, "a") as run:
        for step in range(1, 5):
            run.stats(step, {"loss": step / 10})
    with (run.path / "stats.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # the machine went down here
    with RunFolder.open(run.path, last_step=2) as again:
        again.stats(3, {"loss": 0.9})
    assert [line["step"] for line in read_stats(run.path)] == [1, 2, 3]
    assert RunFolder.open(run.path).path == run.path


def test_open_refuses_a_missing_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        RunFolder.open(tmp_path / "00003-gone")


def test_write_json(tmp_path: Path):
    run = RunFolder.create(tmp_path, "a")
    run.write_json("training_options.json", {"batch": 32})
    assert json.loads((run.path / "training_options.json").read_text()) == {"batch": 32}
    with pytest.raises(TypeError):
        run.write_json("training_options.json", {"bad": object()})
    assert json.loads((run.path / "training_options.json").read_text()) == {"batch": 32}


def test_a_full_disk_is_told_in_one_line_and_keeps_the_old_state(tmp_path: Path):
    """A limit on the size of files stands in for a full disk; the system refuses the write all the same."""
    resource = pytest.importorskip("resource", reason="not on Windows")
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{path}: cannot be written .*is the disk full") as caught:
            save_state(path, {"step": 2, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
