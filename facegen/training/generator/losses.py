"""The losses of StyleGAN2-ADA: each phase accumulates gradients and returns what it observed.

The phases know nothing of optimisers, schedules or logging; the loop in `gan.py` decides when each one runs. Main
phases run for every batch, regularisation every few batches with a `gain` that makes up for it ("lazy regularization",
Karras et al. 2020a, section 3.1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.networks.layers import bfloat16_on_cpu
from facegen.training.generator.parts import BatchRandom
from facegen.training.generator.recording import DrawnNumbers, Observed


def main_phase(accumulate: Callable[..., Observed]) -> Callable[..., Observed]:
    """Let a phase of a `GanLoss` compute in bfloat16 if the loss says so; all others are of second derivatives."""

    @functools.wraps(accumulate)
    def run(self: GanLoss, *args: torch.Tensor) -> Observed:
        with bfloat16_on_cpu(self.bfloat16):
            return accumulate(self, *args)

    return run


@dataclass
class GanLoss:
    """Loss terms of one pair of networks.

    Attributes:
        G, D: The networks; the caller lets only the one in training require gradients.
        augment: Applied to every picture that D sees; None for none.
        r1_gamma: Weight of the gradient penalty on real pictures (Mescheder et al. 2018).
        style_mixing_prob: How often the later layers get the w of another z (Karras et al. 2019, section 3.1).
        pl_weight: Weight of path length regularisation (Karras et al. 2020a, section 3.2).
        pl_decay: Step of the moving average of path lengths.
        pl_batch_shrink: Path lengths are measured on this fraction of the batch.
        noise_mode: Of the generator.
        pl_mean: The moving average; state that a resumed run needs.
        random: Where style mixing, augmentation and path lengths get their random numbers from.
        second_order: Makes a block within which networks have second derivatives (see `compiling`).
        drawn: Where random numbers of the CPU come from while a phase is recorded (see `recording`).
        bfloat16: On the CPU, main phases compute in bfloat16 where it pays (see `bfloat16_on_cpu`).
    """

    G: Generator
    D: Discriminator
    augment: nn.Module | None = None
    r1_gamma: float = 10
    style_mixing_prob: float = 0.9
    pl_weight: float = 2
    pl_decay: float = 0.01
    pl_batch_shrink: int = 2
    noise_mode: str = "random"
    pl_mean: torch.Tensor = field(default_factory=lambda: torch.zeros([]))
    random: BatchRandom = field(default_factory=BatchRandom)
    second_order: Callable[[], AbstractContextManager[None]] = nullcontext
    drawn: DrawnNumbers | None = None
    bfloat16: bool = False

    def map_latents(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Map `[N, z_dim]` and `[N, c_dim]` to `[N, num_ws, w_dim]`, styles mixed at one random layer."""
        ws = self.G.mapping(z, c)
        num_ws = ws.shape[1]
        if self.style_mixing_prob > 0:
            if self.drawn is not None:  # a recording always does the same, so it mixes from behind the end
                (cutoff,) = self.drawn.take(lambda: [torch.tensor(self.mixing_layer(num_ws))])
                other = self.G.mapping(self.random.normal_like(z), c, skip_w_avg_update=True)
                kept = torch.arange(num_ws, device=ws.device) < cutoff
                return torch.where(kept[:, None], ws, other)
            cutoff = self.mixing_layer(num_ws)
            other_z = self.random.normal_like(z)
            if cutoff < num_ws:
                other = self.G.mapping(other_z, c, skip_w_avg_update=True)
                ws = torch.cat([ws[:, :cutoff], other[:, cutoff:]], dim=1)
        return ws

    def mixing_layer(self, num_ws: int) -> int:
        """Draw the first layer that gets another style; `num_ws` where none does."""
        cutoff = self.random.layer(1, num_ws)
        return cutoff if self.random.happens(self.style_mixing_prob) else num_ws

    def judge(self, images: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Augment pictures and return the discriminator's logits `[N, 1]`."""
        if self.augment is not None and self.drawn is not None:
            images = self.augment.by_drawn_numbers(images, self.drawn)
        elif self.augment is not None:
            split = {"generator": self.random.generator(), "part": self.random.part} if self.random.is_split else {}
            images = self.augment(images, **split)
        return self.D(images, c)

    @main_phase
    def generator_main(self, z: torch.Tensor, c: torch.Tensor) -> Observed:
        """Accumulate the gradients of G for the non-saturating logistic loss -log(sigmoid(D(G(z, c))))."""
        images = self.G.synthesis(self.map_latents(z, c), noise_mode=self.noise_mode)
        logits = self.judge(images, c)
        loss = F.softplus(-logits)
        loss.mean().backward()
        return {
            "Loss/scores/fake": logits.detach(),
            "Loss/signs/fake": logits.detach().sign(),
            "Loss/G/loss": loss.detach(),
        }

    def path_lengths(self, z: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return how far pictures move with their w, `[n]`, for a fraction of the batch, and these pictures.

        The lengths are differentiable if G requires gradients.
        """
        batch = max(len(z) // self.pl_batch_shrink, 1)
        ws = self.map_latents(z[:batch], c[:batch])
        differentiable = ws.requires_grad
        with self.second_order():
            images = self.G.synthesis(ws.requires_grad_(), noise_mode=self.noise_mode)
        noise = self.random.normal_like(images) / math.sqrt(images.shape[2] * images.shape[3])
        (gradients,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=differentiable)
        return gradients.square().sum(dim=2).mean(dim=1).sqrt(), images

    def generator_reg(
        self,
        z: torch.Tensor,
        c: torch.Tensor,
        gain: float = 1,
        mean_of_all: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Observed:
        """Accumulate the gradients of G for the path length penalty (Karras et al. 2020a, equation 4).

        `mean_of_all` takes the mean length of this part of a batch and returns that of the whole batch.
        """
        lengths, images = self.path_lengths(z, c)
        if mean_of_all is None:
            pl_mean = self.pl_mean.to(lengths.device).lerp(lengths.mean(), self.pl_decay)
            penalty = (lengths - pl_mean).square()
            loss = penalty * self.pl_weight
        else:
            mean = mean_of_all(lengths.detach().mean())
            pl_mean = self.pl_mean.to(lengths.device).lerp(mean, self.pl_decay)
            penalty = (lengths - pl_mean).square()
            # Above, each length also pulls at the mean, and so at the penalty of all others. Here it is told to.
            pull = 2 * self.pl_decay * (mean - pl_mean)
            loss = (penalty - pull * lengths) * self.pl_weight
        if self.drawn is not None:
            self.pl_mean.copy_(pl_mean.detach())
        else:
            self.pl_mean = pl_mean.detach()
        # Colours' biases do not matter here; a gradient of 0 and none at all are different things to Adam.
        (loss.mean() * gain + images.sum() * 0).backward()
        return {"Loss/pl_penalty": penalty.detach(), "Loss/G/reg": (penalty * self.pl_weight).detach()}

    @main_phase
    def discriminator_main(
        self, real: torch.Tensor, real_c: torch.Tensor, z: torch.Tensor, c: torch.Tensor
    ) -> Observed:
        """Accumulate the gradients of D for the logistic loss on generated and on real pictures."""
        with torch.no_grad():
            fake = self.G.synthesis(self.map_latents(z, c), noise_mode=self.noise_mode)
        fake_logits = self.judge(fake, c)
        fake_loss = F.softplus(fake_logits)
        fake_loss.mean().backward()
        real_logits = self.judge(real, real_c)
        real_loss = F.softplus(-real_logits)
        real_loss.mean().backward()
        return {
            "Loss/scores/fake": fake_logits.detach(),
            "Loss/signs/fake": fake_logits.detach().sign(),
            "Loss/scores/real": real_logits.detach(),
            "Loss/signs/real": real_logits.detach().sign(),
            "Loss/D/loss": fake_loss.detach() + real_loss.detach(),
        }

    def discriminator_reg(self, real: torch.Tensor, real_c: torch.Tensor, gain: float = 1) -> Observed:
        """Accumulate the gradients of D for R1, r1_gamma / 2 * |gradient of D at real pictures|^2."""
        real = real.detach().requires_grad_(True)
        with self.second_order():
            logits = self.judge(real, real_c)
        (gradients,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = gradients.square().sum(dim=[1, 2, 3])
        loss = penalty * (self.r1_gamma / 2)
        (loss.mean() * gain + logits.sum() * 0).backward()
        return {
            "Loss/scores/real": logits.detach(),
            "Loss/signs/real": logits.detach().sign(),
            "Loss/r1_penalty": penalty.detach(),
            "Loss/D/reg": loss.detach(),
        }
