"""One step of StyleGAN2-ADA (Karras et al. 2020b): each network learns from one batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from facegen.device import to_device
from facegen.training.generator.losses import Observed
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.parts import Part, seed_own_noise
from facegen.training.generator.recording import clean_gradients
from facegen.training.generator.state import D_REG_INTERVAL, G_REG_INTERVAL, TrainingState
from facegen.training.generator.transition import effective_parameters, fade_labels, label_weight
from facegen.training.run import distributed


def train_step(state: TrainingState, options: TrainOptions, device: torch.device) -> Observed:
    """Train both networks on one batch, or this process' share of one, and return what was observed."""
    if state.random.is_split:
        seed_own_noise(options.seed, state.steps, distributed.rank())
    weight = label_weight(state.images_seen, options.t_start_kimg, options.t_end_kimg)
    images, labels = next(state.batches)
    real, real_c = images.to(torch.float32) / 127.5 - 1, fade_labels(labels, weight)

    shares = [Part(j, len(state.parts)) for j in range(len(state.parts))]  # of the pictures that this process has
    reals = [(share.of(real), share.of(real_c)) for share in shares]
    size = len(reals[0][0])
    loss = state.loss

    def latents() -> tuple[torch.Tensor, torch.Tensor]:
        z, c = draw_latents(state, size, device)
        return z, fade_labels(c, weight)

    observed = run_phase(state, "G", loss.generator_main, lambda j: latents())
    if options.pl_weight > 0 and state.steps % G_REG_INTERVAL == 0:
        mean = mean_path_length(state, latents) if state.random.is_split else None
        regularize = partial(loss.generator_reg, gain=G_REG_INTERVAL, mean_of_all=mean)
        observed |= run_phase(state, "G", regularize, lambda j: latents())
    observed |= run_phase(state, "D", loss.discriminator_main, lambda j: (*reals[j], *latents()))
    real_logits = observed["Loss/scores/real"]
    if options.gamma > 0 and state.steps % D_REG_INTERVAL == 0:
        penalize = partial(loss.discriminator_reg, gain=D_REG_INTERVAL)
        observed |= run_phase(state, "D", penalize, lambda j: reals[j])

    state.steps += 1
    state.images_seen += options.batch
    update_average(state, options, weight)
    if state.ada is not None:
        state.ada.update(real_logits)
        state.ada.adjust(state.augment, options.batch)
    return observed


def mean_path_length(
    state: TrainingState, latents: Callable[[], tuple[torch.Tensor, torch.Tensor]]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what turns the mean path length of a part into that of the whole batch.

    Where a process has several parts, it has to go over all of them before the first can learn.
    """

    def over_processes(mean: torch.Tensor) -> torch.Tensor:
        mean = mean.clone()
        distributed.average([mean])
        return mean

    if len(state.parts) == 1:
        return over_processes
    begin, w_avg = state.random.position(), state.G.mapping.w_avg.clone()
    lengths = []
    for part in state.parts:
        state.random.go_to(begin)
        state.random.part = part
        lengths.append(state.loss.path_lengths(*latents())[0].mean())
    state.random.go_to(begin)
    state.G.mapping.w_avg.copy_(w_avg)
    mean_of_all = over_processes(torch.stack(lengths).mean())
    return lambda mean: mean_of_all


def run_phase(
    state: TrainingState,
    name: str,
    phase: Callable[..., Observed],
    draw_inputs: Callable[[int], tuple[torch.Tensor, ...]],
) -> Observed:
    """Let one network learn from one loss.

    Where a batch comes in parts, each sees the same random numbers and moving averages that the whole batch would;
    then the gradients and the averages (of w and of path lengths) become the mean over all parts of all processes.

    Args:
        state: Its networks, optimisers, moving averages and random numbers.
        name: Of the network, `G` or `D`.
        phase: Of the loss; adds to the gradients of the network.
        draw_inputs: What the phase takes for part number j of this process.
    """
    network: nn.Module = getattr(state, name)
    with _training(network, state.optimizers[name]):
        if not state.random.is_split:
            return state.phases.run(phase, state.loss, network, draw_inputs(0))
        begin = state.random.position()
        w_avg, pl_mean = state.G.mapping.w_avg, state.loss.pl_mean
        start, observed = w_avg.clone(), []
        w_sum, pl_sum = torch.zeros_like(w_avg), torch.zeros_like(pl_mean, device=w_avg.device)
        for j, part in enumerate(state.parts):
            state.random.go_to(begin)
            state.random.part = part
            w_avg.copy_(start)
            state.loss.pl_mean = pl_mean
            observed.append(phase(*draw_inputs(j)))
            w_sum += w_avg
            pl_sum += state.loss.pl_mean.to(pl_sum.device)
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        distributed.average([*gradients, w_sum, pl_sum], len(state.parts))
        clean_gradients(list(network.parameters()))
        w_avg.copy_(w_sum)
        state.loss.pl_mean = pl_sum
        return {key: torch.cat([part[key] for part in observed]) for key in observed[0]}


def draw_latents(state: TrainingState, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw z `[N, z_dim]` and one-hot labels `[N, c_dim]`, classes as often as the data stream has them."""
    z = state.random.normal(batch, state.G.z_dim, device)
    c = torch.zeros([batch, state.G.c_dim], device=device)
    if state.G.c_dim > 0:
        classes = state.random.classes(state.class_weights, batch)
        c.scatter_(1, to_device(classes, device)[:, None], 1.0)
    return z, c


def update_average(state: TrainingState, options: TrainOptions, weight: float = 1) -> None:
    """Move `G_ema` towards `G`; buffers, such as the average of w, are copied.

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


class _training:
    """Let one network learn within a block: gradients from nothing, and a step of its optimiser at the end."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.network, self.optimizer = network, optimizer

    def __enter__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.network.requires_grad_(True)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.network.requires_grad_(False)
        if kind is None:
            self.optimizer.step()
