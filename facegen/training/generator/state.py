"""The state of a generator's training: building it, saving it, and going on from it exactly where it was."""

from __future__ import annotations

import copy
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facegen.data.archive import FaceArchive
from facegen.device import trains_in_bfloat16
from facegen.errors import FacegenError, one_line
from facegen.files import atomic_path
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.training.augment.ada import AdaController
from facegen.training.augment.pipe import AugmentPipe, augpipe_kwargs
from facegen.training.generator.batches import Batches, class_weights
from facegen.training.generator.losses import GanLoss
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.parts import BatchRandom, Part
from facegen.training.generator.recording import Phases
from facegen.training.generator.start_from import CopyReport, copy_matching
from facegen.training.generator.transition import effective_parameters, label_weight
from facegen.training.run import distributed
from facegen.training.run.folder import read_state, written_state
from facegen.training.run.snapshots import drop_later, snapshot_name
from facegen.weights.header import Header
from facegen.weights.load import read_networks
from facegen.weights.native import load_networks, save_networks

STATE = "training-state.pt"
# The entries of that file.
SAVED = ("snapshot", "images_seen", "steps", "position", "pl_mean", "optimizers", "p", "ada", "rng_cpu", "rng_cuda")
BEFORE = ".before"  # ends the name of a snapshot while one of the same name takes its place
G_REG_INTERVAL, D_REG_INTERVAL = 4, 16


@dataclass
class TrainingState:
    """All that a step changes, and all that the next step depends on."""

    G: Generator
    D: Discriminator
    G_ema: Generator
    augment: AugmentPipe | None
    ada: AdaController | None
    loss: GanLoss
    optimizers: dict[str, torch.optim.Optimizer]
    batches: Batches
    class_weights: torch.Tensor  # how often each class is generated, [c_dim]
    random: BatchRandom
    parts: list[Part]  # of a batch, that this process works on one after the other
    phases: Phases  # on a GPU, recordings of the step's phases
    images_seen: int = 0
    steps: int = 0
    started_from: dict[str, CopyReport] = field(default_factory=dict)  # what `options.resume` gave to each network


def build(options: TrainOptions, archive: FaceArchive, device: torch.device) -> TrainingState:
    """Build networks, optimisers and data stream of a new run.

    `options.resume` gives the first weights, as far as they fit: classes, resolution and widths may be others.
    Of several processes each builds its own; rank 0's weights go to all.

    Raises:
        FileNotFoundError, FacegenError: there are no such weights, or they are of no use here.
    """
    parts = batch_parts(options, distributed.rank(), distributed.world_size())
    torch.manual_seed(options.seed)
    channels = {
        "channel_base": options.channel_base,
        "channel_max": options.channel_max,
        "num_fp16_res": options.num_fp16_res,
        "conv_clamp": options.conv_clamp,
    }
    G = Generator(
        options.latent,
        archive.c_dim,
        options.latent,
        archive.resolution,
        archive.channels,
        mapping_kwargs={"num_layers": options.map_layers},
        synthesis_kwargs=channels,
    )
    D = Discriminator(
        archive.c_dim,
        archive.resolution,
        archive.channels,
        architecture=options.d_architecture,
        **channels,
        block_kwargs={"freeze_layers": options.freezed},
        epilogue_kwargs={"mbstd_group_size": options.mbstd_group},
    )
    G_ema = copy.deepcopy(G)
    started_from = {}
    if options.resume:
        started_from = start_from(options.resume, {"G": G, "D": D, "G_ema": G_ema})
    for network in (G, D, G_ema):
        network.to(device)
    distributed.broadcast((G, D, G_ema))
    G.train().requires_grad_(False)
    D.train().requires_grad_(False)
    G_ema.eval().requires_grad_(False)

    augment = ada = None
    if options.aug != "noaug":
        augment = AugmentPipe(**augpipe_kwargs(options.augpipe)).to(device)
        augment.p.fill_(options.p)
    if options.aug == "ada":
        ada = AdaController(options.target, kimg=options.ada_kimg)
    weights = class_weights(archive, options.balance) if archive.c_dim else []
    random = BatchRandom()
    if parts[0].count > 1:
        random.split(device)
    records = device.type == "cuda" and not options.compile and not random.is_split
    records = records and (augment is None or augment.can_be_recorded)
    return TrainingState(
        G=G,
        D=D,
        G_ema=G_ema,
        augment=augment,
        ada=ada,
        loss=GanLoss(
            G,
            D,
            augment,
            r1_gamma=options.gamma,
            style_mixing_prob=options.style_mixing,
            pl_weight=options.pl_weight,
            random=random,
            bfloat16=trains_in_bfloat16(device, options.fp32),
        ),
        optimizers={
            "G": lazy_adam(G, options.lr, G_REG_INTERVAL if options.pl_weight > 0 else None),
            "D": lazy_adam(D, options.lr, D_REG_INTERVAL if options.gamma > 0 else None),
        },
        batches=Batches(
            archive,
            options.batch,
            seed=options.seed,
            mirror=options.mirror,
            balance=options.balance,
            even=options.even,
            part=Part(distributed.rank(), distributed.world_size()),
            device=device,
        ),
        class_weights=torch.as_tensor(weights, dtype=torch.float32),
        random=random,
        parts=parts,
        phases=Phases(works=records),
        started_from=started_from,
    )


