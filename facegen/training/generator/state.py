"""The state of a generator's training, and how a new one is built."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from facegen.data.archive import FaceArchive
from facegen.device import trains_in_bfloat16
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.training.augment.ada import AdaController
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.augment.strengths import AUGPIPE_PRESETS
from facegen.training.draws import BatchRandom, Part
from facegen.training.generator.batches import Batches, class_weights
from facegen.training.generator.losses import GanLoss
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.parts import PhasesInParts, batch_parts
from facegen.training.generator.recording import Phases
from facegen.training.generator.start_from import CopyReport, Start, start_from
from facegen.training.run import distributed

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
    phases: Phases | PhasesInParts  # how the phases of the loss are run
    images_seen: int = 0
    steps: int = 0
    started_from: Mapping[str, CopyReport] = field(default_factory=dict)  # what `options.resume` gave to each network

    @property
    def random(self) -> BatchRandom:
        """Draws all random numbers but the noise of the synthesis network."""
        return self.loss.random


def build_state(
    options: TrainOptions, archive: FaceArchive, device: torch.device, progress: bool = True
) -> TrainingState:
    """Build networks, optimizers, and data stream of a new run; `progress` shows a bar while pictures are read.

    `options.resume` gives the first weights, as far as they fit: classes, resolution, and widths may be others. Where
    the file says how strong its training's augmentation was, `ada` starts from there, unless `options.p` is given; the
    images that it says to have seen count, unless `options.nkimg` is given.
    Each process builds its own; rank 0's weights go to all.

    Raises:
        FileNotFoundError, FacegenError: there are no such weights, or they are of no use here.
    """
    parts = batch_parts(options, distributed.rank(), distributed.world_size())
    torch.manual_seed(options.seed)
    G, D = build_networks(options, archive)
    G_ema = copy.deepcopy(G)
    start = start_from(options.resume, G, D, G_ema) if options.resume else Start({})
    options = start.decide(options)
    augment, ada = build_augmentation(options, device)
    for network in (G, D, G_ema):
        network.to(device).requires_grad_(False)
    distributed.broadcast((G, D, G_ema))
    G.train()
    D.train()
    G_ema.eval()
    loss = GanLoss(
        G,
        D,
        augment,
        r1_gamma=options.gamma,
        style_mixing_prob=options.style_mixing,
        pl_weight=options.pl_weight,
        bfloat16=trains_in_bfloat16(device, options.fp32),
    )
    weights = class_weights(archive, options.balance) if archive.c_dim else np.zeros(0)
    return TrainingState(
        G=G,
        D=D,
        G_ema=G_ema,
        augment=augment,
        ada=ada,
        loss=loss,
        optimizers={
            "G": lazy_adam(G, options.lr, G_REG_INTERVAL if options.pl_weight > 0 else None),
            "D": lazy_adam(D, options.lr, D_REG_INTERVAL if options.gamma > 0 else None),
        },
        batches=build_batches(options, archive, device, progress),
        class_weights=torch.as_tensor(weights, dtype=torch.float32),
        phases=build_phases(options, loss, parts, device),
        images_seen=round((options.nkimg or 0) * 1000),
        started_from=start.reports,
    )


def build_networks(options: TrainOptions, archive: FaceArchive) -> tuple[Generator, Discriminator]:
    """Build the generator and the discriminator for the pictures and classes of an archive, with random weights."""
    channels: dict[str, Any] = {
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
    return G, D


def build_augmentation(options: TrainOptions, device: torch.device) -> tuple[AugmentPipe | None, AdaController | None]:
    """Build the augmentation and what moves its probability, as far as the options ask for them."""
    if options.aug == "noaug":
        return None, None
    augment = AugmentPipe(AUGPIPE_PRESETS[options.augpipe]).to(device)
    augment.p.fill_(options.p or 0)
    return augment, AdaController(options.target, kimg=options.ada_kimg) if options.aug == "ada" else None


def build_batches(options: TrainOptions, archive: FaceArchive, device: torch.device, progress: bool) -> Batches:
    """Build the stream of this process's pictures; `progress` shows a bar while they are read."""
    return Batches(
        archive,
        options.batch,
        seed=options.seed,
        mirror=options.mirror,
        mirrory=options.mirrory,
        balance=options.balance,
        even=options.even,
        part=Part(distributed.rank(), distributed.world_size()),
        device=device,
        workers=options.workers,
        progress=progress,
    )


def build_phases(
    options: TrainOptions, loss: GanLoss, parts: list[Part], device: torch.device
) -> Phases | PhasesInParts:
    """Return what runs the phases of a loss: in parts if there are several, else on a GPU by recordings if it can."""
    if parts[0].count > 1:
        loss.random.split(device)
        return PhasesInParts(loss, parts)
    can_be_recorded = not options.compile and (loss.augment is None or loss.augment.can_be_recorded)
    return Phases(loss, works=device.type == "cuda" and can_be_recorded)


def lazy_adam(network: nn.Module, lr: float, reg_interval: int | None) -> torch.optim.Adam:
    """Return Adam, corrected for regularization that adds a step after every `reg_interval` ones.

    Without the correction those extra steps would make the network learn faster (Karras et al. 2020a, appendix B).
    """
    ratio = 1.0 if reg_interval is None else reg_interval / (reg_interval + 1)
    return torch.optim.Adam(network.parameters(), lr=lr * ratio, betas=(0.0, 0.99**ratio), eps=1e-8, fused=True)
