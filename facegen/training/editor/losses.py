"""The editor's losses, and how much each counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from facegen.faces.mask import protection
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate
from facegen.metrics.features import locate_weights
from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.editor import Editor
from facegen.networks.patch_discriminator import PatchDiscriminator
from facegen.networks.sex_classifier import SexClassifier
from facegen.training.age.distort import distort
from facegen.training.editor.data import Batch
from facegen.training.editor.options import NO_NETWORK, EditorOptions
from facegen.training.encoder.identity_loss import IdentityLoss
from facegen.training.encoder.objective import DECADE, divergence
from facegen.training.encoder.sex_direction import knows
from facegen.training.perceptual_loss import PerceptualLoss
from facegen.weights.face_network import load_face_network
from facegen.weights.facenet import VGGFACE2_URL
from facegen.weights.load import load_age_estimator, load_sex_classifier
from facegen.weights.locate import shipped_file

SMALL = 0.05  # of -1..1: differences below count by their square, or a new editor would never dare to change anything
LIFETIME = 60.0  # years between two ages that are as far apart as any
REGIONS = 4
WRONG_AGE = 12.0  # years by which an age must be off to be a wrong one


@dataclass(frozen=True)
class LossWeights:
    """How much each loss counts.

    FRAN (Zoss et al. 2022, section 4) has L1, LPIPS and a patch discriminator on pairs of one person, HRFAE (Yao et al.
    2020, section 3) an age loss, identity and a discriminator on real faces without pairs; this has both. The weights
    were found by looking at pictures, see docs/editor.md.

    Attributes:
        age: error of the age that the estimators see in distorted views of the face, in decades.
        adversarial: logistic loss before the discriminator, which knows real faces of the target age.
        identity: 1 - cosine of features of a face recognition network; counts up to `identity_far` less for far ages.
            Of every `identity_every` faces one is looked at: the network costs as much as the editor.
        sex: Kullback-Leibler divergence of a sex classifier's answer from that to the photo.
        keep: mean size of the change (`size_of`), of two ages close to each other; fades to nothing for far ages.
        same: the same where both ages are equal.
        cycle: mean size of the difference of photo and face after there and back.
        fine: mean size of what is finest in the change: an age loss alone would scratch.
        light: mean size of the change in REGIONS x REGIONS parts of the picture: age lies in no light, but estimators
            take dim and even light for old age.
        spare: mean size of the change in eyes and mouth: black pupils make no child.
        pair: mean size of the difference from what the generator draws, for its own faces.
        features: difference in features (`PerceptualLoss`).
        wrong_age: of the discriminator, how much real faces with a wrong age count beside edited ones.
        r1_gamma: R1 regularization of the discriminator (Mescheder et al. 2018), every `r1_interval` steps.
    """

    age: float = 1.5
    adversarial: float = 1.0
    identity: float = 1.0
    identity_far: float = 0.5
    identity_every: int = 2
    sex: float = 0.3
    keep: float = 0.5
    same: float = 1.0
    cycle: float = 1.0
    fine: float = 1.0
    light: float = 5.0
    spare: float = 20.0
    pair: float = 4.0
    features: float = 1.0
    wrong_age: float = 0.5
    r1_gamma: float = 2.0
    r1_interval: int = 8


WEIGHTS = LossWeights()


@dataclass
class LossSums:
    """What the losses of the last steps add up to: those of `LossWeights`, and what people want to see beside them."""

    steps: int = 0
    loss: float = 0.0
    age: float = 0.0
    adversarial: float = 0.0
    identity: float = 0.0
    sex: float = 0.0
    keep: float = 0.0
    same: float = 0.0
    cycle: float = 0.0
    fine: float = 0.0
    light: float = 0.0
    spare: float = 0.0
    pair: float = 0.0
    features: float = 0.0
    discriminator: float = 0.0
    fake: float = 0.0  # the discriminator's loss of edited faces; 0.69 is a guess
    wrong: float = 0.0  # and of real faces with a wrong age

    def add(self, losses: Mapping[str, float]) -> None:
        """Take in the losses of a step."""
        self.steps += 1
        for name, value in losses.items():
            setattr(self, name, getattr(self, name) + value)

    def means(self) -> dict[str, float]:
        """The mean of each loss over the steps."""
        return {name: value / self.steps for name, value in vars(self).items() if name != "steps"}


@dataclass
class Judges:
    """Networks that an editor learns from and that stay as they are."""

    estimators: list[AgeEstimator]
    identity: IdentityLoss | None
    sex: SexClassifier | None
    features: PerceptualLoss
    template: AlignmentTemplate = UTKFACE_TEMPLATE  # how the faces are aligned

    def to(self, device: torch.device) -> Judges:
        for network in [*self.estimators, self.identity, self.sex, self.features]:
            if network is not None:
                network.to(device).eval().requires_grad_(False)
        return self


def load_judges(options: EditorOptions, size: int, template: AlignmentTemplate, progress: bool) -> Judges:
    """Load the networks that a run learns from.

    Args:
        size: side of the faces in pixels.
        template: how they are aligned.
        progress: show what is downloaded.
    """
    estimators = [load_age_estimator(file)[0] for file in options.age_estimators or [shipped_file("age")]]
    identity: IdentityLoss | None = None
    if options.face_network != NO_NETWORK:
        weights = locate_weights(options.face_network, VGGFACE2_URL, "--face-network", progress)
        identity = IdentityLoss(load_face_network(weights), template, size)
    sex = load_sex_classifier(shipped_file("sex"))[0] if knows(template) else None
    return Judges(estimators, identity, sex, PerceptualLoss(), template)


def editor_losses(
    editor: Editor,
    discriminator: PatchDiscriminator,
    judges: Judges,
    batch: Batch,
    random: torch.Generator,
    weights: LossWeights = WEIGHTS,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return every loss by name, unweighted, their weighted sum as `loss`, and the real faces at their target ages.

    Args:
        batch: faces as `draw_batch` makes it.
        random: draws the distortions.
    """
    images, ages, targets = batch.images, batch.ages, batch.targets
    change, mask = editor.change(torch.cat([images, batch.pair_from]), *batch.all_ages())
    shown = mask * change
    edited_all = torch.cat([images, batch.pair_from]) + shown
    real, same = len(images), batch.same
    edited, shown_real = edited_all[:real], shown[:real]
    moved = edited[same:]
    gap = ((targets - ages).abs() / LIFETIME).clamp(max=1)[same:]
    losses = {"same": size_of(shown_real[:same]).mean()}
    losses["age"] = age_loss(judges.estimators, moved, targets[same:], random)
    losses["adversarial"] = real_or_not(discriminator, judges, moved, targets[same:], real=True).mean()
    full = torch.autocast(images.device.type, enabled=False)  # depthwise convolutions crawl in bfloat16 on a CPU
    if judges.identity is not None:
        some = slice(None, None, weights.identity_every)
        with full:
            cosine = judges.identity.similarity(moved[some].float(), images[same:][some])
        losses["identity"] = ((1 - cosine) * (1 - weights.identity_far * gap[some])).mean()
    if judges.sex is not None:
        with torch.no_grad():
            wanted = judges.sex(images[same:])
        losses["sex"] = divergence(judges.sex(moved), wanted)
    losses["keep"] = (size_of(shown_real[same:]).mean(dim=(1, 2, 3)) * (1 - gap)).mean()
    losses["fine"] = size_of(finest(shown)).mean()
    spared = 1 - torch.from_numpy(protection((images.shape[2], images.shape[3]), judges.template)[..., 0]).to(images)
    losses["spare"] = size_of(shown_real * spared).mean()
    losses["light"] = size_of(functional.adaptive_avg_pool2d(shown_real, REGIONS)).mean()
    part = slice(same, same + batch.cycled)
    back = editor(edited[part], targets[part], ages[part])
    losses["cycle"] = size_of(back - images[part]).mean()
    if len(batch.pair_to):
        drawn = edited_all[real:]
        losses["pair"] = size_of(drawn - batch.pair_to).mean()
        with full:
            losses["features"] = judges.features(drawn.float(), batch.pair_to)
    losses["loss"] = torch.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
    return losses, edited


