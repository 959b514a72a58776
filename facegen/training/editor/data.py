"""The faces that an editor learns from: real ones of known ages, and what a generator draws at two ages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.images import to_float
from facegen.networks.age_shift import AgeShift
from facegen.networks.editor import CENTURY
from facegen.networks.generator import Generator
from facegen.networks.latents import draw
from facegen.training.age.data import AgedFaces, load_aged_faces
from facegen.training.editor.options import EditorOptions
from facegen.training.encoder.pairs import one_hot
from facegen.training.generator.batches import picture_weights

SEX = "gender"  # the attribute of an archive by which faces of the target age are chosen alike
SAME = 0.125  # share of a batch whose two ages are equal
CYCLED = 0.25  # share of a batch that goes there and back
FEWEST = 4  # faces: two to learn from, two to show
HELD_BACK = 40  # faces to show and to measure


@dataclass
class RealFaces:
    """N real faces on the CPU.

    faces: pictures and exact ages.
    chances: float64 [N], how often each is drawn.
    kinds: int64 [N], such as 0 for women, 1 for men: a face of kind k is compared with others of kind k.
    """

    faces: AgedFaces
    chances: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def images(self) -> torch.Tensor:
        """uint8 [N, 3, S, S]."""
        return self.faces.images

    @property
    def ages(self) -> torch.Tensor:
        """float32 [N], years."""
        return self.faces.ages.float()

    def part(self, indices: np.ndarray) -> RealFaces:
        """These faces alone."""
        chances = self.chances[indices]
        return RealFaces(self.faces.part(indices), chances / chances.sum(), self.kinds[indices])

    def youngest_and_oldest(self) -> tuple[float, float]:
        """What an editor that learns from them knows of ages; beyond a century there are too few faces."""
        return float(self.ages.min()), min(float(self.ages.max()), CENTURY)

    def split(self) -> tuple[RealFaces, RealFaces]:
        """The faces to learn from, and a few of all ages that are held back."""
        order = np.argsort(self.ages.numpy(), kind="stable")
        held = order[np.linspace(0, len(order) - 1, min(HELD_BACK, len(order) // 2)).astype(int)]
        return self.part(np.setdiff1d(order, held)), self.part(held)


def load_real_faces(archive: FaceArchive, balance: float, *, progress: bool = True) -> RealFaces:
    """Decode the faces of a training archive whose age is known exactly.

    Args:
        balance: see `EditorOptions`.

    Raises:
        FacegenError: too few faces with ages.
    """
    faces = load_aged_faces(archive.path, archive.resolution, progress=progress)
    if len(faces) < FEWEST:
        raise FacegenError(f"{archive.path}: {len(faces)} faces with exact ages: an editor needs {FEWEST} at least")
    try:
        ages = [] if archive.ages is None else archive.ages.tolist()
        values = [value for value, age in zip(archive.attribute(SEX), ages, strict=True) if age >= 0]
    except FacegenError:  # an archive that does not know the sex: one kind for all
        values = [None] * len(faces)
    kinds = np.unique([str(value) for value in values], return_inverse=True)[1]
    chances = picture_weights(faces.classes, balance, values)
    return RealFaces(faces, chances, kinds)


class Teacher:
    """Draws pairs of one person at two ages.

    Args:
        generator: conditional on age groups.
        shift: how ages differ in its w.
        size: side of the pictures in pixels; they are resized.
    """

    def __init__(self, generator: Generator, shift: AgeShift, size: int) -> None:
        self.generator, self.shift, self.size = generator, shift, size

    @torch.no_grad()
    def pairs(
        self, count: int, random: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return faces `[count, 3, S, S]` in -1..1, their ages, the same people at other ages, and these ages."""
        generator, shift = self.generator, self.shift
        device = next(generator.parameters()).device
        if count == 0:
            nothing = torch.zeros(0, 3, self.size, self.size, device=device)
            return nothing, nothing[:, 0, 0, 0], nothing, nothing[:, 0, 0, 0]
        z = torch.randn([count, generator.z_dim], generator=random).to(device)
        classes = torch.randint(generator.c_dim, [count], generator=random)
        middles = torch.tensor(shift.ages, device=device)
        ages = middles[classes.to(device)]
        targets = middles[0] + torch.rand(count, generator=random).to(device) * (middles[-1] - middles[0])
        ws = generator.mapping(z, one_hot(classes, generator.c_dim).to(device))
        step = shift.place(targets) - shift.place(ages)
        moved = ws + (shift.hold(step, shift.holds) if shift.holds else step)
        faces = draw(generator, torch.cat([ws, moved])).clamp(-1, 1)
        if faces.shape[-1] != self.size:
            faces = functional.interpolate(faces, (self.size, self.size), mode="bicubic", antialias=True)
        one, other = faces.clamp(-1, 1).chunk(2)
        back = (torch.rand(count, generator=random) < 0.5).to(device)  # drawn ages are where the generator is at home
        swap = back[:, None, None, None]
        return (
            torch.where(swap, other, one),
            torch.where(back, targets, ages),
            torch.where(swap, one, other),
            torch.where(back, ages, targets),
        )


