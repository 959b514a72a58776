"""A process that trains, kills (-9) and resumes small runs again and again, as the tests of lost runs ask it to.

    python killed_runs.py ARCHIVE FOLDER random KILLS SEED     kills so many times, at random moments of 40 steps
    python killed_runs.py ARCHIVE FOLDER writing FIRST LAST    kills before the n-th change of files of a snapshot

Every training is a fork of this process, which has imported all that it takes: that saves the seconds of an import.
Prints a JSON line: checksums of the weights of a run that nobody disturbed, and of each that was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch.utils.tensorboard

from facegen.training.generator import checkpoint, loop
from facegen.training.generator.options import resolve_options
from facegen.weights.header import Header
from facegen.weights.locate import list_snapshots

SMALL = {"channel_base": 128, "channel_max": 16, "latent": 16}
STEPS = {"random": 40, "writing": 15}
KILLS = 4  # of one run


def options_of(archive: str, outdir: Path):
    """Every part that has a state of its own; a snapshot after every fifth step."""
    chosen = {"batch": 4, "kimg": STEPS[sys.argv[3]] * 4 / 1000, "tick": 0.02, "snap": 1, "cfg": "auto", "mirror": True}
    options = resolve_options(data=archive, outdir=str(outdir), resolution=16, balance=0.5, p=0.3, keep=2, **chosen)
    return replace(options, **SMALL, ada_kimg=1)  # ADA moves p visibly


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
    loop.train_generator(options_of(archive, outdir), progress=False)


def resume(run: Path) -> None:
    torch.manual_seed(int(time.time()))  # a new process has not the old random state
    loop.resume_generator(run, progress=False)


def run_in(outdir: Path) -> Path:
    return next(outdir.glob("0*"))


def sums(run: Path) -> dict[str, str]:
    """Checksums of the last snapshot, and of the optimizers, counters and random states beside it."""
    networks = Header.read(list_snapshots(run)[-1])["networks"]
    return {name: entry["sha256"] for name, entry in networks.items()} | {"state": state_sum(run)}


def seen(run: Path) -> int:
    return torch.load(run / checkpoint.STATE, weights_only=True)["images_seen"]


def state_sum(run: Path) -> str:
    content = torch.load(run / checkpoint.STATE, weights_only=True)
    parts = [content["images_seen"], content["steps"], content["position"], content["ada"], float(content["p"])]
    parts += [float(content["pl_mean"]), int(content["rng_cpu"].sum())]
    for optimizer in content["optimizers"].values():
        parts += [float(t.double().sum()) for s in optimizer["state"].values() for t in s.values()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def killed_at_random(archive: str, outdir: Path, kills: int, seconds: float) -> dict[str, str]:
    child = fork(lambda: train(archive, outdir))
    killed = 0
    while killed < kills:
        while not list(outdir.glob(f"0*/{checkpoint.STATE}")):  # what was killed before has nothing to go on with
            time.sleep(0.001)
        time.sleep(random.uniform(0, seconds / 8))  # of eight ticks about one, or the start of one that goes on
        os.kill(child, signal.SIGKILL)
        if end(child) == 0:  # it was faster
            break
        killed += 1
        if seen(run_in(outdir)) == STEPS["random"] * 4:  # all was written, and no next start tidies up
            return {**sums(run_in(outdir)), "kills": killed, "left": []}
        child = fork(lambda: resume(run_in(outdir)))
    else:
        assert end(child) == 0, "the run did not go on"
    run = run_in(outdir)
    left = [path.name for path in run.iterdir() if path.name.endswith((".tmp", checkpoint.BEFORE))]
    return {**sums(run), "kills": killed, "left": left}


def killed_while_writing(archive: str, outdir: Path, moment: int) -> dict[str, str]:
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
    run = run_in(outdir)
    if code == -signal.SIGKILL:
        assert end(fork(lambda: resume(run))) == 0, f"cannot go on after a kill at moment {moment}"
    left = [path.name for path in run.iterdir() if path.name.endswith((".tmp", checkpoint.BEFORE))]
    return {**sums(run), "kills": int(code == -signal.SIGKILL), "left": left}


def main() -> None:
    archive, folder, kind, *numbers = sys.argv[1:]
    first, second = map(int, numbers)
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # imports for seconds, and the forks need not
    random.seed(second)
    start = time.perf_counter()
    assert end(fork(lambda: train(archive, Path(folder) / "whole"))) == 0
    seconds = time.perf_counter() - start
    if kind == "random":
        results = []
        while (missing := first - sum(result["kills"] for result in results)) > 0:
            outdir = Path(folder) / f"{len(results)}"
            results.append(killed_at_random(archive, outdir, min(missing, KILLS), seconds))
    else:
        results = [killed_while_writing(archive, Path(folder) / f"{i}", i) for i in range(first, second + 1)]
    print(json.dumps({"whole": sums(run_in(Path(folder) / "whole")), "killed": results, "seconds": seconds}))


if __name__ == "__main__":
    main()
