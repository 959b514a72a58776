"""The losses of StyleGAN2-ADA: each phase accumulates gradients and returns what it observed.

The phases know nothing of optimizers, schedules, or logging; `step.py` decides when each one runs. Main phases run for
every batch, regularization every few batches with a `gain` that makes up for it ("lazy regularization", Karras et al.
2020a, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.networks.layers import bfloat16_on_cpu
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.draws import BatchRandom

Observed = dict[str, torch.Tensor]

PL_DECAY = 0.01  # step of the moving average of path lengths
PL_BATCH_SHRINK = 2  # path lengths are measured on this fraction of the batch


@dataclass
class GanLoss:
    """Loss terms of one pair of networks.

    Main phases may compute in bfloat16; regularization may not, as it takes second derivatives.

    Attributes:
        G, D: the networks; the caller lets only the one in training require gradients.
        augment: augments every picture that D sees; None for none.
        r1_gamma: weight of the gradient penalty on real pictures (Mescheder et al. 2018).
        style_mixing_prob: how often the later layers get the w of another z (Karras et al. 2019, section 3.1).
        pl_weight: weight of path length regularization (Karras et al. 2020a, section 3.2).
        pl_mean: the moving average of path lengths, changed in place; state that a resumed run needs.
        mean_length: takes path lengths `[n]` to the mean of the batch, of which they may be only a part.
        random: draws all random numbers but the noise of the synthesis network.
        second_order: makes a block within which networks have second derivatives (see `compiling`).
        bfloat16: main phases compute in bfloat16 on the CPU, where it pays (see `bfloat16_on_cpu`).
    """

    G: Generator
    D: Discriminator
    augment: AugmentPipe | None = None
    r1_gamma: float = 10
    style_mixing_prob: float = 0.9
    pl_weight: float = 2
    pl_mean: torch.Tensor = field(init=False)
    mean_length: Callable[[torch.Tensor], torch.Tensor] = torch.mean
    random: BatchRandom = field(default_factory=BatchRandom)
    second_order: Callable[[], AbstractContextManager[None]] = nullcontext
    bfloat16: bool = False

    def __post_init__(self) -> None:
        self.pl_mean = torch.zeros([], device=self.G.mapping.w_avg.device)

    def map_latents(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Map `[N, z_dim]` and `[N, c_dim]` to `[N, num_ws, w_dim]`, styles mixed at one random layer."""
        ws = self.G.mapping(z, c)
        if self.style_mixing_prob > 0:
            layers = torch.arange(ws.shape[1], device=ws.device)
            (cutoff,) = self.random.on_device(lambda: [torch.tensor(self._mixing_layer(len(layers)))], ws.device)
            other = self.G.mapping(self.random.normal_like(z), c, skip_w_avg_update=True)
            ws = torch.where((layers < cutoff)[:, None], ws, other)
        return ws

    def _mixing_layer(self, num_ws: int) -> int:
        """Draw the first layer that gets another style; `num_ws` where none does."""
        cutoff = self.random.layer(1, num_ws)
        return cutoff if self.random.happens(self.style_mixing_prob) else num_ws

    def judge(self, images: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Augment pictures and return the discriminator's logits `[N, 1]`."""
        if self.augment is not None:
            images = self.augment(images, self.random)
        return self.D(images, c)

    def generator_main(self, z: torch.Tensor, c: torch.Tensor) -> Observed:
        """Accumulate the gradients of G for the non-saturating logistic loss -log(sigmoid(D(G(z, c))))."""
        with bfloat16_on_cpu(self.bfloat16):
            logits = self.judge(self.G.synthesis(self.map_latents(z, c)), c)
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
        batch = max(len(z) // PL_BATCH_SHRINK, 1)
        ws = self.map_latents(z[:batch], c[:batch])
        differentiable = ws.requires_grad
        with self.second_order():
            images = self.G.synthesis(ws.requires_grad_())
        noise = self.random.normal_like(images) / math.sqrt(images.shape[2] * images.shape[3])
        (gradients,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=differentiable)
        return gradients.square().sum(dim=2).mean(dim=1).sqrt(), images

    def generator_reg(self, z: torch.Tensor, c: torch.Tensor, gain: float = 1) -> Observed:
        """Accumulate the gradients of G for the path length penalty (Karras et al. 2020a, equation 4)."""
        lengths, images = self.path_lengths(z, c)
        mean = self.mean_length(lengths.detach())
        self.pl_mean.lerp_(mean, PL_DECAY)
        penalty = (lengths - self.pl_mean).square()
        # The moving average m = (1 - decay) * before + decay * mean(l) depends on each l_i itself, so the derivative of
        # mean_j((l_j - m)^2) by l_i is 2 / n * ((l_i - m) - decay * (mean(l) - m)). As m is a constant here, the second
        # term is added to the loss.
        pull = 2 * PL_DECAY * (mean - self.pl_mean)
        loss = (penalty - pull * lengths) * self.pl_weight
        # Biases of colors do not matter here; a gradient of 0 and none at all are different things to Adam.
        (loss.mean() * gain + images.sum() * 0).backward()
        return {"Loss/pl_penalty": penalty.detach(), "Loss/G/reg": (penalty * self.pl_weight).detach()}

    def discriminator_main(
        self, real: torch.Tensor, real_c: torch.Tensor, z: torch.Tensor, c: torch.Tensor
    ) -> Observed:
        """Accumulate the gradients of D for the logistic loss on generated and on real pictures."""
        with bfloat16_on_cpu(self.bfloat16):
            with torch.no_grad():
                fake = self.G.synthesis(self.map_latents(z, c))
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
