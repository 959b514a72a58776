"""Training the encoder: generated faces in, their latents out, mean squared error."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from facegen import figures
from facegen.device import pick_device
from facegen.errors import FacegenError
from facegen.latents.decode import decode_latents, group_means
from facegen.networks.encoder import Encoder, load_trunk
from facegen.training import distributed
from facegen.training.batch_norm import share_batch_norm
from facegen.training.interrupt import StopRequest
from facegen.training.pairs import Pairs, generate_pairs, one_hot, to_float
from facegen.training.run_folder import OPTIONS, RunFolder, read_stats, save_state
from facegen.weights.load import load_encoder, load_generator
from facegen.weights.locate import locate
from facegen.weights.native import save_networks
from torch_utils.cpu_memory import keep_freed_memory

STATE = "encoder-state.pt"
BEST = "encoder-best.safetensors"
TRAINING_SHARE = 0.8  # of the pairs; the rest validates


@dataclass(frozen=True)
class EncoderOptions:
    """What a run is made of. `lr` falls to `lr_decay` of itself after every `lr_step` epochs."""

    generator: str
    pairs: int = 10000
    epochs: int = 8
    batch: int = 32
    lr: float = 1e-3
    lr_step: int = 3
    lr_decay: float = 0.3
    init: str = "vggface2"
    blocks: tuple[int, int, int] = (5, 10, 5)
    input_size: int = 96
    psi: float = 1.0
    seed: int = 0

    def check(self) -> None:
        """Raise a FacegenError that names the first impossible value."""
        for name in ("epochs", "batch", "lr", "lr_step", "lr_decay"):
            if not getattr(self, name) > 0:
                raise FacegenError(f"{name} must be above 0, got {getattr(self, name)}")
        if not math.isfinite(self.psi):
            raise FacegenError(f"psi must be a finite number, got {self.psi}")
        if self.batch < 2:
            raise FacegenError(f"batch must be at least 2 (batch normalisation), got {self.batch}")
        if self.pairs * TRAINING_SHARE < self.batch:
            raise FacegenError(
                f"{self.pairs} pairs less a fifth make no batch of {self.batch}: give more pairs or a smaller batch"
            )

    def check_processes(self, processes: int) -> None:
        """Raise a FacegenError if so many processes cannot share a batch."""
        if self.batch % processes:
            raise FacegenError(
                f"a batch of {self.batch} cannot be shared by {processes} processes: choose another --batch"
            )

    def lr_at(self, epoch: int) -> float:
        """Learning rate in an epoch, counted from 0."""
        return self.lr * self.lr_decay ** (epoch // self.lr_step)


@dataclass
class TrainingState:
    """Where a run stands; with the networks and the optimiser all that it takes to go on."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished batches of the epoch under way
    loss_sum: float = 0.0  # over those batches
    best: float = math.inf  # lowest validation MSE so far


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
    options.check()
    with distributed.session(pick_device(device)) as chosen:
        options.check_processes(distributed.world_size())
        source = locate(options.generator).resolve()  # from now on the very file, whatever is published later
        generator, header = load_generator(source)
        torch.manual_seed(options.seed)
        encoder = _new_encoder(options, generator)
        load_trunk(encoder, options.init)
        options = replace(options, generator=str(source))
        name = f"encoder-{source.stem}-{options.pairs}pairs"
        with distributed.open_folder(lambda: RunFolder.create(outdir, name)) as run:
            run.write_json(OPTIONS, asdict(options))
            _run(run, options, generator, header, encoder, TrainingState(), None, chosen, progress)
    return run.path


