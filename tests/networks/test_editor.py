from __future__ import annotations

import pytest
import torch
from refusals import assert_refused

from facegen.networks.editor import Editor
from facegen.networks.patch_discriminator import PatchDiscriminator

SMALL = {"widths": (8, 16), "outer": 8, "inner_size": 16}


@pytest.fixture
def editor() -> Editor:
    """With random weights everywhere, as if it had learned."""
    torch.manual_seed(0)
    editor = Editor(**SMALL)
    for parameter in editor.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return editor.eval().requires_grad_(False)


def faces(count: int, height: int, width: int | None = None) -> torch.Tensor:
    return torch.rand(count, 3, height, width or height, generator=torch.Generator().manual_seed(1)) * 2 - 1


def years(*ages: float) -> torch.Tensor:
    return torch.tensor(ages)


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (128, 128)])
def test_pictures_of_any_size(editor: Editor, size: tuple[int, int]):
    images = faces(2, *size)
    change, mask = editor.change(images, years(20, 40), years(70, 5))
    assert change.shape == images.shape
    assert mask.shape == (2, 1, *size)
    assert 0 <= mask.min() <= mask.max() <= 1
    torch.testing.assert_close(editor(images, years(20, 40), years(70, 5)), images + mask * change)


def test_a_new_editor_changes_nothing():
    images = faces(2, 32)
    assert torch.equal(Editor(**SMALL)(images, years(20, 40), years(70, 5)), images)


def test_every_age_counts(editor: Editor):
    images = faces(1, 32).expand(4, -1, -1, -1)
    edited = editor(images, years(20, 20, 30, 20), years(60, 61, 60, 60))
    assert torch.equal(edited[0], edited[3])
    for other in (1, 2):
        assert (edited[0] - edited[other]).abs().max() > 1e-4


def test_a_face_does_not_depend_on_its_batch(editor: Editor):
    images, ages, targets = faces(3, 32), years(20, 40, 60), years(70, 5, 30)
    whole = editor(images, ages, targets)
    for index in range(3):
        one = slice(index, index + 1)
        torch.testing.assert_close(editor(images[one], ages[one], targets[one]), whole[one])


def test_the_inner_part_sees_faces_at_one_size(editor: Editor):
    """So the plan of a face hardly depends on the photo's resolution."""
    small = faces(1, 16)
    large = torch.nn.functional.interpolate(small, (64, 64), mode="bilinear", align_corners=False)
    ages, targets = years(20), years(70)
    one, other = (editor.plan(images, ages, targets) for images in (small, large))
    assert one.shape == other.shape == (1, 8, 16, 16)
    blurred = (one - other).abs().mean() / one.abs().mean()  # up and down again costs some sharpness
    assert blurred < 0.5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"widths": ()}, "1 to 6 widths"),
        ({"widths": (8,) * 7}, "1 to 6 widths"),
        ({"widths": (8, 12)}, "multiples of 8"),
        ({"widths": (8, 1024)}, "multiples of 8"),
        ({"outer": 4}, "multiples of 8"),
        ({"inner_size": 15}, "cannot halve"),
        ({"inner_size": 4}, "cannot halve"),
        ({"inner_size": 2**20}, "cannot halve"),
        ({"ages": (50,)}, "youngest and the oldest"),
        ({"ages": (50, 50)}, "youngest and the oldest"),
        ({"ages": (-1, 50)}, "youngest and the oldest"),
        ({"ages": (0, float("nan"))}, "youngest and the oldest"),
    ],
)
def test_impossible_shapes(change: dict, reason: str):
    assert_refused(reason, Editor, **{**SMALL, **change})


# -- the discriminator


def judged(images: torch.Tensor, ages: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator((4, 8, 8, 8), maps=(3,), hidden=8)
    return discriminator(images, ages, [images[:, :, ::2, ::2]])


def test_a_logit_for_each_patch():
    shapes = [level.shape for level in judged(faces(2, 32), years(20, 40))]
    assert shapes == [(2, 8, 8), (2, 4, 4), (2, 16, 16)]


def test_the_discriminator_looks_at_ages():
    for level in judged(faces(1, 32).expand(2, -1, -1, -1), years(20, 80)):
        assert (level[0] - level[1]).abs().max() > 1e-4


def test_a_patch_sees_only_its_surroundings():
    images = faces(1, 64)
    changed = images.clone()
    changed[:, :, :, 32:] = 0
    pairs = zip(judged(images, years(20)), judged(changed, years(20)), strict=True)
    for one, other in list(pairs)[:2]:  # the maps are normalized as a whole
        assert torch.equal(one[:, :, 0], other[:, :, 0])
        assert not torch.equal(one[:, :, -1], other[:, :, -1])
