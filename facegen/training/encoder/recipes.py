"""What an encoder learns from: which latent, which losses, generated faces or real ones too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from facegen.errors import FacegenError

Loss = TypeVar("Loss")  # a number or a tensor


@dataclass(frozen=True)
class Recipe:
    """The weights of an encoder's losses; a loss of weight 0 is not computed.

    Attributes:
        target: `z`, `w` or `w+`, see `Encoder`.
        latent: Squared error of the latent of generated faces, each number in units of its variance.
        cosine: 1 - cosine of z and its guess, for the target z. Length says nothing in z, which the mapping network
            normalizes; so the guess's length is taught to say how good the guess is.
        pixels: Squared error of the picture that the generator makes of the latent, levels -1..1.
        features: Distance of the two pictures in the age estimator's inner layers.
        perceptual: Distance of the two pictures by the features of a classifier of photos (`PerceptualLoss`).
        identity: 1 - cosine of the two pictures' features in a face recognition network.
        near: Squared distance of the layers' w from their mean over the layers, plus 0.2 times that of this mean from
            the mean of all w, in variances (Tov et al. 2021, section 4). There the generator was trained, and a step
            in w means the same for everybody.
        adversarial: Logistic loss of the layers' w before a `LatentDiscriminator`, which learns to tell them from those
            of the mapping network.
        age: Error of the age that the estimator sees in the face after a shift to a random age, in decades. It teaches
            the age groups' places (`AgeShift`), not the encoder.
        home: Squared distance of the age groups' places (`AgeShift`) from the groups' mean w, in variances: age alone
            would move them until only the estimator is content.
        keep: Squared difference between the face after that shift and the reconstruction, both reduced to 8x8 pixels:
            aging leaves pose, light and background as they are.
        sex: Kullback-Leibler divergence of a sex classifier's answer to the face after that shift from that to the
            reconstruction: aging makes no woman a man. It teaches the age groups' places, too.
        real: Share of real faces in a batch; they teach by all losses but those of the latent, which is unknown.
        tune: Train the generator's synthesis too, at this multiple of the learning rate, for pixels and features alone:
            not for the age, which it would learn to feign.
        anchor: While the generator is tuned, squared error of the pictures that it makes of the generated faces' true
            latents, so that it keeps what it knew (the locality regularization of Roich et al. 2021, section 3.3).
    """

    target: str = "z"
    latent: float = 0.0
    cosine: float = 0.0
    pixels: float = 0.0
    features: float = 0.0
    perceptual: float = 0.0
    identity: float = 0.0
    near: float = 0.0
    adversarial: float = 0.0
    age: float = 0.0
    home: float = 0.0
    keep: float = 0.0
    sex: float = 0.0
    real: float = 0.0
    tune: float = 0.0
    anchor: float = 0.0

    def __post_init__(self) -> None:
        if self.target == "z" and (self.sees_pictures or self.near or self.adversarial):
            raise FacegenError("z can only be compared with z: losses of pictures and of w need the target w or w+")
        if self.cosine and self.target != "z":
            raise FacegenError("the cosine loss is for the target z, whose length says nothing")

    def weighted_sum(self, losses: Mapping[str, Loss]) -> Loss:
        """The sum of those losses that have a weight here."""
        return sum(getattr(self, name) * loss for name, loss in losses.items() if hasattr(self, name))

    @property
    def sees_pictures(self) -> bool:
        """Whether the generator is part of the loss."""
        return max(self.pixels, self.features, self.perceptual, self.identity, self.age, self.keep) > 0

    @property
    def needs_estimator(self) -> bool:
        """Whether the age estimator is part of the loss."""
        return max(self.features, self.age) > 0


SEX, PERCEPTUAL, IDENTITY = 0.3, 0.15, 1.0  # weights of the losses called so
AGE = Recipe("w+", latent=0.1, pixels=4, features=1, real=0.75, near=0.01, age=0.3, home=1.5, keep=1, sex=SEX)
# Each of the later ones adds one thing to the one before, so that a table of them tells what each thing is worth.
RECIPES = {
    "zmse": Recipe("z", latent=1),
    "zcos": Recipe("z", cosine=1),
    "w": Recipe("w", latent=1),
    "w+": Recipe("w+", latent=1),
    "image": Recipe("w+", latent=0.1, pixels=4, features=1),
    "real": Recipe("w+", latent=0.1, pixels=4, features=1, real=0.75),
    "near": Recipe("w+", latent=0.1, pixels=4, features=1, real=0.75, near=0.01),
    "adversarial": Recipe("w+", latent=0.1, pixels=4, features=1, real=0.75, adversarial=0.02),
    "age": AGE,
    # Needs face recognition weights, which are downloaded.
    "identity": replace(AGE, perceptual=PERCEPTUAL, identity=IDENTITY),
    # Goes on from an encoder of `age` or `identity`: --init its file. Only with --face-network it keeps people by it.
    "tune": replace(AGE, perceptual=PERCEPTUAL, tune=1, anchor=4),
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name; a FacegenError that lists them for another name."""
    if name not in RECIPES:
        raise FacegenError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
