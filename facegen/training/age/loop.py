"""Training the age estimator: faces with exact ages in, a distribution over ages out."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from facegen.device import precision_in_words, trains_in_bfloat16
from facegen.errors import FacegenError
from facegen.figures.plots import plot_ages
from facegen.images import to_float
from facegen.networks.age_estimator import AgeEstimator, expected_age
from facegen.training.age.data import (
    AgeData,
    AgedFaces,
    age_targets,
    errors_by_group,
    errors_by_sex,
    load_data,
    note_of_faces,
)
from facegen.training.age.distort import distort
from facegen.training.age.options import SHAPES, AgeOptions
from facegen.training.encoder.weight_average import floats_of, move_average
from facegen.training.generator.batches import picture_weights
from facegen.training.lite_weights import fill_from_lite
from facegen.training.run.folder import check_goes_on, check_room, read_state
from facegen.training.run.session import Session, load_state
from facegen.weights.header import without_paths
from facegen.weights.locate import BEST_AGE_ESTIMATOR as BEST
from facegen.weights.native import save_networks

STATE = "age-state.pt"
KEPT = 2  # stages that stay as `init` has them: they see edges and spots, and learning would take half of the time
YEARS = 0.1  # weight of the mean absolute error, in years, beside the distribution's divergence


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0  # finished batches
    loss_sum: float = 0.0  # since the last validation
    loss_count: int = 0
    best: float = math.inf  # lowest validation MAE so far, in years
    seconds: float = 0.0  # spent training since the last validation


@dataclass
class TrainingState:
    """All that a step changes."""

    network: AgeEstimator
    average: AgeEstimator  # average of the weights over the last steps
    optimizer: torch.optim.Optimizer
    progress: Progress

    @property
    def parts(self) -> dict[str, Any]:
        """What the state file holds."""
        return {
            "network": self.network,
            "average": self.average,
            "optimizer": self.optimizer,
            "training": self.progress,
        }


def train_age(
    options: AgeOptions,
    outdir: str | os.PathLike[str] = "runs",
    *,
    device: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
    watch: Callable[[Path], object] | None = None,
) -> Path:
    """Train an age estimator in a new run folder, or continue a run, and return the folder.

    Ctrl-C saves the state and ends the run early. So does SIGTERM, which ends the process with exit code 75.

    Args:
        options: what to train on, and how. A continued run keeps its own options (`read_options` returns them), except
            those that `facegen train-age --resume` may change, such as `kimg`; the learning rate then follows the
            longer schedule.
        outdir: where the folder `<number>-age-<arch>-<archive>` of a new run is made.
        device: None uses a GPU if there is one.
        resume: the folder of a run to continue exactly from its saved state; None starts a new run.
        progress: show progress bars.
        watch: called with the run folder whenever it has new numbers or a new picture, so that a notebook can show
            them. Then nothing is printed; see `log.txt` in the folder. None prints.

    Raises:
        FileNotFoundError, FacegenError: the data or the run is missing, damaged or does not fit the options, there is
            nothing left to do, or a loss is no longer a number.
    """
    with Session("train-age", device, progress, watch) as session:
        val, init = (None if path is None else str(Path(path).resolve()) for path in (options.val, options.init))
        options = replace(options, data=str(Path(options.data).resolve()), val=val, init=init)
        if resume is not None:
            check_room(lambda: [build_network(options)], Path(resume) / STATE)
        state = build(options, session.device, fill=resume is None)
        if resume is not None:
            _restore(state, options, resume)
        notes = {name: note_of_faces(path) for name, path in (("data", options.data), ("val", val)) if path is not None}
        data = load_data(options, progress=session.progress)
        if resume is not None:
            done = state.progress.step * options.batch / 1000
            session.resume(resume, done, options, notes)
            session.log(f"resuming at {done:.2f} kimg")
        else:
            session.create(outdir, options.run_name(), options, notes)
        _train(session, options, state, data)
    return session.path


def build_network(options: AgeOptions) -> AgeEstimator:
    """Build the network of a new run, with random weights."""
    shape = SHAPES[options.arch]
    return AgeEstimator(
        options.arch,
        options.widths or shape["widths"],
        options.depths or shape["depths"],
        input_size=options.side,
        dropout=options.dropout,
        both_sides=options.both_sides,
    )


def build(options: AgeOptions, device: torch.device, *, fill: bool = True) -> TrainingState:
    """Build the networks and the optimizer of a new run.

    Args:
        fill: give the network the weights of `options.init`, if there are any; else something else will.
    """
    torch.manual_seed(options.seed)
    network = build_network(options)
    if options.init is not None:
        if fill:
            fill_from_lite(network.stem, network.stages, options.init)
        for part in (network.stem, *network.stages[:KEPT]):
            part.requires_grad_(False)
    network.to(device).to(memory_format=torch.channels_last).train()
    # Weight decay is for what multiplies; scales and biases go without.
    learned = [p for p in network.parameters() if p.requires_grad]
    decayed = [p for p in learned if p.ndim > 1]
    free = [p for p in learned if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": free, "weight_decay": 0.0}]
    average = copy.deepcopy(network).requires_grad_(False)
    return TrainingState(network, average, torch.optim.AdamW(groups, lr=options.lr), Progress())


def predict_ages(network: AgeEstimator, images: torch.Tensor, batch: int = 128) -> torch.Tensor:
    """Ages in years, float32 `[N]` on the CPU, of uint8 pictures `[N, 3, S, S]`. Sets the network to evaluation."""
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        return torch.cat([network.predict(to_float(part.to(device))).cpu() for part in images.split(batch)])


def age_loss(logits: torch.Tensor, ages: torch.Tensor, sigma: float) -> torch.Tensor:
    """Divergence from the distribution around the true age, and the error of the expected age.

    As in Gao et al. 2018 (Age Estimation Using Expectation of Label Distribution Learning), section 3.

    Args:
        logits: `[N, 101]`.
        ages: int64 `[N]`, in years.
        sigma: as `age_targets` takes it, in years.
    """
    logits = logits.float()
    divergence = functional.kl_div(logits.log_softmax(dim=1), age_targets(ages, sigma), reduction="batchmean")
    years = functional.l1_loss(expected_age(logits), ages.clamp(max=logits.shape[1] - 1).float())
    return divergence + YEARS * years


def _restore(state: TrainingState, options: AgeOptions, folder: str | os.PathLike[str]) -> None:
    """Load what the run in a folder saved into a freshly built state."""
    check_goes_on(folder, options)
    path = Path(folder) / STATE
    load_state(state.parts, read_state(path, list(state.parts)), path)
    if state.progress.step >= options.steps:
        raise FacegenError(f"{folder}: all {options.kimg:g} kimg are done; give a larger --kimg to continue")


def _train(session: Session, options: AgeOptions, state: TrainingState, data: AgeData) -> None:
    """Train to the last step, validating now and then, or until somebody asks to stop."""
    _describe(session, options, state, data)
    averaged, current = floats_of([state.average]), floats_of([state.network])
    chance = picture_weights(data.training.classes, options.balance)
    progress = state.progress
    bar = tqdm(total=options.steps * options.batch, initial=progress.step * options.batch, unit="face", desc="age",
               disable=not session.progress, leave=False)  # fmt: skip
    with session.interruptible(), bar:
        while progress.step < options.steps:
            if session.should_stop():
                session.save(STATE, state.parts)
                return session.stop()
            started = time.perf_counter()
            loss = train_step(state, data.training, chance, options)
            move_average(averaged, current, progress.step, options.ema)
            progress.step += 1
            progress.loss_sum, progress.loss_count = progress.loss_sum + loss, progress.loss_count + 1
            progress.seconds += time.perf_counter() - started
            bar.set_postfix(loss=f"{progress.loss_sum / progress.loss_count:.3f}", refresh=False)
            bar.update(options.batch)
            if progress.step % options.steps_per_snap == 0 or progress.step == options.steps:
                _report(session, options, state, data)
                session.save(STATE, state.parts)
    session.finish(f"done: best validation MAE {progress.best:.2f} years in {session.path / BEST}; look at ages.png")


def train_step(state: TrainingState, faces: AgedFaces, chance: np.ndarray, options: AgeOptions) -> float:
    """Train on one batch and return its loss.

    The batch depends on the seed and the step alone, so that a resumed run continues as if it had never stopped.

    Args:
        chance: how likely each face is drawn, float `[N]`, as returned by `picture_weights`.
    """
    network, step = state.network, state.progress.step
    device = next(network.parameters()).device
    draw = np.random.default_rng([options.seed, step])
    indices = draw.choice(len(faces), options.batch, p=chance)
    random = torch.Generator().manual_seed(int(draw.integers(2**62)))
    torch.manual_seed(int(draw.integers(2**62)))  # dropout draws from torch's own state
    images = distort(to_float(faces.images[indices].to(device)), random).contiguous(memory_format=torch.channels_last)
    for group in state.optimizer.param_groups:
        group["lr"] = options.lr_at(step)
    with torch.autocast(device.type, torch.bfloat16, enabled=_in_bfloat16(options, device)):
        logits = network(images)
    loss = age_loss(logits, faces.ages[indices].to(device), options.sigma)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    state.optimizer.step()
    value = loss.item()
    if not math.isfinite(value):
        raise FacegenError(f"the loss became {value} in step {step + 1}: start again with --lr below {options.lr:g}")
    return value


def _in_bfloat16(options: AgeOptions, device: torch.device) -> bool:
    return options.bf16 or trains_in_bfloat16(device, options.fp32)


def _describe(session: Session, options: AgeOptions, state: TrainingState, data: AgeData) -> None:
    size = sum(parameter.numel() for parameter in state.network.parameters())
    half = torch.bfloat16 if _in_bfloat16(options, session.device) else None
    session.log(f"run folder: {session.path}")
    session.log(
        f"age estimator: {options.arch}, {size / 1e6:.2f} M parameters, input {options.side} px, {session.device}"
    )
    session.log(f"precision: {precision_in_words(half, session.device, options.fp32)}")
    session.log(
        f"{len(data.training)} faces to train on, {len(data.validation)} to validate; always predicting "
        f"{data.median}: MAE {data.baseline:.2f} years"
    )


def _report(session: Session, options: AgeOptions, state: TrainingState, data: AgeData) -> None:
    """Measure the averaged weights as they will stand in the file, write numbers and pictures, keep the best."""
    network = copy.deepcopy(state.average)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    predicted = predict_ages(network, data.validation.images)
    mae = float((predicted - data.validation.ages).abs().mean())
    by_group = errors_by_group(predicted, data.validation)
    progress = state.progress
    images = progress.step * options.batch
    loss, kimg = progress.loss_sum / progress.loss_count, images / 1000
    per_kimg = progress.seconds / (progress.loss_count * options.batch / 1000)
    if better := mae < progress.best:  # never by an error that is no number
        progress.best = mae
    progress.loss_sum, progress.loss_count, progress.seconds = 0.0, 0, 0.0
    values = {"loss": loss, "val_mae": mae, "median_baseline": data.baseline, "lr": options.lr_at(progress.step - 1)}
    values |= {"seconds_per_kimg": per_kimg, **{f"val_mae {label}": row["mae"] for label, row in by_group.items()}}
    left = per_kimg * (options.steps - progress.step) * options.batch / 1000
    session.report(
        kimg,
        values,
        f"kimg {kimg:.1f}/{options.kimg:g}  loss {loss:.4f}  val MAE {mae:.3f} years  lr {values['lr']:.1e}  "
        f"{per_kimg:.2f} s/kimg  ETA {left / 60:.1f} min{'  best' if better else ''}",
        images,
    )
    if better:
        measured = {"kimg": round(kimg, 3), "val_mae": round(mae, 3), "val_by_group": by_group}
        if by_sex := errors_by_sex(predicted, data.validation):
            measured["val_by_sex"] = by_sex
        save_networks(session.path / BEST, {"age": network}, _metadata(options, data, measured), dtype=torch.float16)
        labels = {label: row["mae"] for label, row in by_group.items()}
        plot_ages(session.path / "ages.png", data.validation.ages.numpy(), predicted.numpy(), labels)
    session.plot({"validation MAE": "val_mae"}, xlabel="kimg", ylabel="years", title="age estimator")


def _metadata(options: AgeOptions, data: AgeData, measured: dict[str, Any]) -> dict[str, Any]:
    """What an age estimator's file says of itself."""
    faces = {"training_faces": len(data.training), "val_faces": len(data.validation)}
    license = {"license": options.license} if options.license else {}
    groups = data.validation.groups.labels
    return without_paths({**faces, **measured, **license, "training_options": options.to_json(), "groups": groups})
