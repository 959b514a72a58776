"""Check that wheels hold the same files, and that they are not too large: python scripts/same_wheels.py A.whl B.whl"""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

LIMIT = 60_000_000  # bytes of a wheel with the weights in it


def contents(path: Path) -> dict[str, int]:
    """The files in a wheel, with the checksum of each."""
    with ZipFile(path) as wheel:
        return {member.filename: member.CRC for member in wheel.infolist()}


def main(*names: str) -> None:
    """Say how large the wheels are, or end with what is wrong."""
    first, *others = paths = [Path(name) for name in names]
    for other in others:
        if different := sorted({name for name, _ in contents(first).items() ^ contents(other).items()}):
            sys.exit(f"{first} and {other} differ in {', '.join(different[:10])}")
    size = max(path.stat().st_size for path in paths)
    if size > LIMIT:
        sys.exit(f"{first.name} has {size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}")
    print(f"{first.name}: {size / 1e6:.1f} MB, {len(contents(first))} files")


if __name__ == "__main__":
    main(*sys.argv[1:])