def batch_parts(options: TrainOptions, rank: int = 0, processes: int = 1) -> list[Part]:
    """Return the parts of a batch that a process works on: its share, in passes of at most `batch_gpu` pictures.

    Part j of the process' share is part `rank + j * processes` of the batch.

    Raises:
        FacegenError: the batch cannot be shared out evenly.
    """
    if options.batch % processes:
        raise FacegenError(
            f"a batch of {options.batch} cannot be shared by {processes} processes: choose another --batch"
        )
    share = options.batch // processes
    most = min(options.batch_gpu or share, share)
    if share % most:
        raise FacegenError(
            f"--batch-gpu {most} does not divide the {share} pictures of a batch that fall to each process"
        )
    group = min(options.mbstd_group, most)
    if most % group:
        raise FacegenError(
            f"{most} pictures at a time are no multiple of {group} (minibatch-stddev group): choose another "
            "--batch, --batch-gpu or number of processes"
        )
    passes = share // most
    return [Part(rank + j * processes, processes * passes) for j in range(passes)]


def start_from(reference: str | os.PathLike[str], networks: dict[str, nn.Module]) -> dict[str, CopyReport]:
    """Copy into new networks what fits of a weight file of any kind, and report for each of them.

    Args:
        reference: What `facegen.weights.locate` takes. A file with only one of `G` and `G_ema` gives it to both;
            without `D`, D starts new.
        networks: `G`, `D` and `G_ema`.

    Raises:
        FileNotFoundError, FacegenError: no such file, no generator in it, or one with other latents.
    """
    loaded, header = read_networks(reference)
    _fade_in_place(loaded, header)
    average, current = loaded.get("G_ema", loaded.get("G")), loaded.get("G", loaded.get("G_ema"))
    if average is None:
        raise FacegenError(f"{reference}: holds {', '.join(loaded)}, but no generator to start from")
    latents = [(g.z_dim, g.w_dim, g.mapping.num_layers) for g in (current, networks["G"])]
    if latents[0] != latents[1]:
        was, would = (f"z of {z}, w of {w} and {layers} mapping layers" for z, w, layers in latents)
        raise FacegenError(
            f"{reference}: its generator has {was}, this run's --cfg asks for {would}: nothing of it would be of use; "
            "choose the --cfg that it was trained with"
        )
    sources = {"G": current, "D": loaded.get("D"), "G_ema": average}
    return {name: copy_matching(source, networks[name]) for name, source in sources.items() if source is not None}


def _fade_in_place(networks: dict[str, nn.Module], header: Header) -> None:
    """Let G and D of a snapshot from before labels counted in full take plain labels, as its G_ema does."""
    options = header.training_options
    images_seen = round((header.kimg or 0) * 1000)
    weight = label_weight(images_seen, options.get("t_start_kimg", 0), options.get("t_end_kimg"))
    if weight == 1:
        return
    for name in {"G", "D"} & networks.keys():
        effective = effective_parameters(networks[name], weight)
        networks[name].load_state_dict({key: value.detach().clone() for key, value in effective.items()}, strict=False)


def lazy_adam(network: nn.Module, lr: float, reg_interval: int | None) -> torch.optim.Adam:
    """Return Adam, corrected for regularisation that adds a step after every `reg_interval` ones.

    Without the correction those extra steps would make the network learn faster (Karras et al. 2020a, appendix B).
    """
    ratio = 1.0 if reg_interval is None else reg_interval / (reg_interval + 1)
    return torch.optim.Adam(network.parameters(), lr=lr * ratio, betas=(0.0, 0.99**ratio), eps=1e-8, fused=True)


