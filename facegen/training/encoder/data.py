"""The faces that an encoder learns from: generated ones with their latents, real ones, and their batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from facegen.ages import AgeGroups
from facegen.errors import FacegenError
from facegen.figures.grids import MIN_TILE
from facegen.images import to_float
from facegen.networks.generator import Generator
from facegen.training.encoder.objective import Faces
from facegen.training.encoder.options import MOST_VALIDATING, TRAINING_SHARE, EncoderOptions
from facegen.training.encoder.pairs import Pairs, generate_pairs
from facegen.training.encoder.real_faces import RealFaces, load_real_faces
from facegen.training.run import distributed
from facegen.weights.header import Header


@dataclass
class FaceData:
    """What the encoder learns from and is validated on. `ages` are the middle ages of the generator's groups."""

    training: Pairs
    validation: Pairs
    ages: torch.Tensor
    real_training: RealFaces | None = None
    real_validation: RealFaces | None = None

    @property
    def baseline(self) -> float:
        """The error of predicting the mean training z for every face: 1, up to chance. An encoder must beat it.

        The error of w is measured in its variance, so that it has the same baseline.
        """
        return float((self.validation.z - self.training.z.mean(dim=0)).square().mean())

    def ages_of(self, classes: torch.Tensor) -> torch.Tensor:
        """Years [N] that generated faces of these classes stand for; 0 without age groups."""
        return self.ages[classes] if len(self.ages) else torch.zeros(len(classes))


def load_data(
    options: EncoderOptions, generator: Generator, header: Header, device: torch.device, progress: bool
) -> FaceData:
    """Generate the pairs and decode the real faces, each in two parts: to train on, and to validate."""
    pairs = generate_pairs(
        generator,
        options.pairs,
        seed=options.seed,
        psi=options.psi,
        max_size=None if options.chosen_recipe().sees_pictures else max(options.input_size, MIN_TILE),
        device=device,
        progress=progress,
    )
    training, validation = pairs.split(max(TRAINING_SHARE, 1 - MOST_VALIDATING / len(pairs)))
    data = FaceData(training, validation, torch.tensor(middle_ages(generator, header)))
    if options.data is not None and options.chosen_recipe().real:
        real = load_real_faces(options.data, groups_of(generator, header), generator.img_resolution, progress=progress)
        data.real_training, data.real_validation = real.split(options.seed)
    return data


@dataclass(frozen=True)
class Batch:
    """A batch: which generated and which real faces, which of those to mirror, ages to shift to, and other faces' z."""

    generated: torch.Tensor
    real: torch.Tensor
    mirrored: torch.Tensor
    target_ages: torch.Tensor
    other_z: torch.Tensor

    def mine(self, data: FaceData, device: torch.device) -> tuple[Faces, torch.Tensor]:
        """This process's share of the faces, and the ages to shift them to."""
        return self.share(slice(distributed.rank(), None, distributed.world_size()), data, device)

    def share(self, part: slice, data: FaceData, device: torch.device) -> tuple[Faces, torch.Tensor]:
        """Some of the faces, generated and real ones alike, and the ages to shift them to."""
        generated, real, targets = self.generated[part], self.real[part], self.target_ages[part]
        images, ages = data.training.images[generated], data.ages_of(data.training.classes[generated])
        if data.real_training is not None:
            pictures = data.real_training.images[real]
            mirrored = self.mirrored[part][:, None, None, None]
            images = torch.cat([images, torch.where(mirrored, pictures.flip(3), pictures)])
            ages = torch.cat([ages, data.real_training.ages[real]])
        return make_batch(images, ages, data.training, generated, self.other_z[part], device), targets.to(device)


def make_batch(
    images: torch.Tensor,
    ages: torch.Tensor,
    pairs: Pairs,
    generated: torch.Tensor,
    other_z: torch.Tensor,
    device: torch.device,
) -> Faces:
    """A batch on the device: pictures and ages of all, latents and classes of the generated ones; other faces' z."""
    pictures = to_float(images.to(device)).contiguous(memory_format=torch.channels_last)
    z, classes = pairs.z[generated].to(device), pairs.classes[generated]
    return Faces(pictures, ages.to(device), z, classes, other_z.to(device))


def epoch_batches(count: int, options: EncoderOptions, epoch: int, data: FaceData) -> Iterator[Batch]:
    """Shuffled batches; the same for the same seed and epoch, so that a resumed epoch continues where it was.

    The last, incomplete batch is left out: batch normalization wants full ones. Where part of a batch is real, an epoch
    has no more batches, so that one is as long as another.
    """
    seed = options.seed * 100_003 + epoch
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    real_faces = data.real_training
    steps, real = count // options.batch, 0 if real_faces is None else options.real_in_batch()
    targets = target_ages_for(steps * options.batch, data.ages, seed).split(options.batch)
    other_z = other_z_for(steps * options.batch, data.training, seed).split(options.batch)
    drawn = torch.zeros(0, dtype=torch.int64)
    mirrored = drawn.bool()
    if real_faces is not None and real:
        drawn, mirrored = real_faces.draw(steps * real, seed)
    for step in range(steps):
        start, first = step * options.batch, step * real
        yield Batch(
            order[start : start + options.batch - real],
            drawn[first : first + real],
            mirrored[first : first + real],
            targets[step],
            other_z[step],
        )


def target_ages_for(count: int, ages: torch.Tensor, seed: int) -> torch.Tensor:
    """Ages [count] to shift faces to: any, from the middle of the first group to that of the last."""
    share = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    return ages[0] + share * (ages[-1] - ages[0]) if len(ages) else share * 0


def other_z_for(count: int, pairs: Pairs, seed: int) -> torch.Tensor:
    """Random latents [count, z_dim]."""
    return torch.randn(count, pairs.z.shape[1], generator=torch.Generator().manual_seed(seed))


def groups_of(generator: Generator, header: Header) -> AgeGroups:
    """The generator's age groups: those of its file, or the default ten."""
    groups = header.groups or AgeGroups.default()
    if len(groups) != generator.c_dim:
        raise FacegenError(
            f"the generator has {generator.c_dim} classes, but there are {len(groups)} age groups: "
            "this recipe needs a generator that was trained on age groups"
        )
    return groups


def middle_ages(generator: Generator, header: Header) -> list[float]:
    """The middle age of each group; of classes that are no age groups, their numbers; none without classes."""
    if header.groups is None and generator.c_dim != len(AgeGroups.default()):
        return [float(index) for index in range(generator.c_dim)]
    groups = groups_of(generator, header)
    return [float(groups.middle_age(index)) for index in range(len(groups))]
