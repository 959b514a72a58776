"""A training under way: its processes, its folder, when it stops, what it saves."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from facegen.device import pick_device
from facegen.figures.plots import plot_curves
from facegen.options import Options
from facegen.status import StopRequest
from facegen.text import as_argument
from facegen.training.run import distributed
from facegen.training.run.check_state import fitting
from facegen.training.run.cpu_memory import keep_freed_memory
from facegen.training.run.data import DATA, Notes, changes, check_same_classes
from facegen.training.run.folder import RunFolder, read_stats, save_state


class Session:
    """What all trainings have in common. A training itself writes how it builds, steps and reports.

    Inside the block several processes train together, if `torchrun` started them; rank 0 alone writes files. When the
    block ends, the run folder notes how the run ended.

    Args:
        command: the command that trains, such as `train-age`.
        device: None uses a GPU if there is one.
        progress: show progress bars.
        watch: called with the run folder whenever there is something new in it: numbers or a picture. Lines and bars
            are then left to it; the lines are in the folder's log.

    Attributes:
        device: where this process computes.
        progress: whether this process shows progress bars.
        path: the run folder, after `create` or `resume`.

    Example:
        >>> with Session("train-age") as session:
        ...     session.create("runs", "age-resnet", options, {"data": note_of(archive, classes)})
        ...     with session.interruptible():
        ...         while step < 100 and not session.should_stop():
        ...             ...
        ...         session.save("age-state.pt", {"network": network, "optimizer": optimizer})
        ...     session.finish("done") if step == 100 else session.stop()
        done
    """

    path: Path

    def __init__(
        self,
        command: str,
        device: str | None = None,
        progress: bool = True,
        watch: Callable[[Path], object] | None = None,
    ) -> None:
        self.device = pick_device(device)
        self.progress = progress and watch is None
        self._watch = watch
        self._command = command
        self._run: RunFolder | None = None  # on rank 0 alone
        self._stop = StopRequest()
        self._agreement = distributed.Agreement()
        self._exits = ExitStack()

    def __enter__(self) -> Session:
        keep_freed_memory()
        self.device = self._exits.enter_context(distributed.join(self.device))
        self.progress = self.progress and distributed.is_main()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._exits.__exit__(*exception)

    def create(self, outdir: str | os.PathLike[str], name: str, options: Options, data: Notes) -> None:
        """Make the run folder `outdir/<number>-<name>`, and write into it the options and what it learns from."""
        self._open(lambda: RunFolder.create(outdir, name), options, data)

    def resume(self, folder: str | os.PathLike[str], last_step: float, options: Options, data: Notes) -> None:
        """Go on in the folder of an earlier run, which loses its statistics after `last_step`.

        Other pictures than the run has learned from so far are a line in the log.

        Raises:
            FacegenError: their classes are others (nothing is touched then), or another process trains in the folder.
        """
        distributed.on_main(lambda: check_same_classes(folder, data))
        changed = distributed.on_main(lambda: changes(folder, data))
        self._open(lambda: RunFolder.open(folder, last_step), options, data)
        for line in changed:
            self.log(line)

    def _open(self, opening: Callable[[], RunFolder], options: Options, data: Notes) -> None:
        def on_rank_0() -> Path:
            self._run = self._exits.enter_context(opening())
            self._run.prints = self._watch is None
            self._run.write_options(options)
            self._run.write_json(DATA, data)
            return self._run.path

        self.path = distributed.on_main(on_rank_0)

    @property
    def resume_command(self) -> str:
        """The command that continues this run."""
        return f"facegen {self._command} --resume {as_argument(self.path)}"

    def log(self, text: str) -> None:
        """Print a line and append it to log.txt."""
        if self._run is not None:
            self._run.log(text)

    def report(self, step: float, values: Mapping[str, float], text: str, images: int | None = None) -> None:
        """Note what was measured at a step (kimg or epoch): in stats.jsonl, TensorBoard and the log.

        TensorBoard counts in images seen, where they are given.
        """
        if self._run is not None:
            self._run.stats(step, values, images)
            self._run.log(text)
            self._tell()

    def show(self, name: str, moment: int, picture: Path) -> None:
        """Show a picture in TensorBoard, too; its moment is an epoch or counts images seen."""
        if self._run is not None:
            self._run.show(name, moment, picture)
            self._tell()

    def _tell(self) -> None:
        if self._watch is not None:
            self._watch(self.path)

    def plot(self, curves: Mapping[str, str], **words: Any) -> None:
        """Draw the run so far to curve.png.

        Args:
            curves: the name that each curve gets, and the name of its numbers in stats.jsonl.
            words: labels and base lines, as `plot_curves` takes them.
        """
        lines = read_stats(self.path)
        steps = [line["step"] for line in lines]
        columns = {name: (steps, [line.get(key, math.nan) for line in lines]) for name, key in curves.items()}
        plot_curves(self.path / "curve.png", columns, **words)

    def save(self, name: str, parts: Mapping[str, Any]) -> None:
        """Write a state file, which `load_state` reads: networks, optimizers and dataclasses by name."""
        if self._run is not None:
            save_state(self.path / name, _state_of(parts))

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside the block Ctrl-C and SIGTERM stop nothing: `should_stop` tells of them, once the step is done."""
        with self._stop:
            yield
            self._agreement.close()

    def should_stop(self) -> bool:
        """Whether anybody asked to stop; to be called after each step, by all processes."""
        return self.agree()[0]

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Return whether anybody asked to stop, and for each flag whether any process set it: alike on all of them."""
        stopping, preempted, *answers = self._agreement(self._stop.requested, self._stop.preempted, *flags)
        self._stop.preempted = self._stop.preempted or preempted
        return (stopping, *answers)

    def stop(self, text: str = "stopped") -> None:
        """Say how to continue a saved run; after a SIGTERM the process ends with `RESUME_ME`."""
        self.log(f"{text}; continue with: {self.resume_command}")
        self._stop.leave()

    def finish(self, text: str) -> None:
        """Note that the run came to its end."""
        if self._run is not None:
            self._run.finished = True
            self._run.log(text)


def load_state(parts: Mapping[str, Any], saved: Mapping[str, Any], path: Path) -> None:
    """Load what `Session.save` wrote to a path into the same parts: all of it, or nothing if some of it does not fit.

    Raises:
        FacegenError: as `check_state.fitting`.
    """
    _put(parts, fitting(parts, saved, str(path)))


def _put(part: Any, state: Mapping[str, Any]) -> None:
    if isinstance(part, Mapping):
        for name, inner in part.items():
            _put(inner, state[name])
    elif is_dataclass(part):
        vars(part).update(state)
    else:
        part.load_state_dict(state)


def _state_of(part: Any) -> Any:
    """What a file keeps of a part: numbers and tensors in dicts, as `torch.load(..., weights_only=True)` reads them."""
    if isinstance(part, Mapping):
        return {name: _state_of(inner) for name, inner in part.items()}
    return dict(vars(part)) if is_dataclass(part) else part.state_dict()
