"""Training the editor: real faces of known ages, and pairs that a generator draws."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from tqdm import tqdm

from facegen.data.archive import FaceArchive
from facegen.device import precision_in_words, trains_in_bfloat16
from facegen.errors import FacegenError
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.networks.age_shift import AgeShift, group_mean_shift
from facegen.networks.editor import Editor
from facegen.networks.latents import group_means
from facegen.networks.patch_discriminator import PatchDiscriminator
from facegen.status import status
from facegen.training.age.data import note_of_faces
from facegen.training.editor.data import RealFaces, Teacher, draw_batch, load_real_faces
from facegen.training.editor.losses import (
    WEIGHTS,
    Judges,
    LossSums,
    discriminator_losses,
    editor_losses,
    load_judges,
    r1_loss,
)
from facegen.training.editor.options import NO_NETWORK, EditorOptions
from facegen.training.editor.validation import save_edits, validate
from facegen.training.encoder.data import groups_of, middle_ages
from facegen.training.encoder.sex_direction import sex_direction, why_not_judged
from facegen.training.encoder.weight_average import floats_of, move_average
from facegen.training.run import distributed
from facegen.training.run.check_state import as_dict
from facegen.training.run.folder import check_goes_on, check_room, read_state
from facegen.training.run.session import Session, load_state
from facegen.weights.header import Header, without_paths
from facegen.weights.load import load_editor, load_generator, load_sex_classifier, read_networks
from facegen.weights.locate import BEST_EDITOR, locate, shipped_file
from facegen.weights.native import save_networks
from facegen.weights.trained_for import ENTRY, are_alike, check_trained_for, name_generator

STATE = "editor-state.pt"
PICTURE = "edits.png"
INHERITED = ("groups", "class_names", "template", "license", ENTRY)  # of what the generator's file says
FASTER = 2.0  # learning rate of the discriminator, in the editor's: Heusel et al. 2017
CLIP = 5.0  # norm of a step's gradient, at most


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0  # finished batches
    seconds: float = 0.0  # spent training since the last snapshot


@dataclass
class TrainingState:
    """All that a step changes."""

    editor: Editor
    average: Editor  # average of the weights over the last steps: what is kept
    discriminator: PatchDiscriminator
    editor_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    progress: Progress
    sums: LossSums  # since the last snapshot
    shift: AgeShift  # how ages differ in the w of the generator; it stays

    PARTS: ClassVar = ("editor", "average", "discriminator", "optimizers", "training", "losses", "shift")

    @property
    def parts(self) -> dict[str, Any]:
        """What the state file holds: `PARTS`."""
        return {
            "editor": self.editor,
            "average": self.average,
            "discriminator": self.discriminator,
            "optimizers": {"editor": self.editor_optimizer, "discriminator": self.discriminator_optimizer},
            "training": self.progress,
            "losses": self.sums,
            "shift": self.shift,
        }


def train_editor(
    options: EditorOptions,
    outdir: str | os.PathLike[str] = "runs",
    *,
    device: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Path:
    """Train an editor in a new run folder, or continue a run, and return the folder.

    Ctrl-C saves the state and ends the run early. So does SIGTERM, which ends the process with exit code 75.

    Args:
        options: what to train on, and how. A continued run keeps its own options (`read_options` returns them), except
            those that `facegen train-editor --resume` may change, such as `kimg`.
        outdir: where the folder `<number>-editor-<archive>` of a new run is made.
        device: None uses a GPU if there is one.
        resume: the folder of a run to continue exactly from its saved state; None starts a new run.
        progress: show progress bars.

    Raises:
        FileNotFoundError, FacegenError: a file or the run is missing, damaged or does not fit the options, there is
            nothing left to do, or a loss is no longer a number.
    """
    with Session("train-editor", device, progress) as session:
        if distributed.world_size() > 1:
            raise FacegenError("an editor can only be trained by one process: start it without torchrun")
        options, saved = _with_absolute_paths(options, is_new=resume is None), None
        archive = FaceArchive(options.data, use_labels=False)
        options.check_size(archive.resolution)
        if resume is not None:
            check_goes_on(resume, options)
            check_room(lambda: [build_editor(options)], Path(resume) / STATE)
            saved = read_state(Path(resume) / STATE, list(TrainingState.PARTS))
        teacher, header = load_teacher(options, archive, saved, session)
        template = header.template or UTKFACE_TEMPLATE
        judges = load_judges(options, archive.resolution, template, session.progress).to(session.device)
        init = load_editor(options.init)[0] if options.init is not None and resume is None else None
        faces, held = load_real_faces(archive, options.balance, progress=session.progress).split()
        state = build(options, session.device, teacher, faces.youngest_and_oldest(), init)
        notes = {"data": note_of_faces(options.data)}
        if resume is not None and saved is not None:
            load_state(state.parts, saved, Path(resume) / STATE)
            if state.progress.step >= options.steps:
                raise FacegenError(f"{resume}: all {options.kimg:g} kimg are done; give a larger --kimg to continue")
            done = state.progress.step * options.batch / 1000
            session.resume(resume, done, options, notes)
            session.log(f"resuming at {done:.2f} kimg")
        else:
            session.create(outdir, options.run_name(), options, notes)
        _train(session, options, state, faces, held, teacher, judges, header)
    return session.path


def load_teacher(
    options: EditorOptions, archive: FaceArchive, saved: Mapping[str, Any] | None, session: Session
) -> tuple[Teacher, Header]:
    """Load what draws pairs beside the faces of an archive, and return what the generator's file says of it.

    Where the generator's file does not say how its faces are aligned, the archive does.

    Args:
        saved: the state of a continued run, which says how ages differ in w; None measures it.

    Raises:
        FileNotFoundError, FacegenError: no generator of age groups, one of faces that are aligned otherwise, or an
            encoder of another one.
    """
    path = shipped_file("generator") if options.generator is None else locate(options.generator)
    encoder = options.encoder
    if options.generator is None and encoder is None:
        encoder = str(shipped_file("encoder"))
    generator, header = load_generator(path)
    groups_of(generator, header)  # complains of a generator without
    if archive.template is not None:
        template = archive.template
        if header.template is not None and not are_alike(template, header.template):
            raise FacegenError(f"{archive.path}: its faces are aligned differently from those of the generator {path}")
        header = Header({**header, "template": template.to_json()})
    middles = middle_ages(generator, header)
    shift = group_mean_shift(group_means(generator), generator.num_ws, middles)
    if encoder is not None:
        networks, about = read_networks(encoder)
        check_trained_for(generator, locate(encoder), networks, about, str(path))
        found = networks.get("age_shift")
        if not isinstance(found, AgeShift):
            raise FacegenError(f"{encoder}: this encoder does not say how ages differ in w: leave it out")
        shift = found
    elif saved is not None and "normals" in as_dict(saved["shift"], f"{STATE}: shift"):
        shift = shift.holding("sex", torch.zeros(shift.w_dim), torch.zeros(shift.w_dim))  # the state says what it is
    elif saved is None and not why_not_judged(generator, header.template):
        looking = status("measuring how women and men differ in w ...", session.progress)
        with looking, suppress(ValueError):  # groups without women, or without men
            shift = shift.holding("sex", *sex_direction(generator, load_sex_classifier(shipped_file("sex"))[0]))
    return Teacher(generator, shift, archive.resolution), Header({**header, ENTRY: name_generator(generator, path)})


def build_editor(options: EditorOptions, ages: tuple[float, float] = (0.0, 100.0)) -> Editor:
    """Build the network of a new run, for faces from the youngest to the oldest of these ages."""
    return Editor(options.widths, inner_size=options.inner_size, ages=ages)


def build(
    options: EditorOptions,
    device: torch.device,
    teacher: Teacher,
    ages: tuple[float, float],
    init: Editor | None = None,
) -> TrainingState:
    """Build the networks and the optimizers of a new run; `init` is an editor to start from."""
    torch.manual_seed(options.seed)
    editor = build_editor(options, ages)
    if init is not None:
        shapes = [{**network.init_kwargs, "ages": None} for network in (init, editor)]
        if shapes[0] != shapes[1]:
            raise FacegenError(f"{options.init}: this editor has another shape: give the same --widths")
        editor.load_state_dict(init.state_dict())
    discriminator = PatchDiscriminator()
    for network in (editor, discriminator):
        network.to(device).to(memory_format=torch.channels_last)
    teacher.generator.to(device)
    teacher.shift.to(device)
    average = copy.deepcopy(editor).requires_grad_(False)
    return TrainingState(
        editor,
        average,
        discriminator,
        torch.optim.Adam(editor.parameters(), lr=options.lr, betas=(0.5, 0.99)),
        torch.optim.Adam(discriminator.parameters(), lr=options.lr, betas=(0.0, 0.99)),
        Progress(),
        LossSums(),
        teacher.shift,
    )


def train_step(
    state: TrainingState, faces: RealFaces, teacher: Teacher, judges: Judges, options: EditorOptions
) -> dict[str, float]:
    """Train on one batch and return the losses by name.

    The batch depends on the seed and the step alone, so that a resumed run continues as if it had never stopped.
    """
    step, device = state.progress.step, next(state.editor.parameters()).device
    batch, random = draw_batch(faces, teacher, options, step, device)
    editor, discriminator = state.editor, state.discriminator
    half = torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(options, device))
    discriminator.requires_grad_(False)
    with half:
        losses, edited = editor_losses(editor, discriminator, judges, batch, random)
    _move(state.editor_optimizer, editor, losses["loss"], options.lr_at(step))
    discriminator.requires_grad_(True)
    with half:
        judged = discriminator_losses(discriminator, judges, batch, edited.detach())
    loss = judged["loss"]
    if step % WEIGHTS.r1_interval == 0:
        loss = loss + r1_loss(discriminator, judges, batch)  # in float32, as on GPUs
    _move(state.discriminator_optimizer, discriminator, loss, FASTER * options.lr_at(step))
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    values |= {"discriminator": loss.item(), "fake": judged["fake"].item(), "wrong": judged["wrong"].item()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise FacegenError(
                f"the loss {name} became {value} in step {step + 1}: start again with --lr below {options.lr:g}"
            )
    return values


def _move(optimizer: torch.optim.Optimizer, network: nn.Module, loss: torch.Tensor, lr: float) -> None:
    """One step of a network down a loss."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()