def save(state: TrainingState, folder: Path, metadata: dict[str, Any]) -> Path:
    """Write a snapshot of the networks, and beside it what else a resumed run needs; return the snapshot's path.

    At every instant the state file names a whole snapshot that fits it: both files are written in full before either
    is put in its place, the snapshot goes first, and one of the same name stays beside it until the state follows.

    Raises:
        OSError: nothing can be written, because the disk is full for example. The pair before is as it was.
    """
    snapshot = folder / snapshot_name(state.images_seen)
    kimg = state.images_seen / 1000
    content = {
        "snapshot": snapshot.name,
        "images_seen": state.images_seen,
        "steps": state.steps,
        "position": state.batches.position,
        "pl_mean": state.loss.pl_mean.cpu(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
        "p": state.augment.p.cpu() if state.augment is not None else None,
        "ada": state.ada.state_dict() if state.ada is not None else None,
        **state.random.state_dict(),
    }
    before = _before(snapshot)
    try:
        with written_state(folder / STATE, content):
            if snapshot.exists():  # ticks under 1 kimg share a name
                _link(snapshot, before)
            save_networks(snapshot, {"G": state.G, "D": state.D, "G_ema": state.G_ema}, {**metadata, "kimg": kimg})
    except BaseException:
        if before.exists():
            before.replace(snapshot)
        before.unlink(missing_ok=True)  # two names of one file do not replace each other
        raise
    before.unlink(missing_ok=True)
    return snapshot


def restore(state: TrainingState, folder: str | os.PathLike[str]) -> None:
    """Load into a freshly built state what `save` wrote, random states included.

    Raises:
        FileNotFoundError, FacegenError: the folder holds no whole state, or its snapshot is gone or damaged.
    """
    path = Path(folder) / STATE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; this run never got to its first snapshot, start a new one")
    content = read_state(path, SAVED)
    snapshot = Path(folder) / content["snapshot"]
    if _before(snapshot).exists() and not _is_of(snapshot, content["images_seen"]):
        snapshot = _before(snapshot)  # the process was killed between the two: go on from the pair before
    if snapshot.exists() and not _is_of(snapshot, content["images_seen"]):
        raise FacegenError(
            f"{snapshot}: is not the snapshot that {path.name} belongs to, so this run cannot go on; a new one can "
            f"start from these weights: facegen train --resume {snapshot}"
        )
    _load_weights(snapshot, {"G": state.G, "D": state.D, "G_ema": state.G_ema})
    state.images_seen, state.steps = content["images_seen"], content["steps"]
    state.batches.position = content["position"]
    state.loss.pl_mean = content["pl_mean"]
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(content["optimizers"][name])
    if state.augment is not None:
        state.augment.p.copy_(content["p"])
    if state.ada is not None:
        state.ada.load_state_dict(content["ada"])
    state.random.load_state_dict(content)


def clear_leftovers(folder: Path, images_seen: int) -> None:
    """Remove what a killed process left in a folder that a run goes on in: what comes after the state, and doubles.

    For the time after `restore`, when nobody else trains there.
    """
    for before in folder.glob(f"*{BEFORE}"):
        snapshot = before.with_name(before.name.removesuffix(BEFORE))
        if not snapshot.exists() or (_is_of(before, images_seen) and not _is_of(snapshot, images_seen)):
            before.replace(snapshot)
        before.unlink(missing_ok=True)
    drop_later(folder, images_seen)


def _before(snapshot: Path) -> Path:
    """Where a snapshot is kept while one of the same name takes its place."""
    return snapshot.with_name(snapshot.name + BEFORE)


def _link(path: Path, to: Path) -> None:
    """Give a file a second name, or a copy where the file system has no links."""
    to.unlink(missing_ok=True)
    try:
        os.link(path, to)
    except OSError:
        with atomic_path(to) as temporary:
            shutil.copyfile(path, temporary)


def _is_of(snapshot: Path, images_seen: int) -> bool:
    """Whether a snapshot was taken after so many images. FacegenError where it is damaged."""
    return round(Header.read(snapshot)["kimg"] * 1000) == images_seen


def _load_weights(path: Path, networks: dict[str, nn.Module]) -> None:
    """Copy the weights of a snapshot into networks of the same shape."""
    loaded, _ = load_networks(path, list(networks))
    for name, network in networks.items():
        try:
            network.load_state_dict(loaded[name].state_dict())
        except RuntimeError as error:
            raise FacegenError(
                f"{path}: the weights of {name} do not fit this run's data and --cfg, which must be those that they "
                f"were trained with: {one_line(error)}"
            ) from error