def resume_encoder(
    folder: str | os.PathLike[str],
    *,
    epochs: int | None = None,
    generator: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Go on with the run in `folder` exactly where its state file stands, with the options of that run.

    Args:
        epochs: Train up to this many epochs in all instead of the run's own number.
        generator: Where the generator is now, if it was moved.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder")
    wanted = pick_device(device)
    options = _read_options(folder)
    options = replace(options, epochs=epochs or options.epochs, generator=generator or options.generator)
    options.check()
    try:
        saved = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        state = TrainingState(**saved["training"])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder}: no {STATE} to go on from; start a new run") from error
    except Exception as error:  # a damaged file: unpickling has many kinds of errors
        raise FacegenError(f"{folder / STATE}: damaged, start a new run ({type(error).__name__})") from error
    if state.epoch >= options.epochs:
        raise FacegenError(f"{folder}: all {options.epochs} epochs are done; give more --epochs to go on")
    with distributed.session(wanted) as chosen:
        options.check_processes(distributed.world_size())
        network, header = load_generator(options.generator)
        encoder = _new_encoder(options, network)
        encoder.load_state_dict(saved["encoder"])
        with distributed.open_folder(lambda: RunFolder.open(folder, last_step=state.epoch)) as run:
            run.write_json(OPTIONS, asdict(options))
            run.log(f"resuming at epoch {state.epoch + 1}, batch {state.step + 1}")
            _run(run, options, network, header, encoder, state, saved["optimizer"], chosen, progress)
    return run.path


def validate(encoder: nn.Module, pairs: Pairs, batch: int = 64) -> tuple[float, float]:
    """Mean squared error of z, and the mean cosine between predicted and true z. The encoder is set to evaluation."""
    encoder.eval()
    device = next(encoder.parameters()).device
    squared = cosine = 0.0
    with torch.no_grad():
        for images, z in zip(pairs.images.split(batch), pairs.z.split(batch), strict=True):
            z = z.to(device)
            predicted = encoder(to_float(images.to(device)))
            squared += float((predicted - z).square().mean(dim=1).sum())
            cosine += float(functional.cosine_similarity(predicted, z).sum())
    return squared / len(pairs), cosine / len(pairs)


def mean_baseline(training: Pairs, validation: Pairs) -> float:
    """The error of predicting the mean training z for every face: 1 but for chance. An encoder must beat it."""
    return float((validation.z - training.z.mean(dim=0)).square().mean())


def save_reconstructions(
    path: str | os.PathLike[str],
    generator: nn.Module,
    encoder: nn.Module,
    pairs: Pairs,
    labels: list[str] | None = None,
) -> Path:
    """Draw generated faces over what the generator makes of their encoded z (same class, constant noise).

    One column per class, four rows: two faces of each class. `labels` names the classes.
    """
    columns = max(generator.c_dim, 1) if generator.c_dim else 8
    chosen: list[int] = []
    for turn in range(2):
        for column in range(columns):
            of_class = torch.nonzero(pairs.classes == column).flatten() if generator.c_dim else torch.arange(len(pairs))
            if len(of_class) == 0:
                of_class = torch.arange(len(pairs))  # too few pairs for every class: any face
            chosen.append(int(of_class[(turn if generator.c_dim else turn * columns + column) % len(of_class)]))
    encoder.eval()
    device = next(encoder.parameters()).device
    faces, classes = pairs.images[chosen], pairs.classes[chosen]
    with torch.no_grad():
        z = encoder(to_float(faces.to(device)))
    again = decode_latents(generator, z, one_hot(classes, generator.c_dim).to(device), group_means(generator))
    inputs = figures.to_uint8(to_float(faces))
    outputs = figures.to_uint8(again.expand(-1, 3, -1, -1))
    rows = [inputs[:columns], outputs[:columns], inputs[columns:], outputs[columns:]]
    return figures.save_image_grid(
        [image for row in rows for image in row],
        path,
        columns,
        column_labels=labels if labels and len(labels) == columns else None,
        row_labels=["generated", "encoded"] * 2,
    )