def in_bfloat16(options: EditorOptions, device: torch.device) -> bool:
    """Whether a run computes in bfloat16."""
    return options.bf16 or trains_in_bfloat16(device, options.fp32)


def _with_absolute_paths(options: EditorOptions, *, is_new: bool) -> EditorOptions:
    """The options with the very files that they mean now, whatever is published or made later.

    What a run started from is needed by a new one alone.
    """

    def found(reference: str | None) -> str | None:
        return None if reference is None else str(locate(reference).resolve())

    estimators = options.age_estimators
    return replace(
        options,
        data=str(Path(options.data).resolve()),
        generator=found(options.generator),
        encoder=found(options.encoder),
        init=found(options.init) if is_new else options.init,
        age_estimators=None if estimators is None else tuple(str(found(name)) for name in estimators),
        face_network=options.face_network
        if options.face_network in (None, NO_NETWORK)
        else str(Path(str(options.face_network)).resolve()),
    )


def _train(
    session: Session,
    options: EditorOptions,
    state: TrainingState,
    faces: RealFaces,
    held: RealFaces,
    teacher: Teacher,
    judges: Judges,
    header: Header,
) -> None:
    """Train to the last step, with a snapshot now and then, or until somebody asks to stop."""
    _describe(session, options, state, faces, judges)
    averaged, current = floats_of([state.average]), floats_of([state.editor])
    progress = state.progress
    bar = tqdm(total=options.steps * options.batch, initial=progress.step * options.batch, unit="face", desc="editor",
               disable=not session.progress, leave=False)  # fmt: skip
    with session.interruptible(), bar:
        while progress.step < options.steps:
            if session.should_stop():
                session.save(STATE, state.parts)
                return session.stop()
            started = time.perf_counter()
            losses = train_step(state, faces, teacher, judges, options)
            move_average(averaged, current, progress.step, options.ema)
            progress.step += 1
            progress.seconds += time.perf_counter() - started
            state.sums.add(losses)
            bar.set_postfix(loss=f"{state.sums.loss / state.sums.steps:.3f}", refresh=False)
            bar.update(options.batch)
            if progress.step % options.steps_per_snap == 0 or progress.step == options.steps:
                _snapshot(session, options, state, held, judges, header)
                progress.seconds, state.sums = 0.0, LossSums()
                session.save(STATE, state.parts)
    session.finish(f"done: {session.path / BEST_EDITOR}; look at {PICTURE}")


