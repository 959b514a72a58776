"""Training the encoder: faces in, the latents out from which the generator makes them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from facegen.device import precision_in_words, trains_in_bfloat16
from facegen.errors import FacegenError
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.metrics.features import locate_weights
from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.encoder import Encoder
from facegen.networks.sex_classifier import SexClassifier
from facegen.status import status
from facegen.training.encoder.batch_norm import share_batch_norm
from facegen.training.encoder.data import Batch, FaceData, epoch_batches, groups_of, load_data, middle_ages
from facegen.training.encoder.identity_loss import IdentityLoss
from facegen.training.encoder.objective import EncoderObjective
from facegen.training.encoder.options import EncoderOptions
from facegen.training.encoder.real_faces import open_real_faces
from facegen.training.encoder.recipes import Recipe
from facegen.training.encoder.sex_direction import sex_direction, why_not_judged
from facegen.training.encoder.validation import save_reconstructions, validate_average
from facegen.training.encoder.weight_average import WeightAverage
from facegen.training.run import distributed
from facegen.training.run.check_state import as_dict, fitting
from facegen.training.run.data import Notes, note_of
from facegen.training.run.folder import check_goes_on, read_state
from facegen.training.run.session import Session, load_state
from facegen.weights.face_network import load_face_network
from facegen.weights.facenet import VGGFACE2_URL, load_trunk
from facegen.weights.header import Header, without_paths
from facegen.weights.load import load_age_estimator, load_generator, load_sex_classifier, read_networks
from facegen.weights.locate import BEST_ENCODER as BEST
from facegen.weights.locate import locate, shipped_file
from facegen.weights.native import save_networks
from facegen.weights.tensors.safetensors_file import open_safetensors
from facegen.weights.trained_for import ENTRY, name_generator

STATE = "encoder-state.pt"
INHERITED = ("groups", "class_names", "template", "license", "resolution", "kimg", ENTRY)  # kimg: of the generator
VALIDATED = {"cosine_similarity": "val_cosine"}  # what the statistics call it; other losses are called val_<loss>


@dataclass
class Progress:
    """Where a run stands."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished batches of the epoch under way
    loss_sum: float = 0.0  # over those batches
    best: float = math.inf  # lowest validation loss so far
    trained_for: str = ""  # the generator's fingerprint; runs of the version before have none


@dataclass
class TrainingState:
    """All that a step changes."""

    objective: EncoderObjective
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    progress: Progress

    @property
    def parts(self) -> dict[str, Any]:
        """What the state file holds."""
        return _parts(self.objective, self.average.objective.trained(), self.optimizer, self.progress)


def _parts(
    objective: EncoderObjective, average: dict[str, nn.Module], optimizer: torch.optim.Optimizer, progress: Progress
) -> dict[str, Any]:
    return {**objective.learning(), "average": average, "optimizer": optimizer, "training": progress}


def train_encoder(
    options: EncoderOptions,
    outdir: str | os.PathLike[str] = "runs",
    *,
    device: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
    watch: Callable[[Path], object] | None = None,
) -> Path:
    """Train an encoder for a generator in a new run folder, or continue a run, and return the folder.

    Ctrl-C saves the state and ends the run early. So does SIGTERM, which ends the process with exit code 75.

    Args:
        options: what to train on, and how; `generator` is a weight file or the run folder of a generator. A continued
            run keeps its own options (`read_options` returns them), except those that `facegen train-encoder --resume`
            may change, such as `epochs`.
        outdir: where the folder `<number>-encoder-<generator>` of a new run is made.
        device: None uses a GPU if there is one.
        resume: the folder of a run to continue exactly from its saved state; None starts a new run.
        progress: show progress bars.
        watch: called with the run folder whenever it has new numbers or a new picture, so that a notebook can show
            them. Then nothing is printed; see `log.txt` in the folder. None prints.

    Raises:
        FileNotFoundError, FacegenError: a file or the run is missing, damaged or does not fit the options, there is
            nothing left to do, or a loss is no longer a number.
    """
    with Session("train-encoder", device, progress, watch) as session:
        options.check_processes(distributed.world_size())
        options = _with_absolute_paths(options)
        torch.manual_seed(options.seed)
        objective, header = build_objective(options, session.progress)
        saved, notes = None, {}
        if options.data is not None and options.real_in_batch():  # a wrong one is reported before a folder is touched
            generator = objective.generator
            archive = open_real_faces(options.data, groups_of(generator, header), generator.img_resolution)
            notes = {"data": note_of(archive, archive.class_names)}
        if resume is not None:
            saved = _go_on(session, options, objective, resume, header, notes)
        else:
            _start_from(objective, options.init)
            session.create(outdir, options.run_name(), options, notes)
        objective.to(session.device)
        if resume is None:
            _hold_sex(session, objective, header)
        state, data = _build(session, options, objective, header)
        if saved is not None and resume is not None:
            load_state(state.parts, saved, Path(resume) / STATE)
        _train(session, options, state, data, header)
    return session.path


