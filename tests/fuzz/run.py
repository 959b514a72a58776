"""Fuzzing: mutants of the corpora go through the targets until one is a finding, or the time is over.

    PYTHONPATH=tests python -m fuzz.run                            # all targets, ten minutes each
    PYTHONPATH=tests python -m fuzz.run safetensors --seconds 60
    PYTHONPATH=tests python -m fuzz.run safetensors out/fuzz/safetensors/crash-1f2e    # one file again

Where atheris is installed (`pip install atheris`; Linux), it looks for mutants that reach new lines of the package;
else mutants are drawn blindly. Findings, and mutants that reached new lines, are kept in `out/fuzz/TARGET`. A finding
ends its target; when it is mended, the file goes to `tests/fuzz/corpus/TARGET`, where `tests/test_fuzz.py` tries it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

CORPUS, OUT = Path(__file__).parent / "corpus", Path("out") / "fuzz"
INSTRUMENTED = ["facegen", "PIL", "zipfile"]
RUNNING = "running"  # names the mutant that is tried: it stays if the process crashes
LARGEST = 50_000  # bytes of a mutant


def main() -> int:
    """Read the arguments, and give each target a process of its own; 1 where there was a finding."""
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", nargs="*", help=f"Some of {', '.join(TARGETS)}, or one and a file.")
    parser.add_argument("--seconds", type=int, default=600, help="For each target.")
    given = parser.parse_args()
    if len(given.target) == 2 and Path(given.target[1]).is_file():
        return _once(given.target[0], Path(given.target[1]))
    if unknown := [name for name in given.target if name not in TARGETS]:
        parser.error(f"{unknown[0]}: no such target")
    found = [name for name in given.target or TARGETS if not _in_a_process(name, given.seconds)]
    print(f"findings: {', '.join(found)}" if found else "no findings")
    return 1 if found else 0


def _in_a_process(name: str, seconds: int) -> bool:
    """Fuzz one target; return whether there was no finding."""
    out = OUT / name
    (out / "corpus").mkdir(parents=True, exist_ok=True)
    (out / RUNNING).unlink(missing_ok=True)  # of a run that was interrupted
    before = set(out.iterdir())
    print(f"\n{name}: {seconds} seconds", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        call = [sys.executable, "-c", f"from fuzz.run import fuzz; fuzz({name!r}, {seconds})"]
        child = subprocess.Popen(call, env={**os.environ, "TMPDIR": folder, "OMP_NUM_THREADS": "1"})
        try:
            code = child.wait()
        except KeyboardInterrupt:  # the child has it, too
            child.wait()
            raise
    files = sorted(set(out.iterdir()) - before)
    for file in files:
        print(f"{name}: a finding (exit code {code}); again: PYTHONPATH=tests python -m fuzz.run {name} {file}")
    if code and not files:
        print(f"{name}: ended with exit code {code}")
    return not files and code == 0


def _once(name: str, path: Path) -> int:
    if (problem := complaint(name, path.read_bytes())) is None:
        print(f"{path}: no finding")
        return 0
    print(f"{path}: {problem}")
    return 1


def complaint(name: str, data: bytes) -> str | None:
    """Return what is wrong about how a target takes its input: an exception, too long, too much memory; else None."""
    from fuzz.targets import MEGABYTES, SECONDS, TARGETS

    start, before = time.process_time(), _peak()
    try:
        TARGETS[name](data)
    except Exception:
        return traceback.format_exc()
    if (seconds := time.process_time() - start) > SECONDS:
        return f"{seconds:.1f} seconds"
    grown = _peak() - before
    return f"{grown:,.0f} MB" if grown > MEGABYTES else None


def _peak() -> float:
    """The most memory that this process has had, in MB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    from fuzz.targets import megabytes

    return megabytes(resource.getrusage(resource.RUSAGE_SELF))


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process, with atheris if there is one; returns at the end of the time, or exits."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    (_with_atheris if importlib.util.find_spec("atheris") else _blindly)(name, seconds)


def _with_atheris(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz.mutate import mutate
        from fuzz.targets import MEGABYTES, SECONDS, TARGETS

        TARGETS[name](next((CORPUS / name).iterdir()).read_bytes())  # imports the rest of what it needs

    def mutant(data: bytes, largest: int, seed: int) -> bytes:
        draws = random.Random(seed)
        return mutate(name, data, draws)[:largest] if draws.random() < 0.5 else atheris.Mutate(data, largest)

    limits = [f"-max_total_time={seconds}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES + 1000}"]
    limits += [f"-malloc_limit_mb={MEGABYTES}", f"-max_len={LARGEST}", f"-artifact_prefix={OUT / name}/"]
    corpora = [str(OUT / name / "corpus"), str(CORPUS / name)]  # what it finds goes into the first
    atheris.Setup([name, *limits, "-print_final_stats=1", *corpora], TARGETS[name], custom_mutator=mutant)
    atheris.Fuzz()


def _blindly(name: str, seconds: int) -> None:
    from fuzz.mutate import mutate

    print("without atheris, which is not installed: mutants are drawn blindly")
    seeds = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    draws, end, count = random.Random(), time.monotonic() + seconds, 0
    complaint(name, seeds[0])  # its imports take memory
    file = OUT / name / RUNNING
    while time.monotonic() < end:
        data = mutate(name, draws.choice(seeds), draws)[:LARGEST]
        file.write_bytes(data)
        count += 1
        if problem := complaint(name, data):
            print(problem)
            file.rename(file.with_name(f"crash-{draws.getrandbits(64):016x}"))
            sys.exit(1)
        file.unlink()
    print(f"{name}: {count} mutants")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
