from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import crops, small_generator, write_faces
from refusals import assert_refused
from torch import nn

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter, FaceArchive
from facegen.images import encode_png, to_float
from facegen.networks.age_shift import group_mean_shift
from facegen.networks.editor import Editor
from facegen.networks.latents import group_means
from facegen.networks.patch_discriminator import PatchDiscriminator
from facegen.training.age.data import AgedFaces
from facegen.training.editor.data import RealFaces, Teacher, draw_batch, load_real_faces
from facegen.training.editor.losses import (
    Judges,
    LossSums,
    LossWeights,
    age_loss,
    discriminator_losses,
    editor_losses,
    finest,
    r1_loss,
    size_of,
)
from facegen.training.editor.options import EditorOptions

CPU = torch.device("cpu")
MIDDLES = [5.0, 40.0, 80.0]


class BrightnessAge(nn.Module):
    """Takes bright faces for old ones: -1 is 0 years, 1 is 100."""

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        return (images.mean(dim=(1, 2, 3)) + 1) * 50


class Identity(nn.Module):
    def similarity(self, images: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
        return 1 - (images - originals).abs().mean(dim=(1, 2, 3))


class Sex(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))[:, :2]


class Features(nn.Module):
    def network(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images[:, :, ::2, ::2], images[:, :, ::4, ::4]]

    def forward(self, images: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
        return (images - originals).square().mean()


@pytest.fixture
def judges() -> Judges:
    return Judges([BrightnessAge()], Identity(), Sex(), Features())


@pytest.fixture(scope="module")
def faces() -> RealFaces:
    """Forty faces of all ages; every other one a man's."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, 3, 16, 16), generator=random, dtype=torch.uint8)
    aged = AgedFaces(images, torch.arange(40) * 2, AgeGroups.default())
    return RealFaces(aged, np.full(40, 1 / 40), np.arange(40) % 2)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    generator = small_generator(3)
    return Teacher(generator, group_mean_shift(group_means(generator), generator.num_ws, MIDDLES), 16)


def options(**changes: object) -> EditorOptions:
    return EditorOptions(**{"data": "faces.zip", "batch": 16, "generated": 0.25, "coarse": 0.0, **changes})


def networks() -> tuple[Editor, PatchDiscriminator]:
    torch.manual_seed(0)
    editor = Editor((8, 8), outer=8, inner_size=16)
    for parameter in editor.parameters():
        nn.init.normal_(parameter, std=0.1)
    return editor, PatchDiscriminator((4, 8, 8), maps=(3, 3), hidden=8)


# -- the batches


def test_a_batch_depends_on_seed_and_step_alone(faces: RealFaces, teacher: Teacher):
    def drawn(seed: int, step: int) -> torch.Tensor:
        batch, random = draw_batch(faces, teacher, options(seed=seed), step, CPU)
        return torch.cat([batch.images, batch.like, batch.pair_from, torch.rand(1, 3, 16, 16, generator=random)])

    one = drawn(0, 7)
    torch.rand(3)
    assert torch.equal(one, drawn(0, 7))
    assert not torch.equal(one, drawn(0, 8))
    assert not torch.equal(one, drawn(1, 7))


def test_faces_are_compared_with_their_kind(faces: RealFaces, teacher: Teacher):
    """A woman at 70 with women of 70; so nothing is to be gained from the sex."""
    batch, _ = draw_batch(faces, teacher, options(batch=32), 0, CPU)
    assert len(batch.images) == len(batch.like) == 24
    # Ages are even numbers, and faces of an odd place, men, are of 2, 6, 10, ... years.
    assert torch.equal(batch.ages % 4, batch.targets % 4)
    assert torch.equal(batch.ages[: batch.same], batch.targets[: batch.same])
    assert (batch.ages[batch.same :] != batch.targets[batch.same :]).float().mean() > 0.8
    known = {
        image.numpy().tobytes(): age for image, age in zip(to_float(faces.images), faces.ages.tolist(), strict=True)
    }
    for image, age in zip([*batch.images, *batch.like], [*batch.ages, *batch.targets], strict=True):
        as_it_is, mirrored = (known.get(x.contiguous().numpy().tobytes()) for x in (image, image.flip(2)))
        assert float(age) in (as_it_is, mirrored)


def test_the_beginning_learns_from_half_the_size(faces: RealFaces, teacher: Teacher):
    chosen = options(kimg=0.16, coarse=0.5)  # ten steps
    for step, size in ((0, 8), (4, 8), (5, 16), (9, 16)):
        batch, _ = draw_batch(faces, teacher, chosen, step, CPU)
        assert {x.shape[-1] for x in (batch.images, batch.like, batch.pair_from, batch.pair_to)} == {size}


def test_pairs_are_of_one_person_at_two_ages(teacher: Teacher):
    one, ages, other, targets = teacher.pairs(64, torch.Generator().manual_seed(0))
    assert one.shape == other.shape == (64, 3, 16, 16)
    assert one.abs().max() <= 1
    at_home = torch.tensor(MIDDLES)
    from_home, to_home = (torch.isin(years, at_home) for years in (ages, targets))
    assert (from_home | to_home).all()
    assert 10 < to_home.sum() < 54  # both ways
    apart = (one - other).square().mean(dim=(1, 2, 3))
    strangers = (one - other.roll(1, dims=0)).square().mean(dim=(1, 2, 3))
    assert apart.mean() < 0.5 * strangers.mean()


def test_no_pairs(faces: RealFaces, teacher: Teacher):
    batch, _ = draw_batch(faces, teacher, options(generated=0), 0, CPU)
    assert len(batch.images) == 16
    assert batch.pair_from.shape == batch.pair_to.shape == (0, 3, 16, 16)


def test_faces_of_an_archive(tmp_path):
    ages = [None, 3, 31, 32, 33, 34, 80, None]
    found = load_real_faces(FaceArchive(write_faces(tmp_path / "faces.zip", ages)), 1.0, progress=False)
    assert found.ages.tolist() == [3, 31, 32, 33, 34, 80]
    assert found.chances.sum() == pytest.approx(1)
    assert found.chances[0] == pytest.approx(found.chances[1:5].sum())  # groups alike
    training, held = found.split()
    assert len(training) + len(held) == 6
    assert {3, 80} <= set(held.ages.tolist())  # of all ages
    assert not set(training.ages.tolist()) & set(held.ages.tolist())
    assert training.chances.sum() == pytest.approx(1)


@pytest.mark.parametrize(("ages", "words"), [([None] * 5, "it has no exact ages"), ([30, 40, 50, None], "3 faces")])
def test_an_archive_with_few_ages(tmp_path, ages: list, words: str):
    archive = FaceArchive(write_faces(tmp_path / "faces.zip", ages))
    assert_refused(words, load_real_faces, archive, 1.0, progress=False)


def test_women_and_men_are_two_kinds(tmp_path):
    with ArchiveWriter(tmp_path / "faces.zip", groups=AgeGroups.default()) as writer:
        for index, picture in enumerate(crops(6, 16)):
            attributes = {"gender": ("female", "male")[index % 2]}
            age = None if index == 2 else 31 + index
            writer.add_png(f"{index}.png", encode_png(picture), 3, age, **attributes)
    found = load_real_faces(FaceArchive(tmp_path / "faces.zip"), 0.0, progress=False)
    assert found.ages.tolist() == [31, 32, 34, 35, 36]
    assert found.kinds.tolist() == [0, 1, 1, 0, 1]
    assert found.chances[found.kinds == 0].sum() == pytest.approx(0.5)  # drawn alike


# -- the losses


def test_an_editor_that_changes_nothing(faces: RealFaces, teacher: Teacher, judges: Judges):
    batch, random = draw_batch(faces, teacher, options(), 0, CPU)
    losses, edited = editor_losses(Editor((8, 8), outer=8, inner_size=16), networks()[1], judges, batch, random)
    assert torch.equal(edited, batch.images)
    for name in ("same", "identity", "sex", "keep", "fine", "light", "spare", "cycle"):
        assert losses[name].item() == pytest.approx(0, abs=1e-6), name
    torch.testing.assert_close(losses["pair"], size_of(batch.pair_from - batch.pair_to).mean())
    assert losses["age"] > 0.5


def test_the_sum_is_weighted(faces: RealFaces, teacher: Teacher, judges: Judges):
    batch, random = draw_batch(faces, teacher, options(), 0, CPU)
    weights = LossWeights()
    losses, _ = editor_losses(*networks(), judges, batch, random, weights)
    total = sum(getattr(weights, name) * float(loss) for name, loss in losses.items() if name != "loss")
    assert float(losses["loss"]) == pytest.approx(total, rel=1e-5)
    for name, loss in losses.items():
        assert loss.ndim == 0, name
        assert float(loss) > 0, name


def test_without_judges_of_identity_and_sex(faces: RealFaces, teacher: Teacher):
    batch, random = draw_batch(faces, teacher, options(generated=0), 0, CPU)
    losses, _ = editor_losses(*networks(), Judges([BrightnessAge()], None, None, Features()), batch, random)
    assert not {"identity", "sex", "pair", "features"} & set(losses)


def test_every_weight_of_the_editor_learns(faces: RealFaces, teacher: Teacher, judges: Judges):
    editor, discriminator = networks()
    batch, random = draw_batch(faces, teacher, options(), 0, CPU)
    editor_losses(editor, discriminator, judges, batch, random)[0]["loss"].backward()
    for name, parameter in editor.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_each_estimator_looks_at_its_share():
    class Always(nn.Module):
        def __init__(self, age: float) -> None:
            super().__init__()
            self.age, self.seen = age, 0

        def predict(self, images: torch.Tensor) -> torch.Tensor:
            self.seen += len(images)
            return torch.full([len(images)], self.age)

    one, other = Always(30), Always(50)
    targets = torch.tensor([30.0, 50.0, 30.0, 50.0, 30.0])
    loss = age_loss([one, other], torch.zeros(5, 3, 16, 16), targets, torch.Generator().manual_seed(0))
    assert (one.seen, other.seen) == (3, 2)
    assert float(loss) == 0


def test_the_discriminator_knows_wrong_ages(faces: RealFaces, teacher: Teacher, judges: Judges):
    batch, _ = draw_batch(faces, teacher, options(), 0, CPU)
    losses = discriminator_losses(networks()[1], judges, batch, batch.images)
    total = losses["real"] + losses["fake"] + 0.5 * losses["wrong"]
    torch.testing.assert_close(losses["loss"], total)
    batch.targets = batch.ages
    assert float(discriminator_losses(networks()[1], judges, batch, batch.images)["wrong"]) == 0


def test_r1_is_the_squared_gradient(faces: RealFaces, teacher: Teacher, judges: Judges):
    class Sum(nn.Module):
        """The gradient of its mean logit is 3 in every pixel of the first channel."""

        def forward(self, images: torch.Tensor, ages: torch.Tensor, maps: list[torch.Tensor]) -> list[torch.Tensor]:
            return [3 * images[:, :1].sum(dim=(1, 2, 3))[:, None, None].expand(-1, 4, 4)]

    batch, _ = draw_batch(faces, teacher, options(), 0, CPU)
    loss = r1_loss(Sum(), judges, batch, LossWeights(r1_gamma=2.0, r1_interval=4))
    assert float(loss) == pytest.approx(9 * 16 * 16 * 4)


def test_the_finest_is_what_half_the_pixels_cannot_show():
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    assert finest(ramp)[..., 1:-1].abs().max() < 1e-5
    stripes = (torch.arange(32) % 2).float().expand(1, 1, 32, 32)
    assert finest(stripes).abs().mean() == pytest.approx(0.5)


def test_sizes_of_differences():
    differences = torch.tensor([0.0, 0.01, -0.05, 1.0, -2.0])
    torch.testing.assert_close(size_of(differences), torch.tensor([0, 0.001, 0.025, 0.975, 1.975]))


def test_sums_become_means():
    sums = LossSums()
    sums.add({"loss": 1.0, "age": 2.0})
    sums.add({"loss": 3.0, "age": 4.0})
    assert sums.means()["loss"] == 2
    assert sums.means()["age"] == 3
