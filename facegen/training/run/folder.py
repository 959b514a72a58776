"""The folder of one training run: a number of its own, a log, statistics line by line, TensorBoard events."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from facegen.beside import disk
from facegen.errors import FacegenError
from facegen.files import at_home, atomic_path, open_in_place, write_json, write_with_torch
from facegen.options import Options
from facegen.reading import is_number, read_json_lines, read_note
from facegen.status import say
from facegen.text import in_markdown, visible
from facegen.training.run.lock import BROKEN, FINISHED, STOPPED, RunLock
from facegen.weights.locate import RUN_OPTIONS, is_remote

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.tensorboard import SummaryWriter

Some = TypeVar("Some", bound=Options)

LOG = "log.txt"
STATS = "stats.jsonl"
OPTIONS = RUN_OPTIONS
READ = ("generator", "age_estimator", "face_network")  # options that `locate` could look for elsewhere


class RunFolder:
    """Where a training run writes what it does.

    Use `create` for a new run and `open` to continue one; close it at the end, or use it as a context manager. Until
    then no other process can train in the folder. A disk that is full costs lines of the log, not the run.

    Attributes:
        path: The folder.
        finished: Set it when there is nothing left to do; else the run counts as stopped when it is closed.
        prints: Whether `log` prints its lines, too.

    Example:
        >>> with RunFolder.create("runs", "faces-tiny") as run:  # runs/00000-faces-tiny
        ...     run.write_json("training_options.json", {"batch": 32})
        ...     run.log("starting")
        ...     run.stats(4.0, {"loss/G": 0.7})
        starting
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.finished = False
        self.prints = True
        self._events: SummaryWriter | None = None
        self._has_tensorboard = True
        self._lock = RunLock(path)
        self._cut_short: set[str] = set()  # files whose last line may lack its end

    @classmethod
    def create(cls, outdir: str | os.PathLike[str], name: str) -> RunFolder:
        """Make `outdir/<number>-<name>` with the next free five-digit number; two runs never share one."""
        outdir = at_home(outdir)
        outdir.mkdir(parents=True, exist_ok=True)
        name = "".join(letter if visible(letter) == letter else "_" for letter in name)  # data sets have odd names
        numbers = [int(found[0]) for p in outdir.iterdir() if (found := re.match(r"\d+(?=-|$)", p.name))]
        number = max(numbers, default=-1) + 1
        while True:
            # Claim the number first: another run may be asking for it under another name at this moment.
            claim = outdir / f".{number:05d}.claim"
            try:
                claim.touch(exist_ok=False)
                try:
                    if not any(outdir.glob(f"{number:05d}-*")):
                        path = outdir / f"{number:05d}-{name}"
                        path.mkdir()
                        return cls(path)
                finally:
                    claim.unlink()
            except FileExistsError:
                pass
            number += 1

    @classmethod
    def open(cls, path: str | os.PathLike[str], last_step: float | None = None) -> RunFolder:
        """Go on in the folder of an earlier run; statistics after `last_step` are dropped, they will come again.

        Raises:
            FileNotFoundError: there is no such folder.
            FacegenError: another process trains in it.
        """
        path = Path(path)
        if not path.is_dir():
            raise FileNotFoundError(f"{path}: no such run folder")
        run = cls(path)
        try:
            for leftover in path.glob(".*.tmp"):  # what a killed process was writing; no other process writes here now
                leftover.unlink(missing_ok=True)
            if last_step is not None and (path / STATS).exists():
                kept = [line for line in read_stats(path) if line["step"] <= last_step]
                with atomic_path(path / STATS) as temporary:
                    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        except BaseException as error:
            run.close(error)
            raise
        return run

    def log(self, text: str = "") -> None:
        """Append a line to log.txt, and print it above the progress bar, if there is one."""
        if self.prints:
            say(text)
        self._append(LOG, visible(text))

    def stats(self, step: float, values: Mapping[str, float], images: int | None = None) -> None:
        """Append named numbers at a step (kimg or epoch) to stats.jsonl and to the TensorBoard events.

        TensorBoard counts in whole numbers: in images seen, where they are given, else in steps.
        Values that are not finite become `null` in the file: NaN is no JSON.
        """
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        self._append(STATS, json.dumps({"step": float(step), "time": round(time.time(), 3), **finite}))
        moment = round(step) if images is None else images

        def write(events: SummaryWriter) -> None:
            for name, value in numbers.items():
                events.add_scalar(name, value, moment)

        self._to_tensorboard(write)

    def show(self, name: str, moment: int, picture: str | os.PathLike[str]) -> None:
        """Show a picture in TensorBoard, too; its moment is an epoch or counts images seen, as for `stats`."""
        with Image.open(picture) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        self._to_tensorboard(lambda events: events.add_image(name, pixels, moment, dataformats="HWC"))

    def write_options(self, options: Options) -> None:
        """Write the options to training_options.json, and as a table into the TensorBoard events."""
        self.write_json(OPTIONS, options.to_json())
        lines = [f"| {name} | {in_markdown(str(value))} |" for name, value in options.to_json().items()]
        table = "\n".join(["| option | value |", "|---|---|", *lines])
        self._to_tensorboard(lambda events: events.add_text("options", table, 0))

    def _to_tensorboard(self, write: Callable[[SummaryWriter], object]) -> None:
        """Write into the TensorBoard events, where that is possible."""
        if not self._has_tensorboard:
            return
        try:
            write(self._tensorboard)
            self._tensorboard.flush()
        except OSError:  # its thread ended for good; the next numbers get a new one
            self._events = None
        except UnicodeEncodeError:
            self._has_tensorboard = False
            say(f"{self.path}: TensorBoard cannot write to folders whose name is not UTF-8; no events", err=True)

    def write_json(self, name: str, obj: Any) -> None:
        """Write an object to a JSON file in the folder, atomically."""
        write_json(self.path / name, obj)

    def close(self, error: BaseException | None = None) -> None:
        """Finish the TensorBoard events, note how the run ended and let others in. The folder stays usable."""
        if self._events is not None:
            with suppress(OSError):
                self._events.close()
            self._events = None
        if isinstance(error, Exception):  # not Ctrl-C and SIGTERM
            words = str(error) if isinstance(error, FacegenError | OSError) else repr(error)[:500]
            reason = visible(" ".join(words.split()))
            self._append(LOG, f"broke off: {reason}")
            self._lock.release(BROKEN, reason)
        else:
            self._lock.release(FINISHED if self.finished else STOPPED)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.close(error)

    def _append(self, name: str, line: str) -> None:
        """Add a line to a file; if that fails, say so and continue."""
        try:
            with open_in_place(self.path / name, append=True) as file:
                text = ("\n" if name in self._cut_short else "") + line + "\n"
                file.write(text.encode("utf-8", "backslashreplace"))
            self._cut_short.discard(name)
        except OSError as error:
            if name not in self._cut_short:
                say(f"{self.path / name}: cannot be written ({error.strerror}); continuing without it", err=True)
            self._cut_short.add(name)

    @property
    def _tensorboard(self) -> SummaryWriter:
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self._events = SummaryWriter(str(self.path))
        return self._events