def discriminator_losses(
    discriminator: PatchDiscriminator,
    judges: Judges,
    batch: Batch,
    edited: torch.Tensor,
    weights: LossWeights = WEIGHTS,
) -> dict[str, torch.Tensor]:
    """Return the discriminator's losses, unweighted, and their weighted sum as `loss`.

    Args:
        batch: the faces of the step.
        edited: the real faces of the batch at their target ages, without gradient.
    """
    same = batch.same
    fake = real_or_not(discriminator, judges, edited[same:], batch.targets[same:], real=False)
    # A real face with a label much too old or too young is as wrong as a drawn one.
    wrong = real_or_not(discriminator, judges, batch.images, batch.targets, real=False)
    is_wrong = ((batch.targets - batch.ages).abs() > WRONG_AGE).float()
    losses = {
        "real": real_or_not(discriminator, judges, batch.like, batch.targets, real=True).mean(),
        "fake": fake.mean(),
        "wrong": (wrong * is_wrong).mean(),
    }
    losses["loss"] = losses["real"] + losses["fake"] + weights.wrong_age * losses["wrong"]
    return losses


def real_or_not(
    discriminator: PatchDiscriminator, judges: Judges, images: torch.Tensor, ages: torch.Tensor, *, real: bool
) -> torch.Tensor:
    """Return the logistic loss of pictures that should be taken for real, or not: `[N]`, mean over all patches."""
    sign = -1 if real else 1
    logits = discriminator(images, ages, judges.features.network(images))
    return torch.stack([functional.softplus(sign * level).mean(dim=(1, 2)) for level in logits]).mean(dim=0)