def _run(
    run: RunFolder,
    options: EncoderOptions,
    generator: nn.Module,
    header: Mapping[str, Any],
    encoder: Encoder,
    state: TrainingState,
    optimizer_state: dict[str, Any] | None,
    device: torch.device,
    progress: bool,
) -> None:
    """Generate the pairs, train to the last epoch, report."""
    keep_freed_memory()
    main = distributed.is_main()
    progress = progress and main
    generator.to(device)
    encoder.to(device, memory_format=torch.channels_last)
    distributed.broadcast([encoder])
    if distributed.world_size() > 1:
        share_batch_norm(encoder)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=options.lr)
    if optimizer_state is not None:
        optimizer.load_state_dict(optimizer_state)

    run.log(f"run folder: {run.path}")
    run.log(f"generator: {options.generator} ({generator.img_resolution} px, z {generator.z_dim}, {device})")
    size = sum(parameter.numel() for parameter in encoder.parameters())
    run.log(f"encoder: {size / 1e6:.1f} M parameters, blocks {options.blocks}, input {options.input_size} px")
    pairs = generate_pairs(
        generator,
        options.pairs,
        seed=options.seed,
        psi=options.psi,
        max_size=max(options.input_size, figures.MIN_TILE),
        device=device,
        progress=progress,
    )
    training, validation = pairs.split(TRAINING_SHARE)
    baseline = mean_baseline(training, validation)
    run.log(
        f"{len(training)} pairs to train on, {len(validation)} to validate; predicting the mean: MSE {baseline:.3f}"
    )

    agree = distributed.Agreement(2)
    with StopRequest() as stop:
        while state.epoch < options.epochs:
            started = time.time()
            train_mse = _train_epoch(encoder, optimizer, training, options, state, stop, run, progress, agree)
            if train_mse is None:
                if main:
                    _save_state(run, encoder, optimizer, state)
                run.log(f"stopped; go on with: facegen train-encoder --resume {run.path}")
                stop.leave()
                return
            distributed.check_equal({"the encoder": encoder})
            mse, cosine = distributed.on_main(lambda: validate(encoder, validation))
            state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
            better, state.best = mse < state.best, min(mse, state.best)
            epoch_seconds = time.time() - started
            values = {"train_mse": train_mse, "val_mse": mse, "val_cosine": cosine, "mean_baseline": baseline}
            values |= {"lr": options.lr_at(state.epoch - 1), "seconds": epoch_seconds}
            run.stats(state.epoch, values)
            left = epoch_seconds * (options.epochs - state.epoch)
            run.log(
                f"epoch {state.epoch}/{options.epochs}  train MSE {train_mse:.4f}  val MSE {mse:.4f} "
                f"(mean: {baseline:.3f})  cosine {cosine:.4f}  lr {values['lr']:.1e}  {epoch_seconds:.0f} s  "
                f"ETA {left / 60:.1f} min{'  best' if better else ''}"
            )
            if not main:
                continue
            metadata = _metadata(header, options, state.epoch, mse, cosine)
            save_networks(run.path / f"encoder-epoch{state.epoch:03d}.safetensors", {"encoder": encoder}, metadata)
            if better:
                save_networks(run.path / BEST, {"encoder": encoder}, metadata)
            _save_state(run, encoder, optimizer, state)
            _plot(run.path)

    agree.close()
    if not main:
        return
    best, _ = load_encoder(run.path / BEST)
    save_reconstructions(
        run.path / "reconstructions.png", generator, best.to(device), validation, header.get("groups") or None
    )
    run.finished = True
    run.log(f"done: best validation MSE {state.best:.4f} in {run.path / BEST}; look at reconstructions.png")


