"""What `facegen train --resume` means: a run to continue, or weights to start a new run from."""

from __future__ import annotations

import os
import re
from pathlib import Path

from facegen.files import at_home
from facegen.training.generator.checkpoint import STATE
from facegen.weights.hub import USUAL
from facegen.weights.locate import family_snapshots, list_snapshots

NOTHING, LATEST = "noresume", "latest"  # as the StyleGAN family has them


def what_to_resume(named: str | None, outdir: str | os.PathLike[str]) -> tuple[Path | None, str | None]:
    """Return the folder of a run to continue, or the weights for a new run; None for the other.

    Args:
        named: a run folder; a run folder of another program of the StyleGAN family, of which the newest snapshot is
            taken; `latest`, the newest of both kinds in `outdir`; `noresume` or None, nothing; all else is a reference
            to weights, see `facegen.weights.locate`.
        outdir: where run folders are made.

    Raises:
        FileNotFoundError: there is no latest run.
    """
    if named is None or named.lower() == NOTHING:
        return None, None
    folder = latest_run(outdir) if named.lower() == LATEST else at_home(named)
    if not folder.is_dir() or (folder / USUAL).is_file():  # saved for the hub
        return None, named
    if pickle := _newest_pickle(folder):
        return None, str(pickle)
    return folder, None


def latest_run(outdir: str | os.PathLike[str]) -> Path:
    """Return the run folder of the highest number that has come to a snapshot of a generator.

    Raises:
        FileNotFoundError: there is none.
    """
    outdir = at_home(outdir)
    found = {}
    for path in outdir.iterdir() if outdir.is_dir() else ():
        number = re.match(r"\d+(?=-|$)", path.name)
        if number and path.is_dir() and ((path / STATE).is_file() or _newest_pickle(path)):
            found[int(number[0]), path.name] = path
    if not found:
        raise FileNotFoundError(f"{outdir}: contains no run with a snapshot, so --resume latest finds nothing")
    return found[max(found)]


def _newest_pickle(folder: Path) -> Path | None:
    """The newest snapshot of a run of another program of the family; None where it is a run of ours, or none."""
    pickles = family_snapshots(folder)
    is_ours = (folder / STATE).exists() or list_snapshots(folder)
    return pickles[-1][1] if pickles and not is_ours else None