def r1_loss(
    discriminator: PatchDiscriminator, judges: Judges, batch: Batch, weights: LossWeights = WEIGHTS
) -> torch.Tensor:
    """Return half of r1_gamma times the squared gradient of the logits, as often as it comes."""
    images = batch.like.detach().requires_grad_(True)
    logits = discriminator(images, batch.targets, judges.features.network(images))
    total = torch.stack([level.mean(dim=(1, 2)) for level in logits]).mean(dim=0).sum()
    (gradient,) = torch.autograd.grad(total, images, create_graph=True)
    penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
    return penalty * weights.r1_gamma / 2 * weights.r1_interval


def age_loss(
    estimators: list[AgeEstimator], faces: torch.Tensor, targets: torch.Tensor, random: torch.Generator
) -> torch.Tensor:
    """Return the error, in decades, of the ages that the estimators see in distorted faces; each looks at its share.

    Half of the faces are gray, so that nothing is to be gained from their color.
    """
    gray = faces.mean(dim=1, keepdim=True).expand_as(faces)
    colored = torch.rand(len(faces), generator=random) < 0.5
    faces = torch.where(colored.to(faces.device)[:, None, None, None], faces, gray)
    views, count = distort(faces, random), len(estimators)
    seen = [estimator.predict(views[index::count]) for index, estimator in enumerate(estimators)]
    error = (torch.cat(seen) - torch.cat([targets[index::count] for index in range(count)])) / DECADE
    return functional.smooth_l1_loss(error, torch.zeros_like(error))


def size_of(differences: torch.Tensor) -> torch.Tensor:
    """Return how large differences are: absolute values, but for small ones (Huber)."""
    return functional.smooth_l1_loss(differences, torch.zeros_like(differences), reduction="none", beta=SMALL)


def finest(pictures: torch.Tensor) -> torch.Tensor:
    """Return what half as many pixels cannot show."""
    coarse = functional.interpolate(
        functional.avg_pool2d(pictures, 2), pictures.shape[2:], mode="bilinear", align_corners=False
    )
    return pictures - coarse