def _train_epoch(
    encoder: Encoder,
    optimizer: torch.optim.Optimizer,
    pairs: Pairs,
    options: EncoderOptions,
    state: TrainingState,
    stop: StopRequest,
    run: RunFolder,
    progress: bool,
    agree: distributed.Agreement | None = None,
) -> float | None:
    """Train over the rest of the epoch under way; the mean loss, or None when asked to stop before its end."""
    device = next(encoder.parameters()).device
    agree = agree or distributed.Agreement(2)
    encoder.train()
    for group in optimizer.param_groups:
        group["lr"] = options.lr_at(state.epoch)
    batches = list(_batches(len(pairs), options.batch, seed=options.seed, epoch=state.epoch))
    description = f"epoch {state.epoch + 1}/{options.epochs}"
    with tqdm(total=len(batches), initial=state.step, desc=description, disable=not progress, leave=False) as bar:
        for batch in batches[state.step :]:
            indices = batch[distributed.rank() :: distributed.world_size()]
            images = to_float(pairs.images[indices].to(device)).contiguous(memory_format=torch.channels_last)
            loss = functional.mse_loss(encoder(images), pairs.z[indices].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            loss = loss.detach().clone()
            distributed.average([*(p.grad for p in encoder.parameters() if p.grad is not None), loss])
            value = loss.item()
            if not math.isfinite(value):
                kept = f"the last good encoder is {run.path / BEST}" if state.epoch else "no epoch was finished"
                raise FacegenError(
                    f"the loss became {value} in epoch {state.epoch + 1}, batch {state.step + 1}: start again with a "
                    f"lower --lr than {options.lr:g}; {kept}"
                )
            optimizer.step()
            state.step += 1
            state.loss_sum += value
            bar.set_postfix(mse=f"{state.loss_sum / state.step:.4f}", refresh=False)
            bar.update()
            stopping, preempted = agree(stop.requested, stop.preempted)
            stop.preempted = stop.preempted or preempted
            if stopping and state.step < len(batches):
                return None
    return state.loss_sum / len(batches)


def _batches(count: int, batch: int, *, seed: int, epoch: int) -> Iterator[torch.Tensor]:
    """Shuffled indices; the same for the same seed and epoch, so that a resumed epoch goes on where it was.

    The last, incomplete batch is left out: batch normalisation wants full ones.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
    for start in range(0, count - batch + 1, batch):
        yield order[start : start + batch]


def _new_encoder(options: EncoderOptions, generator: nn.Module) -> Encoder:
    return Encoder(generator.z_dim, generator.img_resolution, options.input_size, options.blocks)


def _metadata(
    header: Mapping[str, Any], options: EncoderOptions, epoch: int, mse: float, cosine: float
) -> dict[str, Any]:
    """What an encoder file says of itself; groups, template and licence are its generator's."""
    inherited = {key: header[key] for key in ("groups", "template", "license", "resolution") if key in header}
    measured = {"epoch": epoch, "val_mse": round(mse, 5), "val_cosine": round(cosine, 5)}
    training = {**asdict(options), "generator": Path(options.generator).name}  # no private path in a shared file
    return {**inherited, **measured, "training_options": training}


def _save_state(run: RunFolder, encoder: Encoder, optimizer: torch.optim.Optimizer, state: TrainingState) -> None:
    saved = {"encoder": encoder.state_dict(), "optimizer": optimizer.state_dict(), "training": asdict(state)}
    save_state(run.path / STATE, saved)


def _read_options(folder: Path) -> EncoderOptions:
    try:
        fields = json.loads((folder / OPTIONS).read_text(encoding="utf-8"))
        return EncoderOptions(**{**fields, "blocks": tuple(fields["blocks"])})
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder}: no {OPTIONS} here, so no run to go on with") from error
    except (ValueError, TypeError, KeyError) as error:
        raise FacegenError(f"{folder / OPTIONS}: not the options of an encoder run ({error})") from error


def _plot(folder: Path) -> None:
    lines = read_stats(folder)
    epochs = [line["step"] for line in lines]
    figures.plot_curves(
        folder / "curve.png",
        {
            "training": (epochs, [line["train_mse"] for line in lines]),
            "validation": (epochs, [line["val_mse"] for line in lines]),
            "cosine (validation)": (epochs, [line["val_cosine"] for line in lines]),
        },
        xlabel="epoch",
        ylabel="MSE of z, cosine",
        title="encoder",
        baselines={"predict the mean": lines[-1]["mean_baseline"]},
    )