def read_options(folder: str | os.PathLike[str], kind: type[Some]) -> Some:
    """Return the options of the run in a folder.

    Args:
        folder: the run folder.
        kind: `TrainOptions`, `EncoderOptions` or `AgeOptions`.

    Raises:
        FileNotFoundError, FacegenError: there are no options, or they belong to another kind of training.
    """
    path = Path(folder) / OPTIONS
    try:
        options = kind.from_json(read_note(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{folder}: no {OPTIONS} here, so it is not a run folder that can continue") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise FacegenError(f"{path}: not the options of such a training run of this version ({error})") from error
    for name in READ:
        # A training writes the files that it found there. So an address, which --resume would ask, is a stranger's.
        if isinstance(value := getattr(options, name, None), str) and is_remote(value):
            raise FacegenError(
                f"{path}: {name} {value}: not on this machine; name another with --{name.replace('_', '-')}"
            )
    return options


def check_goes_on(folder: str | os.PathLike[str], options: Options) -> None:
    """Raise an error if the run in a folder cannot continue with these options."""
    options.check_goes_on(read_options(folder, type(options)))


def check_room(networks: Callable[[], Iterable[nn.Module]], path: Path) -> None:
    """Raise a FacegenError if options ask for networks with more numbers than the file of their weights has bytes.

    Args:
        networks: builds them; called where they take no memory.
        path: the snapshot or state that they are to get.

    Raises:
        FileNotFoundError, FacegenError: there is no such file, or it is too small.
    """
    import torch

    with torch.device("meta"):
        numbers = sum(x.numel() for network in networks() for x in network.parameters())
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such weights file")
    if numbers > path.stat().st_size:
        raise FacegenError(f"{path}: damaged, or too small for the networks that this run's options and data ask for")


def read_state(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    """Return what `save_state` wrote.

    Raises:
        FileNotFoundError, FacegenError: there is no such file, it is damaged, or lacks one of the `needed` entries.
    """
    from facegen.training.run.check_state import as_dict
    from facegen.weights.read import read_torch_file

    try:
        saved = as_dict(read_torch_file(path), str(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path.parent}: it has no {path.name}; start a new run") from error
    if missing := [name for name in needed if name not in saved]:
        raise FacegenError(
            f"{path}: it has no {missing[0]}, so it comes from another version of facegen; start a new run"
        )
    return saved


def save_state(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write what `torch.load(..., weights_only=True)` can read, atomically; an OSError that names the file if not."""
    with written_state(path, content):
        pass


@contextmanager
def written_state(path: str | os.PathLike[str], content: Mapping[str, Any]) -> Iterator[None]:
    """As `save_state`, but the file takes its place when the block has ended well: all of it is on the disk by then."""
    with atomic_path(path) as temporary:
        write_with_torch(content, temporary)
        disk.flush_to_disk(temporary)
        yield


def read_stats(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a run folder's stats.jsonl, oldest first. A line cut short by a crash is left out."""
    lines = (
        {name: value for name, value in line.items() if value is None or is_number(value)}
        for line in read_json_lines(Path(path) / STATS)
    )
    return [line for line in lines if line.get("step") is not None]
