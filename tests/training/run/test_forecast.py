"""Who trains on a CPU with a configuration for GPUs hears at once how long it will take."""

from __future__ import annotations

import pytest
import torch
from trainings import go_on, train

from facegen.training.generator.options import PRESETS
from facegen.training.run import forecast


def lines_on_time(run) -> list[str]:
    return [line for line in (run / "log.txt").read_text(encoding="utf-8").splitlines() if line.startswith("time ")]


def test_after_two_steps_one_line_says_how_long_and_what_to_choose(face_archive, tmp_path):
    run = train(face_archive, tmp_path, cfg="auto", kimg=0.012)
    (line,) = lines_on_time(run)
    assert "about" in line
    assert "--cfg tiny" in line
    assert "--cfg small" in line
    go_on(run, kimg=0.02)
    assert len(lines_on_time(run)) == 2  # of the rest, when it goes on


class Log:
    def __init__(self, device: str) -> None:
        self.device, self.lines = torch.device(device), []

    def log(self, text: str) -> None:
        self.lines.append(text)


def measured(monkeypatch, cfg: str, device: str = "cpu", seconds: float = 3600) -> list[str]:
    """What is logged after a step of twice as many seconds and four of `seconds`; 1,000 steps are left."""
    times = iter([0, 2 * seconds, 3 * seconds, 4 * seconds, 5 * seconds, 6 * seconds])
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: next(times))
    log = Log(device)
    watch = forecast.Forecast(log, cfg, images=32_000, batch=32)
    for _ in range(5):
        watch.after_step()
    return log.lines


@pytest.mark.parametrize("cfg", [cfg for cfg in PRESETS if cfg not in ("tiny", "small")])
def test_the_first_step_counts_as_one_of_four(monkeypatch, cfg):
    (line,) = measured(monkeypatch, cfg)
    assert "about 52 days for the 32 kimg" in line  # 1,000 steps of 1.25 hours
    assert f"--cfg {cfg} is for GPUs" in line


@pytest.mark.parametrize("quiet", [{"cfg": "tiny"}, {"cfg": "small"}, {"cfg": "auto", "device": "cuda"}])
def test_nothing_is_said_of_what_is_for_cpus_nor_on_a_gpu(monkeypatch, quiet):
    assert measured(monkeypatch, **quiet) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 0 seconds"),
        (100, "about 100 seconds"),
        (150, "about 2 minutes"),
        (7100, "about 118 minutes"),
        (3 * 3600, "about 3 hours"),
        (50 * 3600, "about 2 days"),
        (3e9, "about 95 years"),
    ],
)
def test_a_duration_in_words(seconds, words):
    assert forecast.in_words(seconds) == words
