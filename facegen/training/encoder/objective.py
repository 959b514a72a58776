"""The losses of an encoder, as its recipe weighs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.age_shift import AgeShift, group_mean_shift
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.networks.latent_discriminator import LatentDiscriminator
from facegen.networks.latents import draw, group_means
from facegen.networks.layers import bfloat16_on_cpu
from facegen.networks.sex_classifier import SexClassifier
from facegen.training.encoder.identity_loss import IdentityLoss
from facegen.training.encoder.pairs import one_hot
from facegen.training.encoder.recipes import Recipe
from facegen.training.perceptual_loss import PerceptualLoss

DECADE = 10.0
SHIFT_RATE = 4  # the age shift's learning rate, as a multiple: its numbers have farther to go than weights
AGED_EVERY = 4  # in training, one face in so many is aged: the age shift is small and learns fast
LOW_FREQUENCIES = 8  # `keep` compares pictures reduced to this side
STATISTICS_SAMPLES = 4000


@dataclass
class Faces:
    """One batch. The generated faces come first, their latents are known; real ones may follow.

    images: float32 [N, 3, S, S], -1..1.
    ages: float32 [N], years.
    z: [G, z_dim], classes: int64 [G], of the G <= N generated ones.
    other_z: [N, z_dim], random; what the mapping network makes of them shows what a w should be like.
    """

    images: torch.Tensor
    ages: torch.Tensor
    z: torch.Tensor
    classes: torch.Tensor
    other_z: torch.Tensor


class EncoderObjective(nn.Module):
    """An encoder with all that its losses need.

    Args:
        encoder: What is trained.
        generator: Stays as it is, unless the recipe tunes it.
        recipe: Which losses.
        ages: The middle age of each of the generator's groups; empty for a generator without.
        estimator: For recipes that need one; stays as it is.
        identity_loss: For recipes that need one.
        psi: Truncation that the generated faces were made with.
        sex_classifier: For the loss `sex`; stays as it is. None for faces that it cannot judge.

    Attributes:
        bf16: In training mode, run encoder, judging networks and, on the CPU, the generator in bfloat16.
        shift: For the targets w and w+ of a generator with age groups, its `AgeShift`: the difference of the groups'
            means, which the loss `age` refines. None otherwise.
        latent_discriminator: Judges latents, in the recipes that have one; None in the others.
    """

    w_variance: torch.Tensor
    middle_ages: torch.Tensor
    group_places: torch.Tensor

    def __init__(
        self,
        encoder: Encoder,
        generator: Generator,
        recipe: Recipe,
        ages: Sequence[float],
        estimator: AgeEstimator | None = None,
        identity_loss: IdentityLoss | None = None,
        psi: float = 1.0,
        sex_classifier: SexClassifier | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.recipe, self.psi = encoder, recipe, psi
        self.perceptual = PerceptualLoss().requires_grad_(False) if recipe.perceptual else None
        self.bf16 = False
        self.generator = generator.eval().requires_grad_(False)
        if recipe.tune:
            generator.synthesis.requires_grad_(True)
        self.estimator = None if estimator is None else estimator.eval().requires_grad_(False)
        self.sex_classifier = None if sex_classifier is None else sex_classifier.eval().requires_grad_(False)
        self.identity_loss = identity_loss
        self.shift: AgeShift | None = None
        self.latent_discriminator: LatentDiscriminator | None = None
        if recipe.target != "z":
            means = group_means(generator)
            encoder.w_mean.copy_(means.mean(dim=0))
            self.register_buffer("w_variance", _variance_of_w(generator), persistent=False)
            if recipe.adversarial:
                self.latent_discriminator = LatentDiscriminator(encoder.w_mean, self.w_variance)
            if generator.c_dim:
                self.register_buffer("middle_ages", torch.tensor(ages), persistent=False)
                self.shift = group_mean_shift(means, generator.num_ws, ages).requires_grad_(recipe.age > 0)
                self.register_buffer("group_places", self.shift.table.detach().clone(), persistent=False)

    def train(self, mode: bool = True) -> EncoderObjective:
        """Only the encoder has anything that training switches."""
        self.training = mode
        self.encoder.train(mode)
        return self

    def trained(self) -> dict[str, nn.Module]:
        """The networks that a weight file holds, by name."""
        networks = {"encoder": self.encoder} | ({} if self.shift is None else {"age_shift": self.shift})
        return networks | ({"G_ema": self.generator} if self.recipe.tune else {})

    def learning(self) -> dict[str, nn.Module]:
        """All networks that learn, by name: those, and one that is of use in training alone."""
        helper = self.latent_discriminator
        return self.trained() | ({} if helper is None else {"latent_discriminator": helper})

    def parameters_to_train(self) -> list[nn.Parameter]:
        """The parameters that the losses reach."""
        return [p for network in self.learning().values() for p in network.parameters() if p.requires_grad]

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Adam for them; every group has under `share` how many times the learning rate it takes."""
        tuned = [p for p in self.generator.parameters() if p.requires_grad]
        helper = self.latent_discriminator
        judging = [] if helper is None else list(helper.parameters())
        shift = [] if self.shift is None else [p for p in self.shift.parameters() if p.requires_grad]
        others = [p for p in self.parameters_to_train() if p not in {*tuned, *judging, *shift}]
        groups = [{"params": others, "share": 1.0}]
        # In the order of `parameters_to_train`, so that runs of earlier versions, without a group for this, go on.
        groups += [{"params": shift, "share": SHIFT_RATE}] if shift else []
        groups += [{"params": tuned, "share": self.recipe.tune}] if tuned else []
        if judging:  # as a GAN's discriminator, which no momentum must carry past what it is up against
            groups.append({"params": judging, "share": 1.0, "betas": (0.0, 0.99)})
        return torch.optim.Adam(groups, lr=lr)

    def forward(self, faces: Faces, target_ages: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return every loss of the recipe by name, unweighted, and their weighted sum as `loss`; see `Recipe` for each.

        With generated faces also, for people, `mse` of the latents (1 for who always answers with the mean) and
        `cosine_similarity` between them and the true ones. `latent_discriminator`, of recipes that have one, is what
        that network learns from, and no part of the sum.

        Args:
            faces: A batch.
            target_ages: [N], years to which the loss `age` shifts each face.
        """
        recipe = self.recipe
        with self._precision(faces.images):
            latents = self.encoder(faces.images)
        latents = latents.float()
        losses = self._of_latents(latents[: len(faces.z)], faces)
        if recipe.near:
            losses["near"] = self._distance_from_home(latents)
        if self.latent_discriminator is not None:
            losses["adversarial"] = self.latent_discriminator.encoder_loss(latents)
            losses["latent_discriminator"] = self.latent_discriminator.own_loss(latents, self._mapped(faces))
        if recipe.sees_pictures:
            again = self._draw(latents)
            if recipe.pixels:
                losses["pixels"] = functional.mse_loss(again, faces.images)
            if recipe.features and self.estimator is not None:
                losses["features"] = self._feature_distance(self.estimator, again, faces.images)
            if self.perceptual is not None:
                losses["perceptual"] = self.perceptual(again, faces.images)
            if self.identity_loss is not None:
                with self._precision(again):
                    losses["identity"] = self.identity_loss(again, faces.images)
            if recipe.age and self.shift is not None and self.estimator is not None:
                some = slice(None, None, AGED_EVERY if self.training else 1)
                ages = faces.ages[some], target_ages[some]
                losses |= self._of_aged(self.shift, self.estimator, latents[some].detach(), again[some].detach(), *ages)
        if recipe.anchor and len(faces.z):
            losses["anchor"] = functional.mse_loss(self._draw(self._true_ws(faces)), faces.images[: len(faces.z)])
        losses["loss"] = recipe.weighted_sum(losses)
        return losses

    def _of_aged(
        self,
        shift: AgeShift,
        estimator: AgeEstimator,
        latents: torch.Tensor,
        again: torch.Tensor,
        ages: torch.Tensor,
        target_ages: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses of faces after a shift, for the shift alone: an encoder taught to please here sees less of the person.

        Args:
            latents: of the faces.
            again: the generator's pictures of them.
            ages, target_ages: [N], years.
        """
        ws = shift(latents, ages, target_ages)
        if shift.holds:  # as faces are aged by default
            ws = latents + shift.hold(ws - latents, shift.holds)
        aged = self._picture_of_frozen(ws)
        with self._precision(aged):
            predicted = estimator.predict(aged)
        error = (predicted.float() - target_ages) / DECADE
        losses = {"age": functional.smooth_l1_loss(error, torch.zeros_like(error))}
        if self.recipe.home:
            losses["home"] = ((shift.table - self.group_places).square() / self.w_variance).mean()
        if self.recipe.keep:
            losses["keep"] = functional.mse_loss(_low(aged), _low(again))
        if self.recipe.sex and self.sex_classifier is not None:
            losses["sex"] = divergence(self.sex_classifier(aged), self.sex_classifier(again))
        return losses

    def _draw(self, ws: torch.Tensor) -> torch.Tensor:
        with bfloat16_on_cpu(self.bf16 and self.training):
            return draw(self.generator, ws)

    def _picture_of_frozen(self, ws: torch.Tensor) -> torch.Tensor:
        """As `draw`, but what is wrong with the picture is no fault of the generator's."""
        frozen = {name: value.detach() for name, value in self.generator.synthesis.named_parameters()}
        with bfloat16_on_cpu(self.bf16 and self.training):
            picture = functional_call(self.generator.synthesis, frozen, (ws,), {"noise_mode": "const"})
        return picture.expand(-1, 3, -1, -1)

    def _true_ws(self, faces: Faces) -> torch.Tensor:
        labels = one_hot(faces.classes, self.generator.c_dim).to(faces.z.device)
        with torch.no_grad():
            return self.generator.mapping(faces.z, labels, truncation_psi=self.psi)

    def _mapped(self, faces: Faces) -> torch.Tensor:
        """What the mapping network makes of other z in these faces' age groups, `[N, 1, w_dim]`."""
        classes = torch.zeros(len(faces.ages), dtype=torch.int64)
        if self.generator.c_dim:
            classes = closest_group(faces.ages, self.middle_ages)
        labels = one_hot(classes, self.generator.c_dim).to(faces.ages.device)
        with torch.no_grad():
            return self.generator.mapping(faces.other_z, labels, truncation_psi=self.psi)[:, :1]

    def _of_latents(self, latents: torch.Tensor, faces: Faces) -> dict[str, torch.Tensor]:
        """Losses of the generated faces, whose latents are known."""
        if len(faces.z) == 0:
            return {}
        if self.recipe.target == "z":
            truth, error = faces.z, (latents - faces.z).square()
        else:
            truth = self._true_ws(faces)
            error = (latents - truth).square() / self.w_variance
            latents, truth = (latents - self.encoder.w_mean).flatten(1), (truth - self.encoder.w_mean).flatten(1)
        mse = error.mean()
        cosine = functional.cosine_similarity(latents, truth)
        losses = {"mse": mse}
        if self.recipe.latent:
            losses["latent"] = mse
        if self.recipe.cosine:
            length = latents.square().mean(dim=1).add(1e-8).sqrt()
            losses["cosine"] = (1 - cosine).mean() + (length - cosine.detach().clamp(min=0)).square().mean()
        losses["cosine_similarity"] = cosine.detach().mean()
        return losses

    def _distance_from_home(self, ws: torch.Tensor) -> torch.Tensor:
        """How far the layers' w are from their common mean, and that from the mean of all, in variances."""
        common = ws.mean(dim=1, keepdim=True)
        apart = (ws - common).square() / self.w_variance
        away = (common - self.encoder.w_mean).square() / self.w_variance
        return apart.mean() + 0.2 * away.mean()

    def _feature_distance(self, estimator: AgeEstimator, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Mean squared difference of the estimator's maps, each normalized over its channels (Zhang et al. 2018)."""
        with self._precision(one):
            with torch.no_grad():
                wanted = estimator.features(other)
            pairs = zip(estimator.features(one), wanted, strict=True)
        return torch.stack([(_unit(a) - _unit(b)).square().sum(dim=1).mean() for a, b in pairs]).mean()

    def _precision(self, images: torch.Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16 and self.training)


def closest_group(ages: torch.Tensor, middle_ages: torch.Tensor) -> torch.Tensor:
    """The group of each age [N] whose middle age is closest, which is where `AgeShift` has the group's place."""
    return (ages[:, None] - middle_ages).abs().argmin(dim=1)


def _unit(maps: torch.Tensor) -> torch.Tensor:
    maps = maps.float()
    return maps * torch.rsqrt(maps.square().sum(dim=1, keepdim=True) + 1e-6)


def divergence(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of answers `[N, classes]` from those that are wanted, mean over N."""
    answers = logits.log_softmax(dim=1), wanted.log_softmax(dim=1)
    return functional.kl_div(*answers, reduction="batchmean", log_target=True)


def _low(images: torch.Tensor) -> torch.Tensor:
    return functional.adaptive_avg_pool2d(images, min(LOW_FREQUENCIES, images.shape[-1]))


def _variance_of_w(generator: Generator) -> torch.Tensor:
    """Variance of every number of w, over z and over the age groups: `[w_dim]`."""
    device = next(generator.parameters()).device
    random = torch.Generator().manual_seed(0)
    z = torch.randn([STATISTICS_SAMPLES, generator.z_dim], generator=random).to(device)
    classes = torch.arange(STATISTICS_SAMPLES) % max(generator.c_dim, 1)
    with torch.no_grad():
        ws = generator.mapping(z, one_hot(classes, generator.c_dim).to(device), skip_w_avg_update=True)[:, 0]
    return ws.var(dim=0).clamp(min=1e-8)