@dataclass
class Batch:
    """The faces of a step, on the device.

    images: float32 [N, 3, S, S] in -1..1, real faces; ages, targets: [N], years.
    like: [N, 3, S, S], real faces of other people, of the target ages, of the same kind.
    same: how many of them, the first ones, have their own age as target.
    cycled: how many of those that follow go there and back.
    pair_from, pair_ages, pair_to, pair_targets: the generator's pairs, see `Teacher.pairs`.
    """

    images: torch.Tensor
    ages: torch.Tensor
    targets: torch.Tensor
    like: torch.Tensor
    same: int
    cycled: int
    pair_from: torch.Tensor
    pair_ages: torch.Tensor
    pair_to: torch.Tensor
    pair_targets: torch.Tensor

    def all_ages(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Ages and targets of real faces and pairs."""
        return torch.cat([self.ages, self.pair_ages]), torch.cat([self.targets, self.pair_targets])


def draw_batch(
    faces: RealFaces, teacher: Teacher, options: EditorOptions, step: int, device: torch.device
) -> tuple[Batch, torch.Generator]:
    """Draw the batch of a step, and what draws the rest of it; both depend on the seed and the step alone."""
    rng = np.random.default_rng([options.seed, step])
    pairs = round(options.batch * options.generated)
    count = options.batch - pairs
    indices = rng.choice(len(faces), count, p=faces.chances)
    likes = _alike(faces, indices, rng)
    same = max(1, round(count * SAME))
    likes[:same] = indices[:same]
    random = torch.Generator().manual_seed(int(rng.integers(2**62)))
    pair_from, pair_ages, pair_to, pair_targets = teacher.pairs(pairs, random)
    pictures = [_pictures(faces, chosen, rng, device) for chosen in (indices, likes)] + [pair_from, pair_to]
    if options.is_coarse(step):
        pictures = [functional.avg_pool2d(picture, 2) for picture in pictures]
    batch = Batch(
        images=pictures[0],
        ages=faces.ages[indices].to(device),
        targets=faces.ages[likes].to(device),
        like=pictures[1],
        same=same,
        cycled=max(1, round(count * CYCLED)),
        pair_from=pictures[2],
        pair_ages=pair_ages,
        pair_to=pictures[3],
        pair_targets=pair_targets,
    )
    return batch, random


def _alike(faces: RealFaces, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each face another of its kind, of any age."""
    chosen = np.empty(len(indices), np.int64)
    for kind in np.unique(faces.kinds[indices]):
        members = np.flatnonzero(faces.kinds == kind)
        chances = faces.chances[members]
        mine = faces.kinds[indices] == kind
        chosen[mine] = rng.choice(members, int(mine.sum()), p=chances / chances.sum())
    return chosen


def _pictures(faces: RealFaces, indices: np.ndarray, rng: np.random.Generator, device: torch.device) -> torch.Tensor:
    """Some faces as the networks take them, every other one mirrored."""
    images = to_float(faces.images[indices].to(device))
    mirrored = torch.from_numpy(rng.random(len(indices)) < 0.5).to(device)[:, None, None, None]
    return torch.where(mirrored, images.flip(3), images).contiguous(memory_format=torch.channels_last)
