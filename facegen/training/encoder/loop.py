"""Training the encoder: faces in, the latents out from which the generator makes them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tqdm import tqdm

from facegen.device import pick_device, precision_in_words, trains_in_bfloat16
from facegen.errors import FacegenError
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.figures import grids as figures
from facegen.figures.plots import plot_curves
from facegen.images import to_float
from facegen.metrics.features import locate_weights
from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.encoder import Encoder
from facegen.networks.latents import draw, group_means, place_latents
from facegen.training.encoder.batch_norm import share_batch_norm
from facegen.training.encoder.data import (
    FaceData,
    epoch_batches,
    groups_of,
    load_data,
    make_batch,
    mean_baseline,
    middle_ages,
    other_z_for,
    target_ages_for,
)
from facegen.training.encoder.identity_loss import IdentityLoss
from facegen.training.encoder.objective import EncoderObjective, closest_group
from facegen.training.encoder.options import EncoderOptions
from facegen.training.encoder.pairs import Pairs, one_hot
from facegen.training.encoder.real_faces import open_real_faces
from facegen.training.encoder.recipes import Recipe
from facegen.training.encoder.weight_average import WeightAverage
from facegen.training.run import distributed
from facegen.training.run.cpu_memory import keep_freed_memory
from facegen.training.run.folder import OPTIONS, RunFolder, read_options, read_state, read_stats, save_state
from facegen.training.run.interrupt import StopRequest
from facegen.weights.facenet import VGGFACE2_URL, load_facenet, load_trunk
from facegen.weights.header import Header, without_paths
from facegen.weights.load import load_age_estimator, load_generator, read_networks
from facegen.weights.locate import BEST_ENCODER as BEST
from facegen.weights.locate import locate, shipped_file
from facegen.weights.native import save_networks

STATE = "encoder-state.pt"
VALIDATION_BATCH = 64
CALIBRATING_BATCHES = 20
INHERITED = ("groups", "class_names", "template", "license", "resolution", "kimg")  # kimg: of the generator
VALIDATED = {"cosine_similarity": "val_cosine"}  # what the statistics call it; other losses are called val_<loss>


@dataclass
class TrainingState:
    """Where a run stands; with the networks and the optimiser all that it takes to go on."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished batches of the epoch under way
    loss_sum: float = 0.0  # over those batches
    best: float = math.inf  # lowest validation loss so far


def train_encoder(
    options: EncoderOptions, outdir: str | os.PathLike[str], *, device: str | None = None, progress: bool = True
) -> Path:
    """Train an encoder for a generator in a new run folder and return the folder.

    Ctrl-C saves the state and ends the run early; `resume_encoder` goes on from there. So does SIGTERM, which ends
    the process with exit code 75.

    Args:
        options: See `EncoderOptions`; `generator` is a weight file or the run folder of a generator.
        outdir: Where the folder `<number>-encoder-<generator>` is made.
        device: None takes a GPU when there is one.

    Raises:
        FileNotFoundError, FacegenError: no such files, impossible options, or a loss that is no number any more.
    """
    with distributed.session(pick_device(device)) as chosen:
        options.check_processes(distributed.world_size())
        source = locate(options.generator).resolve()  # from now on the very file, whatever is published later
        options = replace(options, generator=str(source), recipe=options.recipe_name())
        if options.data is not None:
            options = replace(options, data=str(Path(options.data).resolve()))
        if options.age_estimator is not None:
            options = replace(options, age_estimator=str(locate(options.age_estimator).resolve()))
        if options.face_network is not None:
            options = replace(options, face_network=str(Path(options.face_network).resolve()))
        torch.manual_seed(options.seed)
        objective, header = _objective(options, progress)
        if options.real_in_batch():  # a wrong archive is told before a run folder is made
            open_real_faces(options.data, groups_of(objective.generator, header), objective.generator.img_resolution)
        _start_from(objective, options.init)
        name = f"encoder-{options.recipe}-{source.stem}-{options.pairs}pairs"
        with distributed.open_folder(lambda: RunFolder.create(outdir, name)) as run:
            run.write_json(OPTIONS, options.to_json())
            _run(run, options, objective, header, TrainingState(), None, chosen, progress)
    return run.path