def _go_on(
    session: Session,
    options: EncoderOptions,
    objective: EncoderObjective,
    folder: str | os.PathLike[str],
    header: Header,
    notes: Notes,
) -> dict[str, Any]:
    """Go on in the folder of an earlier run and return the content of its state file."""
    check_goes_on(folder, options)
    path = Path(folder) / STATE
    saved = read_state(path, list(_parts(objective, {}, objective.optimizer(options.lr), Progress())))
    if objective.shift is not None and "normals" in as_dict(saved["age_shift"], str(path)):
        nothing = torch.zeros(objective.shift.w_dim)  # the state says what it is
        objective.shift = objective.shift.holding("sex", nothing, nothing)
    parts = _parts(objective, objective.trained(), objective.optimizer(options.lr), Progress())
    done = Progress(**fitting(parts, saved, str(path))["training"])  # before the folder is touched
    if done.epoch >= options.epochs:
        raise FacegenError(f"{folder}: all {options.epochs} epochs are done; give more --epochs to continue")
    if done.step * options.batch > options.pairs:
        raise FacegenError(f"{path}: is at batch {done.step}, but an epoch of {options.pairs} pairs has fewer")
    if done.trained_for not in ("", header[ENTRY]["sha256"]):
        raise FacegenError(
            f"{options.generator}: not the generator that {folder} began with: give that one with --network"
        )
    session.resume(folder, done.epoch, options, notes)
    if not done.trained_for:
        session.log("warning: a run of an older version, which does not identify its generator by content")
    session.log(f"resuming at epoch {done.epoch + 1}, batch {done.step + 1}")
    return saved


def _with_absolute_paths(options: EncoderOptions) -> EncoderOptions:
    """The options with the very files that they mean now, whatever is published or made later."""

    def absolute(path: str | None) -> str | None:
        return None if path is None else str(Path(path).resolve())

    return replace(
        options,
        generator=str(locate(options.generator).resolve()),
        recipe=options.recipe_name(),
        data=absolute(options.data),
        age_estimator=None if options.age_estimator is None else str(locate(options.age_estimator).resolve()),
        face_network=absolute(options.face_network),
    )


def build_objective(options: EncoderOptions, progress: bool) -> tuple[EncoderObjective, Header]:
    """Build the networks of a run, the encoder untrained; return also what the generator's file says of it."""
    generator, header = load_generator(options.generator)
    header = Header({**header, ENTRY: name_generator(generator, locate(options.generator))})
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
        identity_loss = IdentityLoss(load_face_network(weights), template, generator.img_resolution)
    sex_classifier: SexClassifier | None = None
    if recipe.target != "z" and not why_not_judged(generator, header.template):
        sex_classifier, _ = load_sex_classifier(shipped_file("sex"))
    ages = middle_ages(generator, header)
    objective = EncoderObjective(
        encoder, generator, recipe, ages, estimator, identity_loss, psi=options.psi, sex_classifier=sex_classifier
    )
    return objective, header


def _hold_sex(session: Session, objective: EncoderObjective, header: Header) -> None:
    """Teach the age shift of a new run to hold the sex; a line of the log says why it cannot."""
    if objective.shift is None:
        return
    reason = why_not_judged(objective.generator, header.template)
    if objective.sex_classifier is not None:
        try:
            with status("measuring how women and men differ in w ...", session.progress):
                found = sex_direction(objective.generator, objective.sex_classifier)
            objective.shift = objective.shift.holding("sex", *found)
        except ValueError as error:
            reason = str(error)
    if reason:
        session.log(f"aging will not hold the sex: {reason}")