def _describe(session: Session, options: EditorOptions, state: TrainingState, faces: RealFaces, judges: Judges) -> None:
    sizes = [sum(p.numel() for p in network.parameters()) / 1e6 for network in (state.editor, state.discriminator)]
    half = torch.bfloat16 if in_bfloat16(options, session.device) else None
    session.log(f"run folder: {session.path}")
    session.log(f"editor: {sizes[0]:.2f} M parameters, discriminator {sizes[1]:.2f} M, {session.device}")
    session.log(f"precision: {precision_in_words(half, session.device, options.fp32)}")
    keeps = ["the sex"] * (judges.sex is not None) + ["the identity"] * (judges.identity is not None)
    session.log(f"{len(faces)} faces of {faces.images.shape[-1]} pixels; {len(judges.estimators)} age estimators")
    session.log(f"pairs: {options.generated:.0%} of a batch{', sex held' if state.shift.holds else ''}")
    session.log(f"losses keep {' and '.join(keeps) or 'only what the photo shows'}")


def _snapshot(
    session: Session,
    options: EditorOptions,
    state: TrainingState,
    held: RealFaces,
    judges: Judges,
    header: Header,
) -> None:
    """Measure the averaged weights on the faces held back, write them, numbers and pictures."""
    progress, losses = state.progress, state.sums.means()
    images = progress.step * options.batch
    kimg, per_kimg = images / 1000, progress.seconds / (state.sums.steps * options.batch / 1000)
    measured = validate(state.average, held, judges)
    left = per_kimg * (options.steps - progress.step) * options.batch / 1000
    session.report(
        kimg,
        {**losses, **measured, "lr": options.lr_at(progress.step - 1), "seconds_per_kimg": per_kimg},
        f"kimg {kimg:.1f}/{options.kimg:g}  loss {losses['loss']:.3f}  age error {measured['val_age_error']:.1f} years"
        f"  identity {measured.get('val_identity', math.nan):.3f}  {per_kimg:.0f} s/kimg  ETA {left / 60:.0f} min",
        images,
    )
    kept = {name: header[name] for name in INHERITED if name in header}
    license = {"license": options.license} if options.license else {}
    about = {**kept, **license, "kimg": round(kimg, 3), **{name: round(value, 4) for name, value in measured.items()}}
    metadata = without_paths({**about, "training_options": options.to_json()})
    save_networks(session.path / BEST_EDITOR, {"editor": state.average}, metadata, dtype=torch.float16)
    save_edits(session.path / PICTURE, state.average, held)
    session.show("edits", images, session.path / PICTURE)
    session.plot({"age error": "val_age_error"}, xlabel="kimg", ylabel="years", title="editor")
