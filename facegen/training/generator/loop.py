"""Training the generator: the loop of StyleGAN2-ADA (Karras et al. 2020b)."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from tqdm import tqdm

from facegen.data.archive import FaceArchive, label_counts
from facegen.device import pick_device, precision_in_words
from facegen.errors import FacegenError
from facegen.figures import grids as figures
from facegen.networks.generator import Generator
from facegen.training.generator import checkpoint
from facegen.training.generator.compiling import compile_networks
from facegen.training.generator.measure import Measurements
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.state import TrainingState, build_state
from facegen.training.generator.step import train_step
from facegen.training.generator.transition import label_weight
from facegen.training.run import distributed
from facegen.training.run.cpu_memory import keep_freed_memory
from facegen.training.run.folder import OPTIONS, RunFolder, read_options
from facegen.training.run.interrupt import StopRequest
from facegen.training.run.rescue import Keeper, no_number
from facegen.training.run.stats import Collector, Summary

GRID_ROWS = 8


def open_archive(options: TrainOptions) -> FaceArchive:
    """Open the data of a run.

    Raises:
        FacegenError: a conditional run on an archive without labels, and what `FaceArchive` refuses.
    """
    return FaceArchive(options.data, use_labels=options.cond, max_images=options.subset, seed=options.seed)


def train_generator(options: TrainOptions, *, device: str | None = None, progress: bool = True) -> Path:
    """Start a training run and return its folder.

    Ctrl-C finishes the step, saves and returns; SIGTERM does, too, but ends the process then, with exit code 75. The
    folder fills with a log, statistics, pictures and snapshots; `resume_generator` goes on from it.

    Args:
        options: what to train on, and how.
        device: None takes a GPU when there is one.
        progress: show a progress bar.

    Raises:
        FacegenError: the data cannot be trained on, a loss stopped being a number, or memory ran out.
    """
    _prepare_machine()
    with distributed.session(pick_device(device)) as chosen:
        archive = open_archive(options)
        state = build_state(options, archive, chosen)
        measurements = Measurements(options, chosen, progress)
        with distributed.open_folder(lambda: RunFolder.create(options.outdir, options.run_name())) as run:
            run.write_json(OPTIONS, options.to_json())
            _describe(run, options, state, archive, chosen)
            if distributed.is_main():
                save_reals(archive, run.path / "reals.png", options.seed, options.even)
            _train(options, state, archive, run, chosen, progress, measurements)
    return run.path


def resume_generator(
    folder: str | os.PathLike[str],
    *,
    kimg: float | None = None,
    data: str | None = None,
    snap: int | None = None,
    snap_minutes: float | None = None,
    keep: int | None = None,
    batch: int | None = None,
    batch_gpu: int | None = None,
    metrics: str | None = None,
    inception: str | None = None,
    vgg: str | None = None,
    lpips: str | None = None,
    compile: bool | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Go on with the run in a folder, exactly where its last snapshot was.

    Args:
        folder: Of the run.
        kimg: Up to so many; None as planned.
        data: Where the archive is now, if it was moved.
        batch: Pictures per step from now on; None as before. Rates stay what they are.
        snap, snap_minutes, keep, batch_gpu, metrics, inception, vgg, lpips, compile: See `TrainOptions`; None as
            before.
        device: None takes a GPU when there is one.
        progress: Show a progress bar.

    Raises:
        FileNotFoundError, FacegenError: the folder, its state or the data is missing or damaged, or there is nothing
            left to do.
    """
    options = read_options(Path(folder), TrainOptions)
    changed = {"kimg": kimg, "data": data, "snap": snap, "snap_minutes": snap_minutes, "keep": keep}
    changed |= {
        "batch": batch,
        "batch_gpu": batch_gpu,
        "metrics": metrics,
        "inception": inception,
        "vgg": vgg,
        "lpips": lpips,
    }
    changed |= {"compile": compile}
    options = replace(options, **{name: value for name, value in changed.items() if value is not None})
    _prepare_machine()
    with distributed.session(pick_device(device)) as chosen:
        try:
            archive = open_archive(options)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; if the data was moved, say where it is with --data") from error
        state = build_state(replace(options, resume=None), archive, chosen)
        checkpoint.restore(state, folder)
        if state.images_seen >= options.kimg * 1000:
            raise FacegenError(
                f"{folder}: has seen {state.images_seen / 1000:g} kimg already; give a --kimg above that to go on"
            )
        measurements = Measurements(options, chosen, progress)
        with distributed.open_folder(lambda: RunFolder.open(folder, last_step=state.images_seen / 1000)) as run:
            run.write_json(OPTIONS, options.to_json())
            if distributed.is_main():
                checkpoint.clear_leftovers(run.path, state.images_seen)
            run.log(f"resumed at {state.images_seen / 1000:.1f} kimg{_processes()}")
            _train(options, state, archive, run, chosen, progress, measurements)
    return run.path


