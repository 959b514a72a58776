"""A process that trains, kills (-9) and resumes small runs again and again, as the tests of lost runs ask it to.

    python killed_runs.py ARCHIVE FOLDER KILLS FIRST LAST

It kills KILLS times at random moments of 30 steps, and before the n-th change of files of a snapshot, from FIRST to
LAST. Every training is a fork of this process, which has imported all that it takes: that saves the seconds of an
import. Prints a JSON line: for `random` and `writing` the folder of a run that nobody disturbed, and of each run that
was killed what `told` says.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.utils.tensorboard
from trainings import go_on, narrow_options, only_run

from facegen.training.generator import checkpoint, loop

STEPS = {"random": 30, "writing": 15}
KILLS = 4  # of one run


def options_of(archive: str, outdir: Path):
    """Every part that has a state of its own; a snapshot after every fifth step."""
    kimg = STEPS[outdir.parent.name] * 4 / 1000
    chosen = {"kimg": kimg, "tick": 0.02, "snap": 1, "cfg": "auto", "mirror": True, "balance": 0.5, "p": 0.3, "keep": 2}
    return narrow_options(archive, ada_kimg=1, **chosen)  # ADA moves p visibly


def fork(work: Callable[[], object]) -> int:
    """Do something in a child process and return its number."""
    child = os.fork()
    if child:
        return child
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def end(child: int) -> int:
    """Wait for a child; its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train(archive: str, outdir: Path) -> None:
    loop.train_generator(options_of(archive, outdir), outdir, progress=False)


def resume(run: Path) -> None:
    torch.manual_seed(int(time.time()))  # a new process has not the old random state
    go_on(run)


def seen(run: Path) -> int:
    return torch.load(run / checkpoint.STATE, weights_only=True)["images_seen"]


def told(run: Path, kills: int) -> dict[str, Any]:
    """What the test asks of a run that came to its end."""
    left = [path.name for path in run.iterdir() if path.name.endswith((".tmp", checkpoint.BEFORE))]
    return {"run": str(run), "kills": kills, "left": left}


def killed_at_random(archive: str, outdir: Path, kills: int, seconds: float) -> dict[str, Any]:
    child = fork(lambda: train(archive, outdir))
    killed = 0
    while killed < kills:
        while not list(outdir.glob(f"0*/{checkpoint.STATE}")):  # what was killed before has nothing to go on with
            time.sleep(0.001)
        time.sleep(random.uniform(0, seconds / 6))  # of six ticks about one, or the start of one that goes on
        os.kill(child, signal.SIGKILL)
        if end(child) == 0:  # it was faster
            break
        killed += 1
        if seen(only_run(outdir)) == STEPS["random"] * 4:  # all was written, and no next start tidies up
            return told(only_run(outdir), killed) | {"left": []}
        child = fork(lambda: resume(only_run(outdir)))
    else:
        assert end(child) == 0, "the run did not go on"
    return told(only_run(outdir), killed)


def killed_while_writing(archive: str, outdir: Path, moment: int) -> dict[str, Any]:
    """Kill before the n-th call that changes a file's name while the second snapshot is written."""

    def work() -> None:
        calls = {"saves": 0, "changes": 0}

        def counted(original):
            def call(*arguments, **keywords):
                if calls["saves"] == 2:
                    calls["changes"] += 1
                    if calls["changes"] == moment:
                        os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **keywords)

            return call

        real_save = checkpoint.save

        def save(*arguments):
            calls["saves"] += 1
            try:
                return real_save(*arguments)
            finally:
                calls["saves"] += 1 if calls["saves"] == 2 else 0  # only within the second one

        checkpoint.save = save
        os.link = counted(os.link)
        os.fsync = counted(os.fsync)
        for name in ("replace", "unlink", "touch", "chmod"):
            setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
        train(archive, outdir)

    code = end(fork(work))
    run = only_run(outdir)
    if code == -signal.SIGKILL:
        assert end(fork(lambda: resume(run))) == 0, f"cannot go on after a kill at moment {moment}"
    return told(run, int(code == -signal.SIGKILL))


def main() -> None:
    archive, folder, *numbers = sys.argv[1:]
    kills, first, last = map(int, numbers)
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # imports for seconds, and the forks need not
    random.seed(kills)
    found = {}
    for kind in STEPS:
        outdir = Path(folder) / kind
        start = time.perf_counter()
        assert end(fork(lambda outdir=outdir: train(archive, outdir / "whole"))) == 0
        seconds = time.perf_counter() - start
        found[kind] = {"whole": str(only_run(outdir / "whole")), "killed": []}
        if kind == "random":
            while (missing := kills - sum(result["kills"] for result in found[kind]["killed"])) > 0:
                run = outdir / f"{missing}"
                found[kind]["killed"].append(killed_at_random(archive, run, min(missing, KILLS), seconds))
        else:
            moments = range(first, last + 1)
            found[kind]["killed"] = [killed_while_writing(archive, outdir / f"{i}", i) for i in moments]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
