"""Training the age estimator: faces with exact ages in, a distribution over ages out."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from facegen.device import pick_device, precision_in_words, trains_in_bfloat16
from facegen.errors import FacegenError
from facegen.figures.plots import plot_ages, plot_curves
from facegen.images import to_float
from facegen.networks.age_estimator import AgeEstimator, expected_age
from facegen.training.age.data import AgedFaces, age_targets, errors_by_group, load_data
from facegen.training.age.distort import distort
from facegen.training.age.options import SHAPES, AgeOptions
from facegen.training.encoder.weight_average import floats_of, move_average
from facegen.training.generator.batches import picture_weights
from facegen.training.run.cpu_memory import keep_freed_memory
from facegen.training.run.folder import OPTIONS, RunFolder, read_options, read_state, read_stats, save_state
from facegen.training.run.interrupt import StopRequest
from facegen.weights.header import without_paths
from facegen.weights.locate import BEST_AGE_ESTIMATOR as BEST
from facegen.weights.native import save_networks

STATE = "age-state.pt"
YEARS = 0.1  # weight of the mean absolute error, in years, beside the distribution's divergence


@dataclass
class TrainingState:
    """Where a run stands; with the networks and the optimiser all that it takes to go on."""

    step: int = 0  # finished batches
    loss_sum: float = 0.0  # since the last validation
    loss_count: int = 0
    best: float = math.inf  # lowest validation MAE so far, in years
    seconds: float = 0.0  # spent training since the last validation


def train_age(
    options: AgeOptions, outdir: str | os.PathLike[str], *, device: str | None = None, progress: bool = True
) -> Path:
    """Train an age estimator in a new run folder and return the folder.

    Ctrl-C saves the state and ends the run early; `resume_age` goes on from there. So does SIGTERM, which ends the
    process with exit code 75.

    Args:
        options: See `AgeOptions`.
        outdir: Where the folder `<number>-age-<arch>-<archive>` is made.
        device: None takes a GPU when there is one.

    Raises:
        FileNotFoundError, FacegenError: no such archive, no exact ages in it, impossible options, or a loss that is no
            number any more.
    """
    chosen = pick_device(device)
    options = replace(options, data=str(Path(options.data).resolve()))
    if options.val is not None:
        options = replace(options, val=str(Path(options.val).resolve()))
    torch.manual_seed(options.seed)
    network = _new_network(options)
    training, validation = load_data(options, progress=progress)
    half = f"-{options.half}" if options.half else ""
    with RunFolder.create(outdir, f"age-{options.arch}-{Path(options.data).stem}{half}") as run:
        run.write_json(OPTIONS, options.to_json())
        _run(run, options, training, validation, network, TrainingState(), None, chosen, progress)
    return run.path


def resume_age(
    folder: str | os.PathLike[str],
    *,
    kimg: float | None = None,
    data: str | None = None,
    val: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Go on with the run in `folder` exactly where its state file stands, with the options of that run.

    Args:
        kimg: Train up to this many thousand pictures in all instead of the run's own number; the learning rate goes on
            along the longer schedule.
        data, val: Where the archives are now, if they were moved.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder")
    chosen = pick_device(device)
    options = read_options(folder, AgeOptions)
    options = replace(options, kimg=kimg or options.kimg, data=data or options.data, val=val or options.val)
    saved = read_state(folder / STATE, ("network", "average", "optimizer", "training"))
    state = TrainingState(**saved["training"])
    if state.step >= options.steps:
        raise FacegenError(f"{folder}: all {options.kimg:g} kimg are done; give more --kimg to go on")
    training, validation = load_data(options, progress=progress)
    network = _new_network(options)
    network.load_state_dict(saved["network"])
    with RunFolder.open(folder, last_step=state.step * options.batch / 1000) as run:
        run.write_json(OPTIONS, options.to_json())
        run.log(f"resuming at {state.step * options.batch / 1000:.2f} kimg")
        _run(run, options, training, validation, network, state, saved, chosen, progress)
    return run.path


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
        sigma: Of `age_targets`.
    """
    logits = logits.float()
    divergence = functional.kl_div(logits.log_softmax(dim=1), age_targets(ages, sigma), reduction="batchmean")
    years = functional.l1_loss(expected_age(logits), ages.clamp(max=logits.shape[1] - 1).float())
    return divergence + YEARS * years


