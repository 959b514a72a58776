"""One step of StyleGAN2-ADA (Karras et al. 2020b): each network learns from one batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from facegen.device import to_device
from facegen.images import to_float
from facegen.training.generator.losses import Observed
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.recording import Tensors
from facegen.training.generator.state import D_REG_INTERVAL, G_REG_INTERVAL, TrainingState
from facegen.training.generator.transition import effective_parameters, fade_labels, label_weight
from facegen.training.run import distributed


def train_step(state: TrainingState, options: TrainOptions, device: torch.device) -> Observed:
    """Train both networks on one batch, or this process's share of one, and return what was observed."""
    state.random.begin_step(options.seed, state.steps, distributed.rank())
    weight = label_weight(state.images_seen, options.t_start_kimg, options.t_end_kimg)
    images, labels = next(state.batches)
    loss, pictures, labels = state.loss, to_float(images), fade_labels(labels, weight)

    def real() -> Tensors:
        return state.random.share.of(pictures), state.random.share.of(labels)

    def latent() -> Tensors:
        z, c = draw_latents(state, options.batch, device)
        return z, fade_labels(c, weight)

    observed = learn(state, "G", loss.generator_main, latent)
    if options.pl_weight > 0 and state.steps % G_REG_INTERVAL == 0:
        observed |= learn(state, "G", partial(loss.generator_reg, gain=G_REG_INTERVAL), latent)
    observed |= learn(state, "D", loss.discriminator_main, lambda: (*real(), *latent()))
    real_logits = observed["Loss/scores/real"]
    if options.gamma > 0 and state.steps % D_REG_INTERVAL == 0:
        observed |= learn(state, "D", partial(loss.discriminator_reg, gain=D_REG_INTERVAL), real)

    state.steps += 1
    state.images_seen += options.batch
    update_average(state, options, weight)
    if state.ada is not None and state.augment is not None:
        state.ada.update(real_logits)
        state.ada.adjust(state.augment, options.batch)
    return observed


def learn(
    state: TrainingState, name: str, phase: Callable[..., Observed], draw_inputs: Callable[[], Tensors]
) -> Observed:
    """Let one network learn from one loss: a step of its optimizer.

    Args:
        state: the networks, optimizers, moving averages, and random numbers.
        name: the network, `G` or `D`.
        phase: the phase of the loss; adds to the gradients of the network.
        draw_inputs: returns what the phase takes.
    """
    network: nn.Module = getattr(state, name)
    state.optimizers[name].zero_grad(set_to_none=True)
    network.requires_grad_(True)
    try:
        observed = state.phases.run(phase, network, draw_inputs)
    finally:
        network.requires_grad_(False)
    state.optimizers[name].step()
    return observed


def draw_latents(state: TrainingState, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw z `[N, z_dim]` and one-hot labels `[N, c_dim]`, classes as often as the data stream has them.

    When a batch is worked on in parts, these are the rows of the current part.
    """
    z = state.random.normal(batch, state.G.z_dim, device)
    c = torch.zeros([len(z), state.G.c_dim], device=device)
    if state.G.c_dim > 0:
        classes = state.random.classes(state.class_weights, batch)
        c.scatter_(1, to_device(classes, device)[:, None], 1.0)
    return z, c


def update_average(state: TrainingState, options: TrainOptions, weight: float = 1) -> None:
    """Move `G_ema` toward `G`; buffers, such as the average of w, are copied.

    `G_ema` takes plain labels: what a `weight` of labels does to `G` becomes a part of its parameters.
    """
    half_life = options.ema_kimg * 1000
    if options.ema_rampup is not None:
        half_life = min(half_life, state.images_seen * options.ema_rampup)
    beta = 0.5 ** (options.batch / max(half_life, 1e-8))
    with torch.no_grad():
        effective = list(effective_parameters(state.G, weight).values())
        get_ema_multi_avg_fn(beta)(list(state.G_ema.parameters()), effective, None)
        for average, current in zip(state.G_ema.buffers(), state.G.buffers(), strict=True):
            average.copy_(current)