def _prepare_machine() -> None:
    """Let PyTorch take what is fastest for shapes that stay the same."""
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # cuDNN tries its algorithms and keeps the fastest


def _train(
    options: TrainOptions,
    state: TrainingState,
    archive: FaceArchive,
    run: RunFolder,
    device: torch.device,
    progress: bool,
    measurements: Measurements,
) -> None:
    """Step until `options.kimg` or until somebody asks to stop; report every tick, save every few."""
    total = math.ceil(options.kimg * 1000 / options.batch) * options.batch
    run.log(f"precision       {_precision(options, state, device)}")
    if options.compile and (problem := compile_networks(state.loss)):
        run.log(f"not compiled    this machine cannot, so the networks run as without --compile: {problem}")
    grid = grid_latents(state.G_ema, options.seed)
    keeper = Keeper(
        state,
        options,
        run,
        snapshot_metadata(options, archive),
        draw=lambda path: save_fakes(state.G_ema, grid, archive, path),
    )
    collector = Collector()
    tick = _Tick(state)
    ticks = 0
    bar = tqdm(
        total=total,
        initial=state.images_seen,
        unit="img",
        unit_scale=True,
        smoothing=0.02,
        disable=not (progress and distributed.is_main()),
    )
    agree = distributed.Agreement(4)  # processes that disagree on what to do next would wait for each other for ever
    with StopRequest() as stop, bar, closing(state.batches):
        finished = state.images_seen >= total
        while not finished:
            with keeper.rescue():
                observed = train_step(state, options, device)
            for name, values in observed.items():
                collector.report(name, values)
            bar.update(options.batch)

            keeper_wants = (keeper.due, keeper.failed) if distributed.is_main() else (False, False)
            stopping, preempted, due, failed = agree(stop.requested, stop.preempted, *keeper_wants)
            stop.preempted = stop.preempted or preempted
            finished = state.images_seen >= total or stopping
            if not finished and not due and state.images_seen < tick.first_image + options.tick * 1000:
                continue
            summaries = collector.flush()
            _check_finite(summaries, run, state)
            _report(run, state, summaries, tick, total)
            ticks += 1
            if finished or due or failed or ticks % options.snap == 0:
                distributed.check_equal({"G": state.G, "D": state.D, "G_ema": state.G_ema})
                if distributed.is_main():
                    keeper.save(last=finished)
                if not stopping:  # who stops a training does not wait for metrics
                    measurements.after_snapshot(run, state)
            tick = _Tick(state)
        agree.close()
    weight = label_weight(state.images_seen, options.t_start_kimg, options.t_end_kimg)
    if weight < 1:
        run.log(f"labels count      {weight:.0%} yet, in full from {options.t_end_kimg:g} kimg on")
    if state.images_seen < total:
        run.log(
            f"stopped at {state.images_seen / 1000:.1f} kimg and saved; go on with: facegen train --resume {run.path}"
        )
        stop.leave()
    else:
        run.finished = True
        run.log(f"finished: {state.images_seen / 1000:.1f} kimg in {run.path}")


class _Tick:
    """Where a tick began."""

    def __init__(self, state: TrainingState) -> None:
        self.first_image = state.images_seen
        self.start = time.perf_counter()
        self.waiting = state.batches.waiting


def _report(run: RunFolder, state: TrainingState, summaries: dict[str, Summary], tick: _Tick, total: int) -> None:
    """Write one line of progress, and its numbers to the statistics."""
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
    run.stats(kimg, values)
    eta = sec_per_kimg * max(total - state.images_seen, 0) / 1000
    memory = f"cpumem {cpu_memory:.2f}G" + (f"  gpumem {gpu_memory:.2f}G" if gpu_memory else "")
    run.log(
        f"kimg {kimg:<8.1f} sec/kimg {sec_per_kimg:<7.2f} data wait {waiting:<6.1%} augment {augment:<6.3f} "
        f"loss G {values['Loss/G/loss']:<6.3f} D {values['Loss/D/loss']:<6.3f} "
        f"D(real) {values['Loss/scores/real']:<+6.2f} D(fake) {values['Loss/scores/fake']:<+6.2f} {memory}  "
        f"ETA {tqdm.format_interval(eta)}"
    )


def _check_finite(summaries: dict[str, Summary], run: RunFolder, state: TrainingState) -> None:
    bad = sorted(name for name, summary in summaries.items() if not math.isfinite(summary.mean))
    if bad:
        raise no_number(", ".join(bad), run, state.images_seen)