def _start_from(objective: EncoderObjective, init: str) -> None:
    """Start from trained weights: `load_trunk`, and the age shift where the file has one for such a generator."""
    load_trunk(objective.encoder, init)
    if objective.shift is None or Path(init).suffix != ".safetensors":
        return
    with open_safetensors(init) as file:
        table = file.tensor("age_shift.table").float() if "age_shift.table" in file.entries else None
    if table is not None and table.shape == objective.shift.table.shape:
        with torch.no_grad():
            objective.shift.table.copy_(table)


def _build(
    session: Session, options: EncoderOptions, objective: EncoderObjective, header: Header
) -> tuple[TrainingState, FaceData]:
    """Generate the pairs, and put together what learns from them."""
    objective.bf16 = options.bf16 or trains_in_bfloat16(session.device, options.fp32)
    for network in (objective.encoder, objective.generator, objective.identity_loss):
        if network is not None:
            network.to(memory_format=torch.channels_last)
    # By the generator as it was, before any tuning.
    data = load_data(options, objective.generator, header, session.device, session.progress)
    distributed.broadcast(list(objective.learning().values()))
    progress = Progress(trained_for=header[ENTRY]["sha256"])
    average = WeightAverage(objective)  # of one process, so before batch normalization is shared
    if distributed.world_size() > 1:
        share_batch_norm(objective.encoder)
    return TrainingState(objective, average, objective.optimizer(options.lr), progress), data


def _train(session: Session, options: EncoderOptions, state: TrainingState, data: FaceData, header: Header) -> None:
    """Train to the last epoch, or until somebody asks to stop."""
    objective = state.objective
    _describe(session, options, objective, data)
    progress = state.progress
    with session.interruptible():
        while progress.epoch < options.epochs:
            started = time.perf_counter()
            if not _train_epoch(session, options, state, data):
                session.save(STATE, state.parts)
                return session.stop()
            distributed.check_equal(objective.learning())
            losses = distributed.on_main(
                lambda: validate_average(state.average, data, options, progress.epoch, session.device)
            )
            measured = {"train_loss": progress.loss_sum / progress.step, "mean_baseline": data.baseline}
            measured |= {VALIDATED.get(name, f"val_{name}"): loss for name, loss in losses.items()}
            measured |= {"lr": options.lr_at(progress.epoch), "seconds": time.perf_counter() - started}
            progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
            _report(session, options, state, header, losses, measured)
            session.save(STATE, state.parts)
    if distributed.is_main():
        for name, network in read_networks(session.path / BEST)[0].items():
            objective.trained()[name].load_state_dict(network.state_dict())
        picture = session.path / "reconstructions.png"
        save_reconstructions(picture, objective, data, header.get("groups") or None)
        session.show("reconstructions", progress.epoch, picture)
    session.finish(
        f"done: best validation loss {progress.best:.4f} in {session.path / BEST}; look at reconstructions.png"
    )


def _train_epoch(session: Session, options: EncoderOptions, state: TrainingState, data: FaceData) -> bool:
    """Train over the rest of the epoch under way; return False when asked to stop before its end."""
    state.objective.train()
    progress = state.progress
    batches = list(epoch_batches(len(data.training), options, progress.epoch, data))
    bar = tqdm(
        total=len(batches),
        initial=progress.step,
        desc=f"epoch {progress.epoch + 1}/{options.epochs}",
        disable=not session.progress,
        leave=False,
    )
    with bar:
        for batch in batches[progress.step :]:
            if session.should_stop():
                return False
            steps = progress.epoch * len(batches) + progress.step
            loss = train_step(state, batch, data, options.lr_at(progress.epoch, steps))
            if not math.isfinite(loss):
                kept = f"the last good encoder is {session.path / BEST}" if progress.epoch else "no epoch was finished"
                raise FacegenError(
                    f"the loss became {loss} in epoch {progress.epoch + 1}, batch {progress.step + 1}: start again "
                    f"with --lr below {options.lr:g}; {kept}"
                )
            state.average.update(steps + 1)
            progress.step += 1
            progress.loss_sum += loss
            bar.set_postfix(loss=f"{progress.loss_sum / progress.step:.4f}", refresh=False)
            bar.update()
    return True


