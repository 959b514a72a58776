"""Reads pickles in a process of its own that sees everything Python can audit: imports, files, processes, code.

    python fuzz_pickles.py read FOLDER            # every file of a folder
    python fuzz_pickles.py mutate FOLDER COUNT SEED   # so many mutants of the files

Prints a JSON object: per file `network` or the error's words (`read`), counts of outcomes (`mutate`), and `events`:
what was audited beyond opening the file itself; it must be empty. `modules` are those imported by reading.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np

from facegen.errors import FacegenError
from facegen.weights.family.pickles import read_networks

SECONDS = 60  # for one file, on a slow and busy core

# Instructions and names that mutation strews in; a mutant that stays inside what network files use tests little.
GRAFTS = [
    *(bytes([code]) for code in b"(.0123abcdeghijlopqrstu}]()NIKMJBCXTUVQRP"),
    *(bytes([code]) for code in range(0x80, 0x99)),
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"cbuiltins\nset\n",
    b"ccollections\nOrderedDict\n",
    b"cdnnlib.util\nEasyDict\n)\x81",
    b"cnumpy\ndtype\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch.storage\n_load_from_bytes\n",
    b"X\x0b\x00\x00\x00touch pwned\x85R",
    b"r\xff\xff\xff\xff",
    b"j\x00\x00\x00\x00",
    b"B\xff\xff\xff\x7f",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"J\xff\xff\xff\x7f",
    b"J\x00\x00\x00\x80",
    b"\x8a\xff",
    b"\x8b\xff\xff\xff\xff",
    b"G\x7f\xf0\x00\x00\x00\x00\x00\x00",
]


def mutant(seeds: list[bytes], rng: random.Random) -> bytes:
    """Return a seed with one to six changes; most of them in the first bytes or between tensors, not in numbers."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        if not data:
            break
        at = rng.randrange(len(data)) if rng.random() < 0.7 else rng.randrange(min(len(data), 2000))
        change = rng.randrange(7)
        if change == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            data[at] = rng.randrange(256)
        elif change == 2:
            data[at:at] = rng.choice(GRAFTS)
        elif change == 3:
            graft = rng.choice(GRAFTS)
            data[at : at + len(graft)] = graft
        elif change == 4:
            del data[at : at + rng.choice([1, 2, 4, 16, 256])]
        elif change == 5:
            start = rng.randrange(len(data))
            data[at:at] = data[start : start + rng.choice([1, 4, 16, 64, 1024])]
        elif rng.random() < 0.2:
            del data[at + 1 :]
        else:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00"])
    return bytes(data)


class Watch:
    """Notes every audited event while it is on, but the opening of the one file that is read."""

    def __init__(self) -> None:
        self.on = False
        self.file = ""
        self.events: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, args: tuple) -> None:
        for_writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        opened = event == "open" and (str(args[0]) == self.file or type(args[0]) is int)  # by name, then by number
        if not self.on or (opened and not args[2] & for_writing):
            return
        if event not in ("object.__getattr__", "builtins.id", "signal.alarm"):  # these do nothing
            self.events.append(f"{event} {str(args)[:100]}")


def outcome(path: Path, watch: Watch) -> tuple[str, float]:
    """Read a file under watch; return `network` or the error, and the seconds of work it took."""
    watch.file = str(path)
    signal.alarm(SECONDS)
    start = time.process_time()
    watch.on = True
    try:
        read_networks(path)
        result = "network"
    except FacegenError as error:
        result = str(error)
    finally:
        watch.on = False
        signal.alarm(0)
    return result, time.process_time() - start


def main() -> None:
    mode, folder = sys.argv[1], Path(sys.argv[2])
    files = sorted(folder.iterdir())
    np.seterr(all="ignore")
    watch = Watch()
    modules = set(sys.modules)
    report: dict = {"slowest": 0.0}
    if mode == "read":
        report["files"] = {}
        for file in files:
            report["files"][file.name], seconds = outcome(file, watch)
            report["slowest"] = max(report["slowest"], seconds)
    else:
        rng = random.Random(int(sys.argv[4]))
        seeds = [file.read_bytes() for file in files]
        report |= {"network": 0, "error": 0, "many_lines": 0}
        path = folder.parent / "mutant.pkl"
        for number in range(int(sys.argv[3])):
            data = mutant(seeds, rng)
            path.write_bytes(data)
            try:
                result, seconds = outcome(path, watch)
            except BaseException:
                print(f"mutant {number} is kept in {path}", file=sys.stderr)
                raise
            report["network" if result == "network" else "error"] += 1
            report["many_lines"] += "\n" in result
            report["slowest"] = max(report["slowest"], seconds)
    report["events"] = watch.events[:20]
    report["modules"] = sorted(set(sys.modules) - modules)
    # Not getrusage, which also counts the process that started this one.
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"))[1] if status.exists() else 0
    report["megabytes"] = int(peak) // 1024
    print(json.dumps(report))


if __name__ == "__main__":
    main()