def _describe(
    run: RunFolder, options: TrainOptions, state: TrainingState, archive: FaceArchive, device: torch.device
) -> None:
    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in (("G", state.G), ("D", state.D))}
    run.log(f"run folder      {run.path}")
    run.log(f"device          {torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu'}{_processes()}")
    run.log(f"data            {archive.path}: {len(archive)} pictures of {archive.resolution}x{archive.resolution}")
    for name, count in zip(archive.class_names, label_counts(archive.labels, archive.c_dim), strict=True):
        run.log(f"  {name:>12}  {count:7d}" + ("" if count else "  no pictures: this class cannot be learnt"))
    for name in ("G", "D", "G_ema") if options.resume else ():
        report = state.started_from.get(name, f"new: {options.resume} has none")
        run.log(f"starts from     {name}: {report}")
    if options.even is not None:
        values = Counter(value or "unknown" for value in archive.attribute(options.even))
        counts = ", ".join(f"{value} {count}" for value, count in sorted(values.items()))
        run.log(f"evenly drawn    {options.even} ({counts})")
    run.log(f"parameters      G {sizes['G'] / 1e6:.2f} M, D {sizes['D'] / 1e6:.2f} M")


def _precision(options: TrainOptions, state: TrainingState, device: torch.device) -> str:
    half = torch.bfloat16 if state.loss.bfloat16 else None
    if device.type == "cuda" and options.num_fp16_res > 0:
        half = torch.float16
    return precision_in_words(half, device, options.fp32)


def _processes() -> str:
    """How many train, where it is more than one."""
    return f", {distributed.world_size()} processes" if distributed.world_size() > 1 else ""


def snapshot_metadata(options: TrainOptions, archive: FaceArchive) -> dict[str, Any]:
    """Return what goes with the weights, so that they can be used without the archive."""
    return {
        "groups": archive.groups.labels if archive.groups is not None and options.cond else None,
        "class_names": archive.class_names,
        "template": archive.template.to_json() if archive.template is not None else None,
        "resolution": archive.resolution,
        "training_options": options.to_json(),
    }


def grid_latents(G: Generator, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return z and c of the fakes grid: a row keeps z, a column is a class (ten free columns without classes)."""
    columns = G.c_dim or 10
    generator = torch.Generator().manual_seed(seed)
    if G.c_dim:
        z = torch.randn([GRID_ROWS, G.z_dim], generator=generator).repeat_interleave(columns, dim=0)
        c = torch.eye(columns).repeat(GRID_ROWS, 1)
    else:
        z = torch.randn([GRID_ROWS * columns, G.z_dim], generator=generator)
        c = torch.zeros([len(z), 0])
    return z, c


def save_fakes(G: Generator, latents: tuple[torch.Tensor, torch.Tensor], archive: FaceArchive, path: Path) -> None:
    """Write the grid of generated faces: columns are classes, rows keep z, noise is constant."""
    device = next(G.parameters()).device
    pictures = []
    with torch.no_grad():
        for z, c in zip(*(part.to(device).split(16) for part in latents), strict=True):
            pictures.append(figures.to_pixels(G(z, c, noise_mode="const")))
    columns = G.c_dim or 10
    figures.save_image_grid(np.concatenate(pictures), path, columns, column_labels=archive.class_names or None)


def save_reals(archive: FaceArchive, path: Path, seed: int, even: str | None = None) -> None:
    """Write a grid of real faces, a column per class; what a class lacks stays grey.

    Down a column the values of the attribute `even` take turns for as long as they last; unknown ones come last.
    """
    values = None if even is None else archive.attribute(even)
    random = np.random.default_rng(seed)
    columns = archive.c_dim or 10
    empty = np.full([archive.channels, archive.resolution, archive.resolution], 128, np.uint8)
    pictures = [empty] * (GRID_ROWS * columns)
    for column in range(columns):
        members = np.flatnonzero(archive.labels == (column if archive.c_dim else -1))
        chosen = random.permutation(members)
        if values is not None:
            chosen = _take_turns(chosen, values)
        chosen = chosen[:GRID_ROWS]
        for row, index in enumerate(chosen):
            pictures[row * columns + column] = archive.image(int(index))
    grid = np.stack(pictures).transpose(0, 2, 3, 1)
    figures.save_image_grid(grid, path, columns, column_labels=archive.class_names or None)


def _take_turns(indices: np.ndarray, values: Sequence[str | None]) -> list[int]:
    """Order pictures so that the first of each value come first, then the second ones; unknown ones last."""
    seen: Counter[str | None] = Counter()
    turns = []
    for index in indices.tolist():
        value = values[index]
        turns.append((value is None, seen[value], value or "", index))
        seen[value] += 1
    return [index for *_, index in sorted(turns)]
