"""Training the generator: the loop of StyleGAN2-ADA (Karras et al. 2020b)."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from tqdm import tqdm

from facegen.data.archive import FaceArchive, label_counts
from facegen.device import precision_in_words, tf32
from facegen.errors import FacegenError
from facegen.training.generator import checkpoint
from facegen.training.generator.compiling import compile_networks
from facegen.training.generator.grids import grid_latents, save_fakes, save_reals
from facegen.training.generator.measure import Measurements
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.saving import Saver, not_finite_error
from facegen.training.generator.state import TrainingState, build_networks, build_state
from facegen.training.generator.step import train_step
from facegen.training.generator.transition import label_weight
from facegen.training.run import distributed
from facegen.training.run.data import Notes, check_same_classes, note_of
from facegen.training.run.folder import check_goes_on
from facegen.training.run.forecast import Forecast
from facegen.training.run.session import Session
from facegen.training.run.stats import Collector, Summary


def train_generator(
    options: TrainOptions,
    outdir: str | os.PathLike[str] = "runs",
    *,
    device: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
    watch: Callable[[Path], object] | None = None,
) -> Path:
    """Train a generator in a new run folder, or continue a run, and return the folder.

    Ctrl-C finishes the step, saves and returns. SIGTERM does the same, but then ends the process with exit code 75. The
    folder gets a log, statistics, pictures and snapshots.

    Args:
        options: what to train on, and how. A continued run keeps its own options (`read_options` returns them), except
            those that `facegen train --resume` may change, such as `kimg`.
        outdir: the folder in which a new run folder is created.
        device: None uses a GPU if there is one.
        resume: the folder of a run to continue exactly from its last snapshot; None starts a new run.
        progress: show a progress bar.
        watch: called with the run folder whenever it has new numbers or a new picture, so that a notebook can show
            them. Then nothing is printed; see `log.txt` in the folder. None prints.

    Raises:
        FileNotFoundError, FacegenError: the data or the run is missing, damaged or does not fit the options, there is
            nothing left to do, a loss is no longer a number, or memory ran out.
    """
    torch.backends.cudnn.benchmark = True  # shapes stay the same: cuDNN tries its algorithms and keeps the fastest
    with Session("train", device, progress, watch) as session, tf32(options.allow_tf32):
        archive = open_archive(options, resume)
        on_gpu = session.device.type == "cuda"
        options = options.decide(archive.resolution, distributed.world_size(), on_gpu=on_gpu)
        data = {"data": note_of(archive, archive.class_names)}
        if resume is None:
            state = build_state(options, archive, session.device, session.progress)
            measurements = Measurements(options, session.device, session.progress)
            session.create(outdir, options.run_name(), options, data)
            _describe(session, options, state, archive)
            if distributed.is_main():
                save_reals(archive, session.path / "reals.png", options.seed, options.even)
                latents = grid_latents(state.G_ema, options.seed)
                save_fakes(state.G_ema, latents, archive, session.path / "fakes_init.png")
        else:
            state = _restored(options, archive, session, resume, data)
            measurements = Measurements(options, session.device, session.progress)
            session.resume(resume, state.images_seen / 1000, options, data)
            if distributed.is_main():
                checkpoint.clear_leftovers(session.path, state.images_seen)
            session.log(f"resumed at {state.images_seen / 1000:.1f} kimg{_processes()}")
        _train(session, options, state, archive, measurements)
    return session.path


def open_archive(options: TrainOptions, resume: str | os.PathLike[str] | None = None) -> FaceArchive:
    """Open the data of a new or continued run.

    Raises:
        FileNotFoundError, FacegenError: a conditional run on an archive without labels, and what `FaceArchive` refuses.
    """
    try:
        return FaceArchive(options.data, use_labels=options.cond, max_images=options.subset, seed=options.seed)
    except FileNotFoundError as error:
        if resume is None:
            raise
        raise FileNotFoundError(f"{error}; if the data was moved, give its new place with --data") from error


def _restored(
    options: TrainOptions, archive: FaceArchive, session: Session, folder: str | os.PathLike[str], data: Notes
) -> TrainingState:
    """Return the state of the run in a folder, as its last snapshot left it."""
    check_goes_on(folder, options)
    check_same_classes(folder, data)  # before weights that do not fit them
    # By one process: the folder is another machine's to the others, or not yet written.
    distributed.on_main(lambda: checkpoint.check_room_for(folder, lambda: build_networks(options, archive)))
    state = build_state(replace(options, resume=None), archive, session.device, session.progress)
    checkpoint.restore(state, folder)
    check_unfinished(folder, options, state.images_seen)
    return state


def check_unfinished(folder: str | os.PathLike[str], options: TrainOptions, images_seen: int) -> None:
    """Raise a FacegenError if the run in a folder has nothing left to do."""
    if images_seen >= options.kimg * 1000:
        kimg = images_seen / 1000
        raise FacegenError(f"{folder}: has already seen {kimg:g} kimg; give a larger --kimg to continue")


def _train(
    session: Session, options: TrainOptions, state: TrainingState, archive: FaceArchive, measurements: Measurements
) -> None:
    """Step until `options.kimg` or until somebody asks to stop; report every tick, save every few."""
    total = math.ceil(options.kimg * 1000 / options.batch) * options.batch
    session.log(f"precision       {_precision(options, state, session.device)}")
    if options.compile and (problem := compile_networks(state.loss)):
        session.log(f"not compiled    not possible on this machine, so the networks run without it: {problem}")
    saver = Saver(session, options, state, archive)
    collector, tick, ticks = Collector(), _Tick(state), 0
    bar = tqdm(total=total, initial=state.images_seen, unit="img", unit_scale=True, smoothing=0.02,
               disable=not session.progress)  # fmt: skip
    with session.interruptible(), bar, closing(state.batches):
        finished = state.images_seen >= total
        forecast = Forecast(session, options.cfg, total - state.images_seen, options.batch)
        while not finished:
            with saver.rescue():
                observed = train_step(state, options, session.device)
            forecast.after_step()
            for name, values in observed.items():
                collector.report(name, values)
            bar.update(options.batch)
            stopping, due, failed = session.agree(saver.due, saver.failed)
            finished = state.images_seen >= total or stopping
            if not finished and not due and state.images_seen < tick.first_image + options.tick * 1000:
                continue
            _report(session, state, collector.flush(), tick, total)
            ticks += 1
            if finished or due or failed or ticks % options.snap == 0:
                distributed.check_equal({"G": state.G, "D": state.D, "G_ema": state.G_ema})
                saver.save(last=finished)
                if not stopping:  # who stops a training does not wait for metrics
                    measurements.after_snapshot(session, state)
            tick = _Tick(state)
    weight = label_weight(state.images_seen, options.t_start_kimg, options.t_end_kimg)
    if weight < 1:
        session.log(f"labels count      {weight:.0%} yet, in full from {options.t_end_kimg:g} kimg on")
    if state.images_seen < total:
        session.stop(f"stopped at {state.images_seen / 1000:.1f} kimg and saved")
    else:
        session.finish(f"finished: {state.images_seen / 1000:.1f} kimg in {session.path}")


class _Tick:
    """Where a tick began."""

    def __init__(self, state: TrainingState) -> None:
        self.first_image = state.images_seen
        self.start = time.perf_counter()
        self.waiting = state.batches.waiting


def _report(session: Session, state: TrainingState, summaries: dict[str, Summary], tick: _Tick, total: int) -> None:
    """Write the numbers of a tick.

    Raises:
        FacegenError: a loss is no number any more.
    """
    if bad := sorted(name for name, summary in summaries.items() if not math.isfinite(summary.mean)):
        raise not_finite_error(", ".join(bad), session.path, state.images_seen)
    seconds = time.perf_counter() - tick.start
    kimg = state.images_seen / 1000
    sec_per_kimg = seconds / max((state.images_seen - tick.first_image) / 1000, 1e-9)
    waiting = (state.batches.waiting - tick.waiting) / max(seconds, 1e-9)
    augment = float(state.augment.p) if state.augment is not None else 0.0
    cpu_memory = psutil.Process().memory_info().rss / 2**30
    gpu_memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    values = {name: summary.mean for name, summary in summaries.items()}
    values |= {
        "Progress/kimg": kimg,
        "Progress/augment": augment,
        "Timing/sec_per_kimg": sec_per_kimg,
        "Timing/data_wait": waiting,
        "Resources/cpu_mem_gb": cpu_memory,
        "Resources/peak_gpu_mem_gb": gpu_memory,
    }
    eta = sec_per_kimg * max(total - state.images_seen, 0) / 1000
    memory = f"cpumem {cpu_memory:.2f}G" + (f"  gpumem {gpu_memory:.2f}G" if gpu_memory else "")
    session.report(
        kimg,
        values,
        f"kimg {kimg:<8.1f} sec/kimg {sec_per_kimg:<7.2f} data wait {waiting:<6.1%} augment {augment:<6.3f} "
        f"loss G {values['Loss/G/loss']:<6.3f} D {values['Loss/D/loss']:<6.3f} "
        f"D(real) {values['Loss/scores/real']:<+6.2f} D(fake) {values['Loss/scores/fake']:<+6.2f} {memory}  "
        f"ETA {tqdm.format_interval(eta)}",
        state.images_seen,
    )


def _describe(session: Session, options: TrainOptions, state: TrainingState, archive: FaceArchive) -> None:
    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in (("G", state.G), ("D", state.D))}
    session.log(f"run folder      {session.path}")
    session.log(
        f"device          {torch.cuda.get_device_name() if session.device.type == 'cuda' else 'cpu'}{_processes()}"
    )
    session.log(f"data            {archive.path}: {len(archive)} pictures of {archive.resolution}x{archive.resolution}")
    for name, count in zip(archive.class_names, label_counts(archive.labels, archive.c_dim), strict=True):
        session.log(f"  {name:>12}  {count:7d}" + ("" if count else "  no pictures: this class cannot be learned"))
    for name in ("G", "D", "G_ema") if options.resume else ():
        report = state.started_from.get(name, f"new: {options.resume} has none")
        session.log(f"starts from     {name}: {report}")
    p = 0.0 if state.augment is None else state.augment.probability()
    if options.resume and (state.images_seen or p):
        session.log(f"starts from     {state.images_seen / 1000:g} kimg, augmentation p {p:.3f}")
    for line in options.left_aside(len(archive)):
        session.log(f"left aside      {line}")
    if options.workers is not None and state.batches.in_memory:
        session.log("left aside      --workers: not needed, the pictures fit in memory")
    if options.even is not None:
        values = Counter(value or "unknown" for value in archive.attribute(options.even))
        counts = ", ".join(f"{value} {count}" for value, count in sorted(values.items()))
        session.log(f"evenly drawn    {options.even} ({counts})")
    session.log(f"parameters      G {sizes['G'] / 1e6:.2f} M, D {sizes['D'] / 1e6:.2f} M")


def _precision(options: TrainOptions, state: TrainingState, device: torch.device) -> str:
    half = torch.bfloat16 if state.loss.bfloat16 else None
    if device.type == "cuda" and options.num_fp16_res > 0:
        half = torch.float16
    return precision_in_words(half, device, options.fp32)


def _processes() -> str:
    """How many train, where it is more than one."""
    return f", {distributed.world_size()} processes" if distributed.world_size() > 1 else ""