def resume_encoder(
    folder: str | os.PathLike[str],
    *,
    epochs: int | None = None,
    generator: str | None = None,
    data: str | None = None,
    age_estimator: str | None = None,
    face_network: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Go on with the run in `folder` exactly where its state file stands, with the options of that run.

    Args:
        epochs: Train up to this many epochs in all instead of the run's own number.
        generator: Where the generator is now, if it was moved.
        data: Where the real faces are now, if they were moved.
        age_estimator, face_network: Where these files are now.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder")
    wanted = pick_device(device)
    options = read_options(folder, EncoderOptions)
    changed = {"epochs": epochs, "generator": generator, "data": data}
    changed |= {"age_estimator": age_estimator, "face_network": face_network}
    options = replace(options, **{name: value for name, value in changed.items() if value is not None})
    saved = read_state(folder / STATE, ("encoder", "average", "optimizer", "training"))
    state = TrainingState(**saved["training"])
    if state.epoch >= options.epochs:
        raise FacegenError(f"{folder}: all {options.epochs} epochs are done; give more --epochs to go on")
    with distributed.session(wanted) as chosen:
        options.check_processes(distributed.world_size())
        objective, header = _objective(options, progress)
        with distributed.open_folder(lambda: RunFolder.open(folder, last_step=state.epoch)) as run:
            run.write_json(OPTIONS, options.to_json())
            run.log(f"resuming at epoch {state.epoch + 1}, batch {state.step + 1}")
            _run(run, options, objective, header, state, saved, chosen, progress)
    return run.path


def validate(objective: EncoderObjective, data: FaceData) -> dict[str, float]:
    """The mean of every loss over the faces held back, as `EncoderObjective` names them; sets it to evaluation.

    Where real faces are at hand, the losses of pictures are theirs: that is what the encoder is for.
    """
    objective.eval()
    device = next(objective.encoder.parameters()).device
    pairs, real = data.validation, data.real_validation
    losses = _mean_losses(objective, pairs.images, data.ages_of(pairs.classes), data, pairs, device)
    if real is not None and objective.recipe.real:
        losses |= _mean_losses(objective, real.images, real.ages, data, None, device)
    # Of two epochs' adversarial losses none is the better: the other side learns, too.
    comparable = {name: loss for name, loss in losses.items() if name != "adversarial"}
    return losses | {"loss": objective.recipe.weighted_sum(comparable)}


def _validate_average(
    average: WeightAverage, data: FaceData, options: EncoderOptions, epoch: int, device: torch.device
) -> dict[str, float]:
    batches = islice(epoch_batches(len(data.training), options, epoch, data), CALIBRATING_BATCHES)
    average.calibrate(batch.share(slice(None), data, device)[0] for batch in batches)
    return validate(average.objective, data)


def _mean_losses(
    objective: EncoderObjective,
    images: torch.Tensor,
    ages: torch.Tensor,
    data: FaceData,
    pairs: Pairs | None,
    device: torch.device,
) -> dict[str, float]:
    """Means over faces, each shifted to one random age; `pairs` has their latents, None for real faces."""
    sums: dict[str, float] = {}
    targets, other_z = target_ages_for(len(images), data.ages, seed=0), other_z_for(len(images), data.training, seed=0)
    for indices in torch.arange(len(images)).split(VALIDATION_BATCH):
        known = indices if pairs is not None else indices[:0]
        faces = make_batch(images[indices], ages[indices], pairs or data.validation, known, other_z[indices], device)
        with torch.no_grad():
            losses = objective(faces, targets[indices].to(device))
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + float(loss) * len(indices)
    return {name: total / len(images) for name, total in sums.items()}


def save_reconstructions(
    path: str | os.PathLike[str], objective: EncoderObjective, data: FaceData, labels: list[str] | None = None
) -> Path:
    """Draw faces over what the generator makes of their latents (same class, constant noise).

    One column per class, two faces of each. Without age groups eight columns. `labels` names the classes. Real faces
    that were held back follow below, where the recipe learns from real ones.
    """
    generator = objective.generator
    columns = generator.c_dim or 8
    pairs = data.validation
    rows = []
    chosen = _two_rows(pairs.classes, columns)
    rows += _face_rows(objective, pairs.images[chosen], pairs.classes[chosen], columns)
    names = ["generated", "encoded"] * 2
    real = data.real_validation
    if real is not None and objective.recipe.real:
        classes = closest_group(real.ages, data.ages)
        chosen = _two_rows(classes, columns)
        rows += _face_rows(objective, real.images[chosen], classes[chosen], columns)
        names += ["real", "encoded"] * 2
    return figures.save_image_grid(
        [image for row in rows for image in row],
        path,
        columns,
        column_labels=labels if labels and len(labels) == columns else None,
        row_labels=names,
    )


def _two_rows(classes: torch.Tensor, columns: int) -> list[int]:
    """Indices of two faces for every column: of its class where there are such, else of any."""
    chosen = []
    for turn in range(2):
        for column in range(columns):
            fitting = torch.nonzero(classes == column).flatten()
            if len(fitting) == 0:
                fitting = torch.arange(len(classes))
            chosen.append(int(fitting[turn % len(fitting)]))
    return chosen


def _face_rows(objective: EncoderObjective, faces: torch.Tensor, classes: torch.Tensor, columns: int) -> list[Any]:
    """Two rows of faces, uint8, each followed by the row of what the generator makes of them."""
    objective.eval()
    generator = objective.generator
    device = next(generator.parameters()).device
    with torch.no_grad():
        latents = objective.encoder(to_float(faces.to(device)))
        if objective.recipe.target == "z":
            labels = one_hot(classes, generator.c_dim).to(device)
            latents = place_latents(generator, latents, labels, group_means(generator))
        again = draw(generator, latents)
    inputs, outputs = figures.to_pixels(to_float(faces)), figures.to_pixels(again)
    return [inputs[:columns], outputs[:columns], inputs[columns:], outputs[columns:]]


def _run(
    run: RunFolder,
    options: EncoderOptions,
    objective: EncoderObjective,
    header: Header,
    state: TrainingState,
    saved: Mapping[str, Any] | None,
    device: torch.device,
    progress: bool,
) -> None:
    """Generate the pairs, train to the last epoch, report."""
    keep_freed_memory()
    main = distributed.is_main()
    progress = progress and main
    encoder, generator = objective.encoder, objective.generator
    objective.to(device)
    objective.bf16 = options.bf16 or trains_in_bfloat16(device, options.fp32)
    encoder.to(memory_format=torch.channels_last)
    data = load_data(options, generator, header, device, progress)  # by the generator as it was, before any tuning
    if saved is not None:
        for name, network in objective.learning().items():
            network.load_state_dict(saved[name])
    distributed.broadcast(list(objective.learning().values()))
    average = WeightAverage(objective)  # of one process, so before batch normalisation is shared
    if distributed.world_size() > 1:
        share_batch_norm(encoder)
    optimizer = objective.optimizer(options.lr)
    if saved is not None:
        optimizer.load_state_dict(saved["optimizer"])
        for name, network in average.objective.trained().items():
            network.load_state_dict(saved["average"][name])

    run.log(f"run folder: {run.path}")
    run.log(f"generator: {options.generator} ({generator.img_resolution} px, z {generator.z_dim}, {device})")
    size = sum(parameter.numel() for parameter in encoder.parameters())
    run.log(f"encoder: {size / 1e6:.1f} M parameters, blocks {options.blocks}, input {options.input_size} px")
    half = torch.bfloat16 if objective.bf16 else None
    run.log(f"precision: {precision_in_words(half, device, options.fp32)}")
    run.log(f"recipe: {options.recipe} ({_in_words(objective.recipe)})")
    baseline = mean_baseline(data.training, data.validation)
    run.log(
        f"{len(data.training)} pairs to train on, {len(data.validation)} to validate; "
        f"predicting the mean: MSE {baseline:.3f}"
    )
    if data.real_training is not None:
        run.log(f"{len(data.real_training)} real faces to train on, {len(data.real_validation)} to validate")

    agree = distributed.Agreement(2)
    with StopRequest() as stop:
        while state.epoch < options.epochs:
            started = time.time()
            train_loss = _train_epoch(objective, optimizer, data, options, state, stop, run, progress, agree, average)
            if train_loss is None:
                if main:
                    _save_state(run, objective, average, optimizer, state)
                run.log(f"stopped; go on with: facegen train-encoder --resume {run.path}")
                stop.leave()
                return
            distributed.check_equal(objective.learning())
            losses = distributed.on_main(lambda: _validate_average(average, data, options, state.epoch, device))
            state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
            if better := losses["loss"] < state.best:  # never by a loss that is no number
                state.best = losses["loss"]
            epoch_seconds = time.time() - started
            values = {"train_loss": train_loss, "mean_baseline": baseline}
            values |= {VALIDATED.get(name, f"val_{name}"): loss for name, loss in losses.items()}
            values |= {"lr": options.lr_at(state.epoch - 1), "seconds": epoch_seconds}
            run.stats(state.epoch, values)
            left = epoch_seconds * (options.epochs - state.epoch)
            run.log(
                f"epoch {state.epoch}/{options.epochs}  training {train_loss:.4f}  validation {losses['loss']:.4f}  "
                f"MSE {losses['mse']:.4f} (mean: {baseline:.3f})  cosine {losses['cosine_similarity']:.4f}  "
                f"{_pictures_in_words(losses)}"
                f"lr {values['lr']:.1e}  {epoch_seconds:.0f} s  ETA {left / 60:.1f} min{'  best' if better else ''}"
            )
            if not main:
                continue
            metadata = _metadata(header, options, state.epoch, losses)
            networks = average.objective.trained()
            save_networks(run.path / f"encoder-epoch{state.epoch:03d}.safetensors", networks, metadata)
            if better:
                save_networks(run.path / BEST, networks, metadata)
            _save_state(run, objective, average, optimizer, state)
            _plot(run.path)

    agree.close()
    if not main:
        return
    for name, network in read_networks(run.path / BEST)[0].items():
        objective.trained()[name].load_state_dict(network.state_dict())
    save_reconstructions(run.path / "reconstructions.png", objective, data, header.get("groups") or None)
    run.finished = True
    run.log(f"done: best validation loss {state.best:.4f} in {run.path / BEST}; look at reconstructions.png")


def _train_epoch(
    objective: EncoderObjective,
    optimizer: torch.optim.Optimizer,
    data: FaceData,
    options: EncoderOptions,
    state: TrainingState,
    stop: StopRequest,
    run: RunFolder,
    progress: bool,
    agree: distributed.Agreement | None = None,
    average: WeightAverage | None = None,
) -> float | None:
    """Train over the rest of the epoch under way; the mean loss, or None when asked to stop before its end."""
    agree = agree or distributed.Agreement(2)
    objective.train()
    parameters = objective.parameters_to_train()
    batches = list(epoch_batches(len(data.training), options, state.epoch, data))
    description = f"epoch {state.epoch + 1}/{options.epochs}"
    with tqdm(total=len(batches), initial=state.step, desc=description, disable=not progress, leave=False) as bar:
        for batch in batches[state.step :]:
            for group in optimizer.param_groups:
                group["lr"] = group["share"] * options.lr_at(state.epoch, state.epoch * len(batches) + state.step)
            faces, target_ages = batch.mine(data, next(iter(parameters)).device)
            losses = objective(faces, target_ages)
            loss = losses["loss"]
            optimizer.zero_grad(set_to_none=True)
            (loss + losses.get("latent_discriminator", 0)).backward()  # neither reaches what the other is for
            loss = loss.detach().clone()
            distributed.average([*(p.grad for p in parameters if p.grad is not None), loss])
            value = loss.item()
            if not math.isfinite(value):
                kept = f"the last good encoder is {run.path / BEST}" if state.epoch else "no epoch was finished"
                raise FacegenError(
                    f"the loss became {value} in epoch {state.epoch + 1}, batch {state.step + 1}: start again with a "
                    f"lower --lr than {options.lr:g}; {kept}"
                )
            optimizer.step()
            state.step += 1
            if average is not None:
                average.update(state.epoch * len(batches) + state.step)
            state.loss_sum += value
            bar.set_postfix(loss=f"{state.loss_sum / state.step:.4f}", refresh=False)
            bar.update()
            stopping, preempted = agree(stop.requested, stop.preempted)
            stop.preempted = stop.preempted or preempted
            if stopping and state.step < len(batches):
                return None
    return state.loss_sum / len(batches)


def _objective(options: EncoderOptions, progress: bool) -> tuple[EncoderObjective, Header]:
    """The networks of a run, the encoder untrained, and what the generator's file says of it."""
    generator, header = load_generator(options.generator)
    recipe = options.chosen_recipe()
    if recipe.real or recipe.age:
        groups_of(generator, header)  # complains of a generator without
    estimator: AgeEstimator | None = None
    if recipe.needs_estimator:
        estimator, _ = load_age_estimator(options.age_estimator or shipped_file("age"))
    encoder = Encoder(
        generator.z_dim if recipe.target == "z" else generator.w_dim,
        generator.img_resolution,
        options.input_size,
        options.blocks,
        target=recipe.target,
        num_ws=generator.num_ws,
    )
    identity_loss: IdentityLoss | None = None
    if recipe.identity:
        template = header.template or UTKFACE_TEMPLATE
        weights = locate_weights(options.face_network, VGGFACE2_URL, "--face-network", progress)
        identity_loss = IdentityLoss(load_facenet(weights), template, generator.img_resolution)
    ages = middle_ages(generator, header)
    objective = EncoderObjective(encoder, generator, recipe, ages, estimator, identity_loss, psi=options.psi)
    return objective, header


def _start_from(objective: EncoderObjective, init: str) -> None:
    """Start from trained weights: `load_trunk`, and the age shift where the file has one for such a generator."""
    load_trunk(objective.encoder, init)
    if objective.shift is None or Path(init).suffix != ".safetensors":
        return
    with safe_open(init, framework="pt") as file:
        table = file.get_tensor("age_shift.table").float() if "age_shift.table" in file.keys() else None  # noqa: SIM118
    if table is not None and table.shape == objective.shift.table.shape:
        with torch.no_grad():
            objective.shift.table.copy_(table)


def _in_words(recipe: Recipe) -> str:
    """A recipe's target and losses, as `w+; latent 0.1, pixels 4`."""
    losses = {name: value for name, value in asdict(recipe).items() if name != "target" and value}
    return f"{recipe.target}; {', '.join(f'{name} {value:g}' for name, value in losses.items())}"


def _pictures_in_words(losses: Mapping[str, float]) -> str:
    return "".join(
        f"{name} {losses[name]:.4f}  "
        for name in ("pixels", "features", "identity", "age", "adversarial")
        if name in losses
    )


def _metadata(header: Header, options: EncoderOptions, epoch: int, losses: Mapping[str, float]) -> dict[str, Any]:
    """What an encoder file says of itself; groups, template and licence are its generator's."""
    inherited = {key: header[key] for key in INHERITED if key in header}
    measured = {VALIDATED.get(name, f"val_{name}"): round(loss, 5) for name, loss in losses.items()}
    return without_paths({**inherited, "epoch": epoch, **measured, "training_options": options.to_json()})


def _save_state(
    run: RunFolder,
    objective: EncoderObjective,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
) -> None:
    networks = {name: network.state_dict() for name, network in objective.learning().items()}
    averages = {name: network.state_dict() for name, network in average.objective.trained().items()}
    save_state(
        run.path / STATE,
        {**networks, "average": averages, "optimizer": optimizer.state_dict(), "training": asdict(state)},
    )


def _plot(folder: Path) -> None:
    lines = read_stats(folder)
    epochs = [line["step"] for line in lines]
    plot_curves(
        folder / "curve.png",
        {
            "training": (epochs, [line["train_loss"] for line in lines]),
            "validation": (epochs, [line["val_loss"] for line in lines]),
            "MSE (validation)": (epochs, [line["val_mse"] for line in lines]),
            "cosine (validation)": (epochs, [line["val_cosine"] for line in lines]),
        },
        xlabel="epoch",
        ylabel="loss, MSE of the latent, cosine",
        title="encoder",
        baselines={"predict the mean": lines[-1]["mean_baseline"]},
    )