def _new_network(options: AgeOptions) -> AgeEstimator:
    shape = SHAPES[options.arch]
    return AgeEstimator(
        options.arch,
        options.widths or shape["widths"],
        options.depths or shape["depths"],
        input_size=options.size,
        dropout=options.dropout,
        both_sides=options.both_sides,
    )


def _run(
    run: RunFolder,
    options: AgeOptions,
    training: AgedFaces,
    validation: AgedFaces,
    network: AgeEstimator,
    state: TrainingState,
    saved: Mapping[str, Any] | None,
    device: torch.device,
    progress: bool,
) -> None:
    """Train to the last step, validating now and then, report."""
    keep_freed_memory()
    network.to(device, memory_format=torch.channels_last).train()
    average = copy.deepcopy(network).requires_grad_(False)
    averaged, current = floats_of([average]), floats_of([network])
    optimizer = torch.optim.AdamW(_parameter_groups(network, options), lr=options.lr)
    if saved is not None:
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])

    run.log(f"run folder: {run.path}")
    size = sum(parameter.numel() for parameter in network.parameters())
    run.log(f"age estimator: {options.arch}, {size / 1e6:.2f} M parameters, input {options.size} px, {device}")
    half = torch.bfloat16 if _in_bfloat16(options, device) else None
    run.log(f"precision: {precision_in_words(half, device, options.fp32)}")
    baseline = float((validation.ages - training.ages.median()).abs().float().mean())
    run.log(
        f"{len(training)} faces to train on, {len(validation)} to validate; always saying "
        f"{int(training.ages.median())}: MAE {baseline:.2f} years"
    )
    chance = picture_weights(training.classes, options.balance)
    with (
        StopRequest() as stop,
        tqdm(total=options.steps * options.batch, initial=state.step * options.batch, unit="face", desc="age",
             disable=not progress, leave=False) as bar,
    ):  # fmt: skip
        while state.step < options.steps:
            if stop.requested:
                _save_state(run, network, average, optimizer, state)
                run.log(f"stopped; go on with: facegen train-age --resume {run.path}")
                stop.leave()
                return
            started = time.perf_counter()
            loss = _train_step(network, optimizer, training, chance, options, state.step)
            if not math.isfinite(loss):
                raise FacegenError(
                    f"the loss became {loss} in step {state.step + 1}: start again, --lr lower than {options.lr:g}"
                )
            move_average(averaged, current, state.step, options.ema)
            state.step += 1
            state.loss_sum, state.loss_count = state.loss_sum + loss, state.loss_count + 1
            state.seconds += time.perf_counter() - started
            bar.set_postfix(loss=f"{state.loss_sum / state.loss_count:.3f}", refresh=False)
            bar.update(options.batch)
            if state.step % options.steps_per_snap == 0 or state.step == options.steps:
                _report(run, options, training, validation, average, state, baseline)
                _save_state(run, network, average, optimizer, state)
    run.finished = True
    run.log(f"done: best validation MAE {state.best:.2f} years in {run.path / BEST}; look at ages.png")


