"""What a generator's training would refuse at its start, found without starting it: `facegen train --dry-run`."""

from __future__ import annotations

import copy
import os
import warnings
from dataclasses import replace
from pathlib import Path

from facegen.data.archive import FaceArchive
from facegen.device import pick_device
from facegen.errors import FacegenError
from facegen.files import check_folder
from facegen.metrics.features import check_given_files
from facegen.metrics.names import parse_metrics
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.text import visible
from facegen.training.generator import checkpoint
from facegen.training.generator.loop import check_unfinished, open_archive
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.parts import batch_parts
from facegen.training.generator.start_from import Start, start_from
from facegen.training.generator.state import build_networks
from facegen.training.run.data import check_same_classes, note_of
from facegen.training.run.folder import check_goes_on
from facegen.training.run.launch import check_gpus
from facegen.training.run.lock import RUNNING, read_status
from facegen.weights.locate import is_remote, kimg_of_name


def rehearse(
    options: TrainOptions,
    outdir: str | os.PathLike[str] = "runs",
    *,
    processes: int = 1,
    device: str | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> TrainOptions:
    """Return the options that `train_generator` would train with, once all that it looks at first was found right.

    Nothing is written or downloaded, and no picture is decoded.

    Args:
        options, outdir, device, resume: as `train_generator` takes them.
        processes: how many would train together.

    Raises:
        FileNotFoundError, FacegenError, OSError: what `train_generator` would raise before its first step.
    """
    check_gpus(processes)
    on_gpu = pick_device(device).type == "cuda"
    options, archive = decide_and_open(options, processes, resume, on_gpu=on_gpu)
    for line in options.left_aside(len(archive)) if resume is None else ():
        warnings.warn(visible(line), stacklevel=2)
    if resume is not None:
        check_goes_on(resume, options)
        check_same_classes(resume, {"data": note_of(archive, archive.class_names)})
        checkpoint.check_room_for(resume, lambda: build_networks(options, archive))
    G, D = build_networks(options, archive)
    G_ema = copy.deepcopy(G)
    if resume is not None:
        _check_idle(Path(resume))
        content, snapshot = checkpoint.find(resume)
        checkpoint.load_weights(snapshot, {"G": G, "D": D, "G_ema": G_ema})
        check_unfinished(resume, options, content["images_seen"])
    else:
        options = _with_start(options, G, D, G_ema)
        check_folder(outdir)
    check_given_files(parse_metrics(options.metrics), options.inception, options.vgg, options.lpips)
    return options


def _with_start(options: TrainOptions, G: Generator, D: Discriminator, G_ema: Generator) -> TrainOptions:
    """Return the options of a new run with the `nkimg` and `p` that it would start from, as far as they are known."""
    if not options.resume:
        return Start({}).decide(options)
    if is_remote(options.resume):
        return replace(Start({}, kimg_of_name(options.resume)).decide(options), p=options.p)
    return start_from(options.resume, G, D, G_ema).decide(options)


def decide_and_open(
    options: TrainOptions, processes: int, resume: str | os.PathLike[str] | None = None, *, on_gpu: bool = False
) -> tuple[TrainOptions, FaceArchive]:
    """Return the options of a run as decided, and its data, if they fit each other and the number of processes.

    Raises:
        FileNotFoundError, FacegenError: they do not.
    """
    archive = open_archive(options, resume)
    options = options.decide(archive.resolution, processes, on_gpu=on_gpu)
    batch_parts(options, processes=processes)
    if options.even is not None:
        archive.attribute(options.even)
    return options, archive


def _check_idle(run: Path) -> None:
    status = read_status(run)
    if status is not None and status.state == RUNNING:
        raise FacegenError(f"{run}: process {status.pid} on {status.host} is training in this folder; wait for it")