def train_step(state: TrainingState, batch: Batch, data: FaceData, lr: float) -> float:
    """Train on one batch, or this process's share of it; return the loss of the whole batch."""
    objective, optimizer = state.objective, state.optimizer
    parameters = objective.parameters_to_train()
    for group in optimizer.param_groups:
        group["lr"] = group["share"] * lr
    faces, target_ages = batch.mine(data, parameters[0].device)
    losses = objective(faces, target_ages)
    loss = losses["loss"]
    optimizer.zero_grad(set_to_none=True)
    (loss + losses.get("latent_discriminator", 0)).backward()  # neither reaches what the other is for
    loss = loss.detach().clone()
    distributed.average([*(p.grad for p in parameters if p.grad is not None), loss])
    optimizer.step()
    return loss.item()


def _describe(session: Session, options: EncoderOptions, objective: EncoderObjective, data: FaceData) -> None:
    generator = objective.generator
    size = sum(parameter.numel() for parameter in objective.encoder.parameters())
    half = torch.bfloat16 if objective.bf16 else None
    session.log(f"run folder: {session.path}")
    session.log(
        f"generator: {options.generator} ({generator.img_resolution} px, z {generator.z_dim}, {session.device})"
    )
    session.log(f"encoder: {size / 1e6:.1f} M parameters, blocks {options.blocks}, input {options.input_size} px")
    session.log(f"precision: {precision_in_words(half, session.device, options.fp32)}")
    session.log(f"recipe: {options.recipe} ({_in_words(objective.recipe)})")
    session.log(
        f"{len(data.training)} pairs to train on, {len(data.validation)} to validate; "
        f"predicting the mean: MSE {data.baseline:.3f}"
    )
    if data.real_training is not None and data.real_validation is not None:
        session.log(f"{len(data.real_training)} real faces to train on, {len(data.real_validation)} to validate")


def _in_words(recipe: Recipe) -> str:
    """A recipe's target and losses, as `w+; latent 0.1, pixels 4`."""
    losses = {name: value for name, value in asdict(recipe).items() if name != "target" and value}
    return f"{recipe.target}; {', '.join(f'{name} {value:g}' for name, value in losses.items())}"


def _pictures_in_words(losses: Mapping[str, float]) -> str:
    return "".join(
        f"{name} {losses[name]:.4f}  "
        for name in ("pixels", "features", "perceptual", "identity", "age", "sex", "adversarial")
        if name in losses
    )


def _report(
    session: Session,
    options: EncoderOptions,
    state: TrainingState,
    header: Header,
    losses: Mapping[str, float],
    measured: Mapping[str, float],
) -> None:
    """Write the numbers of an epoch, its weights and the curves, and keep the best."""
    progress = state.progress
    if better := losses["loss"] < progress.best:  # never by a loss that is no number
        progress.best = losses["loss"]
    left = measured["seconds"] * (options.epochs - progress.epoch)
    session.report(
        progress.epoch,
        measured,
        f"epoch {progress.epoch}/{options.epochs}  training {measured['train_loss']:.4f}  "
        f"validation {losses['loss']:.4f}  MSE {losses['mse']:.4f} (mean: {measured['mean_baseline']:.3f})  "
        f"cosine {losses['cosine_similarity']:.4f}  {_pictures_in_words(losses)}lr {measured['lr']:.1e}  "
        f"{measured['seconds']:.0f} s  ETA {left / 60:.1f} min{'  best' if better else ''}",
    )
    if not distributed.is_main():
        return
    metadata = _metadata(header, options, progress.epoch, losses)
    networks = state.average.objective.trained()
    save_networks(session.path / f"encoder-epoch{progress.epoch:03d}.safetensors", networks, metadata)
    if better:
        save_networks(session.path / BEST, networks, metadata)
    session.plot(
        {
            "training": "train_loss",
            "validation": "val_loss",
            "MSE (validation)": "val_mse",
            "cosine (validation)": "val_cosine",
        },
        xlabel="epoch",
        ylabel="loss, MSE of the latent, cosine",
        title="encoder",
        baselines={"predict the mean": measured["mean_baseline"]},
    )


def _metadata(header: Header, options: EncoderOptions, epoch: int, losses: Mapping[str, float]) -> dict[str, Any]:
    """What an encoder file says of itself; groups, template and license are its generator's."""
    inherited = {key: header[key] for key in INHERITED if key in header}
    measured = {VALIDATED.get(name, f"val_{name}"): round(loss, 5) for name, loss in losses.items()}
    return without_paths({**inherited, "epoch": epoch, **measured, "training_options": options.to_json()})
