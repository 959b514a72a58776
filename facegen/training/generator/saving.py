"""Saving a generator's run when it is due, and when something goes wrong: no disk, memory, data or numbers."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.training.generator import checkpoint
from facegen.training.generator.grids import grid_latents, save_fakes
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.state import TrainingState
from facegen.training.run import distributed
from facegen.training.run.session import Session
from facegen.training.run.snapshots import FAKES, prune
from facegen.weights.locate import list_snapshots, name_at


class Saver:
    """Saves a run: a snapshot with its state, and a picture.

    Args:
        session, options, state, archive: what is trained, and on what.

    Attributes:
        failed: the last snapshot could not be written, so that the next tick should try again.
    """

    def __init__(self, session: Session, options: TrainOptions, state: TrainingState, archive: FaceArchive) -> None:
        self._session, self._options, self._state, self._archive = session, options, state, archive
        self._metadata = snapshot_metadata(options, archive)
        self._latents = grid_latents(state.G_ema, options.seed)
        self._saved_at = time.monotonic()
        self._saved_images = state.images_seen
        self.failed = False

    @property
    def due(self) -> bool:
        """Whether --snap-minutes have passed since the last snapshot."""
        minutes = self._options.snap_minutes
        return distributed.is_main() and minutes is not None and time.monotonic() - self._saved_at >= minutes * 60

    def save(self, *, last: bool = False) -> None:
        """Write state, snapshot and picture on rank 0, and delete what --keep does not keep.

        A disk that is full costs a line and not the run: the next tick tries again.

        Args:
            last: there is no next tick: raise the OSError.

        Raises:
            FacegenError: the weights are no numbers any more; the snapshot before stays the newest.
        """
        if not distributed.is_main():
            return
        self._saved_at = time.monotonic()
        for name in ("G", "D", "G_ema"):
            if not is_finite(getattr(self._state, name)):
                raise not_finite_error(f"the weights of {name}", self._session.path, self._state.images_seen)
        try:
            checkpoint.save(self._state, self._session.path, self._metadata)
            self._saved_images, self.failed = self._state.images_seen, False
        except OSError as error:
            if self.failed and not last:
                return  # told already
            self.failed = True
            words = f"{self._when()}: no snapshot, {_words(error)}; {newest(self._session.path)}"
            if last:
                raise OSError(f"{words}. Everything after it is lost") from error
            self._session.log(f"{words}. Training continues and tries again at every tick: free some space")
            return
        try:
            picture = self._session.path / name_at(FAKES, self._state.images_seen)
            save_fakes(self._state.G_ema, self._latents, self._archive, picture)
            self._session.show("fakes", self._state.images_seen, picture)
            prune(self._session.path, self._options.keep)
        except OSError as error:
            self._session.log(f"{self._when()}: {_words(error)}; the snapshot is whole")

    @contextmanager
    def rescue(self) -> Iterator[None]:
        """Within it, a training step that fails because of memory or unreadable data leaves the run saved.

        Raises:
            FacegenError: one line that says what is wrong, what was saved and what to do.
        """
        try:
            yield
        except (FacegenError, OSError) as error:
            # The data; reading it is the first thing that a step does, so the state is that after the step before.
            raise FacegenError(f"{_words(error)}. {self._save_what_there_is()}") from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # which hold all that the step computed
        else:
            return
        for optimizer in self._state.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        where = "the GPU" if torch.cuda.is_available() else "this machine"
        advice = smaller_batch(self._options)
        raise FacegenError(f"{self._when()}: out of memory on {where}; {advice}. {self._save_what_there_is()}")

    def _save_what_there_is(self) -> str:
        """Save if there is something new, and say in a sentence how to continue."""
        if not distributed.is_main():  # rank 0, which writes, may be within a step: what counts is its last snapshot
            return f"Continue from the last snapshot with: {self._session.resume_command}"
        if self._state.images_seen > self._saved_images:
            try:
                self.save(last=True)
            except (OSError, FacegenError, RuntimeError) as error:
                return f"It could not be saved either: {_words(error)}"
        if not (self._session.path / checkpoint.STATE).exists():
            return "Nothing had been learned yet"
        return f"Everything is saved; continue with: {self._session.resume_command}"

    def _when(self) -> str:
        return f"at {self._state.images_seen / 1000:.1f} kimg"


def snapshot_metadata(options: TrainOptions, archive: FaceArchive) -> dict[str, Any]:
    """Return what goes with the weights, so that they can be used without the archive."""
    return {
        "groups": archive.groups.labels if archive.groups is not None and options.cond else None,
        "class_names": archive.class_names,
        "template": archive.template.to_json() if archive.template is not None else None,
        "resolution": archive.resolution,
        "training_options": options.to_json(),
    }


def not_finite_error(what: str, folder: Path, images_seen: int) -> FacegenError:
    """Return the error of a run that is beyond help."""
    return FacegenError(
        f"{what} stopped being a finite number near {images_seen / 1000:.1f} kimg; {newest(folder)}. "
        "Try a larger --gamma, --fp32 or another --seed"
    )


def newest(folder: Path) -> str:
    """Say which snapshot of a run is the newest."""
    kept = list_snapshots(folder)
    return f"the last good snapshot is {kept[-1]}" if kept else "no snapshot had been written yet"


def is_finite(network: torch.nn.Module) -> bool:
    """Whether all weights and buffers of a network are finite numbers."""
    tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is a want of memory, of a GPU or of the machine: PyTorch has no single error for these."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in ("out of memory", "can't allocate memory", "not enough memory"))


def smaller_batch(options: TrainOptions) -> str:
    """Say which --batch-gpu to try: at most half of what did not fit, in whole minibatch-stddev groups.

    It does not change what is learned, so the run can continue with it.
    """
    share = options.batch // distributed.world_size()
    most = min(options.batch_gpu or share, share)
    group = min(options.mbstd_group, most)
    fitting = [size for size in range(group, most // 2 + 1, group) if share % size == 0]
    if not fitting:
        return "the batch cannot be split further: free some memory, or choose a smaller --cfg"
    return f"try --batch-gpu {fitting[-1]}, or free some memory"


def _words(error: BaseException) -> str:
    """An error in one line; those of the system with their file first and without their number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()).removesuffix(".")