def _train_step(
    network: AgeEstimator,
    optimizer: torch.optim.Optimizer,
    faces: AgedFaces,
    chance: np.ndarray,
    options: AgeOptions,
    step: int,
) -> float:
    """One batch, which depends on the seed and the step alone, so that a resumed run goes on as if never stopped."""
    device = next(network.parameters()).device
    draw = np.random.default_rng([options.seed, step])
    indices = draw.choice(len(faces), options.batch, p=chance)
    random = torch.Generator().manual_seed(int(draw.integers(2**62)))
    torch.manual_seed(int(draw.integers(2**62)))  # dropout draws from torch's own state
    images = distort(to_float(faces.images[indices].to(device)), random).contiguous(memory_format=torch.channels_last)
    for group in optimizer.param_groups:
        group["lr"] = options.lr_at(step)
    with torch.autocast(device.type, torch.bfloat16, enabled=_in_bfloat16(options, device)):
        logits = network(images)
    loss = age_loss(logits, faces.ages[indices].to(device), options.sigma)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return loss.item()


def _in_bfloat16(options: AgeOptions, device: torch.device) -> bool:
    return options.bf16 or trains_in_bfloat16(device, options.fp32)


def _parameter_groups(network: nn.Module, options: AgeOptions) -> list[dict[str, Any]]:
    """Weight decay for what multiplies; scales and biases go without."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": options.weight_decay}, {"params": free, "weight_decay": 0.0}]


def _report(
    run: RunFolder,
    options: AgeOptions,
    training: AgedFaces,
    validation: AgedFaces,
    average: AgeEstimator,
    state: TrainingState,
    baseline: float,
) -> None:
    """Measure the averaged weights as they will stand in the file, write numbers and pictures, keep the best."""
    network = copy.deepcopy(average)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    predicted = predict_ages(network, validation.images)
    mae = float((predicted - validation.ages).abs().mean())
    by_group = errors_by_group(predicted, validation)
    loss, kimg = state.loss_sum / state.loss_count, state.step * options.batch / 1000
    per_kimg = state.seconds / (state.loss_count * options.batch / 1000)
    if better := mae < state.best:  # never by an error that is no number
        state.best = mae
    state.loss_sum, state.loss_count, state.seconds = 0.0, 0, 0.0
    values = {"loss": loss, "val_mae": mae, "median_baseline": baseline, "lr": options.lr_at(state.step - 1)}
    values |= {"seconds_per_kimg": per_kimg, **{f"val_mae {label}": row["mae"] for label, row in by_group.items()}}
    run.stats(kimg, values)
    left = per_kimg * (options.steps - state.step) * options.batch / 1000
    run.log(
        f"kimg {kimg:.1f}/{options.kimg:g}  loss {loss:.4f}  val MAE {mae:.3f} years  lr {values['lr']:.1e}  "
        f"{per_kimg:.2f} s/kimg  ETA {left / 60:.1f} min{'  best' if better else ''}"
    )
    if better:
        metadata = _metadata(options, len(training), len(validation), kimg, mae, by_group)
        metadata["groups"] = validation.groups.labels
        save_networks(run.path / BEST, {"age": network}, metadata, dtype=torch.float16)
        labels = {label: row["mae"] for label, row in by_group.items()}
        plot_ages(run.path / "ages.png", validation.ages.numpy(), predicted.numpy(), labels)
    lines = read_stats(run.path)
    steps = [line["step"] for line in lines]
    plot_curves(
        run.path / "curve.png",
        {"validation MAE": (steps, [line["val_mae"] for line in lines])},
        xlabel="kimg",
        ylabel="years",
        title="age estimator",
    )


def _metadata(
    options: AgeOptions, faces: int, held: int, kimg: float, mae: float, by_group: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """What an age estimator's file says of itself."""
    measured = {"kimg": round(kimg, 3), "val_mae": round(mae, 3), "val_faces": held, "val_by_group": by_group}
    license = {"license": options.license} if options.license else {}
    return without_paths({"training_faces": faces, **measured, **license, "training_options": options.to_json()})


def _save_state(
    run: RunFolder, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState
) -> None:
    networks = {"network": network.state_dict(), "average": average.state_dict()}
    save_state(run.path / STATE, {**networks, "optimizer": optimizer.state_dict(), "training": asdict(state)})
