"""Batches: order by seed and position alone, mirroring, balance, memory or workers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from trainings import assert_same

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter, FaceArchive
from facegen.errors import FacegenError
from facegen.images import encode_png
from facegen.training.draws import Part
from facegen.training.generator import batches as batches_module
from facegen.training.generator.batches import Batches, class_weights, picture_weights


@pytest.fixture(scope="module")
def archive(face_archive):
    return FaceArchive(face_archive)


def at(position: int, batches: Batches) -> Batches:
    """Let batches go on where an earlier run stopped."""
    batches.position = position
    return batches


def take(stream, count):
    return [next(stream) for _ in range(count)]


def test_shapes_and_labels(archive):
    images, labels = next(Batches(archive, 8))
    assert images.shape == (8, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert labels.shape == (8, 3)
    assert torch.equal(labels.sum(dim=1), torch.ones(8))


def test_an_epoch_shows_every_picture_once(archive):
    shown = torch.cat([images for images, _ in take(Batches(archive, 4), 5)])
    everything = torch.from_numpy(archive.load_all())
    for picture in everything:
        assert any(torch.equal(picture, other) for other in shown)


def test_labels_belong_to_their_pictures(archive):
    everything = archive.load_all()
    for images, labels in take(Batches(archive, 5), 4):
        for image, label in zip(images.numpy(), labels, strict=True):
            index = int(np.flatnonzero((everything == image).all(axis=(1, 2, 3)))[0])
            assert int(label.argmax()) == archive.labels[index]


def test_seeds_differ(archive):
    first, second = (next(Batches(archive, 8, seed=seed))[0] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_mirror_flips_about_half(archive):
    plain = torch.cat([images for images, _ in take(Batches(archive, 20), 20)])
    mirrored = torch.cat([images for images, _ in take(Batches(archive, 20, mirror=True), 20)])
    same = (plain == mirrored).flatten(1).all(dim=1)
    flipped = (plain.flip(3) == mirrored).flatten(1).all(dim=1)
    assert torch.all(same | flipped)
    # 400 coin tosses: 0.5 +- 4 standard deviations of 0.025
    assert 0.4 < flipped.float().mean() < 0.6


def test_mirrory_turns_about_half_upside_down_and_leaves_the_rest_of_the_order(archive):
    mirrored = torch.cat([images for images, _ in take(Batches(archive, 20, mirror=True), 20)])
    both = torch.cat([images for images, _ in take(Batches(archive, 20, mirror=True, mirrory=True), 20)])
    same = (mirrored == both).flatten(1).all(dim=1)
    turned = (mirrored.flip(2) == both).flatten(1).all(dim=1)
    # In each chunk the flips from left to right are drawn before those from top to bottom, so these change no other.
    assert torch.all(same | turned)
    assert 0.4 < turned.float().mean() < 0.6


@pytest.mark.parametrize(("balance", "expected"), [(0, [0.5, 0.3, 0.2]), (1, [1 / 3] * 3)])
def test_class_weights(archive, balance, expected):
    assert class_weights(archive, balance) == pytest.approx(expected)


def test_balance_draws_groups_evenly(archive):
    labels = torch.cat([labels for _, labels in take(Batches(archive, 20, balance=1), 60)])
    # 1200 draws: 1/3 +- 4 standard deviations of 0.0136
    assert torch.all((labels.mean(dim=0) - 1 / 3).abs() < 0.055)


def test_unconditional_batches_have_no_labels(face_archive):
    _, labels = next(Batches(FaceArchive(face_archive, use_labels=False), 4))
    assert labels.shape == (4, 0)


def test_impossible_balance(archive):
    with pytest.raises(FacegenError, match="balance must be between 0"):
        Batches(archive, 4, balance=1.5)


@pytest.mark.parametrize("chunk", [7, 256])
def test_an_archive_that_stays_on_the_device_gives_the_same_batches(archive, monkeypatch, chunk):
    kwargs = {"seed": 2, "mirror": True, "balance": 0.5}
    expected = take(Batches(archive, 6, **kwargs), 6)
    monkeypatch.setattr(batches_module, "fits_on", lambda device, size: True)
    monkeypatch.setattr(batches_module.load_onto, "__defaults__", (chunk,))
    monkeypatch.setattr(FaceArchive, "load_all", None)  # which would need as much memory on the CPU
    stream = Batches(archive, 6, **kwargs)
    assert stream.resident
    assert_same(take(stream, 6), expected)


@pytest.mark.parametrize(("free", "fits"), [(4000, True), (3999, False)])
def test_a_quarter_of_the_free_memory_of_a_gpu_may_hold_pictures(free, fits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    assert batches_module.fits_on(torch.device("cuda"), 1000) is fits
    assert not batches_module.fits_on(torch.device("cpu"), 1)


# --- values of an attribute, evenly ---


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Group 0: 6 female, 2 male, 2 unknown; group 1: 1 and 5; group 2: 4 male. The first pixel is the face's number."""
    path = tmp_path_factory.mktemp("uneven") / "uneven.zip"
    genders = [["female"] * 6 + ["male"] * 2 + [None] * 2, ["female"] + ["male"] * 5, ["male"] * 4]
    with ArchiveWriter(path, groups=AgeGroups.parse("0-20,21-60,61-")) as writer:
        for label, group in enumerate(genders):
            for gender in group:
                png = encode_png(Image.new("RGB", (8, 8), (len(writer),) * 3))
                known = {} if gender is None else {"gender": gender}
                writer.add_png("face.jpg", png, label, label * 30 + 5, person=str(len(writer) % 3), **known)
    return path


def draws(archive, count, **chosen):
    """Return how often each face comes in about so many draws, float64 `[N]`, sum 1."""
    stream = Batches(archive, 100, seed=1, **chosen)
    shown = torch.cat([images for images, _ in take(stream, count // 100)])[:, 0, 0, 0]
    return np.bincount(shown.numpy(), minlength=20) / len(shown)


@pytest.mark.parametrize(("balance", "groups"), [(0, [0.5, 0.3, 0.2]), (1, [1 / 3] * 3)])
def test_values_are_even_within_groups_and_groups_stay_as_balance_says(uneven, balance, groups):
    seen = draws(FaceArchive(uneven), 20_000, balance=balance, even="gender")
    first, second, third = groups
    # Unknown faces, 2 of 10, keep their share of the first group; the known ones halve the rest.
    expected = [first * 0.4, first * 0.4, first * 0.2, second / 2, second / 2, third]
    found = [seen[:6].sum(), seen[6:8].sum(), seen[8:10].sum(), seen[10], seen[11:16].sum(), seen[16:].sum()]
    # A share of 20,000 draws has a standard deviation of at most 0.0035; 4 of them
    np.testing.assert_allclose(found, expected, atol=0.014)
    # and all faces of one value come alike: 0.4 * first / 6 each, +- 4 standard deviations of 0.0013
    np.testing.assert_allclose(seen[:6], first * 0.4 / 6, atol=0.006)


def test_without_classes_values_are_even_over_all(uneven):
    seen = draws(FaceArchive(uneven, use_labels=False), 20_000, balance=0.5, even="gender")
    female, unknown = [0, 1, 2, 3, 4, 5, 10], [8, 9]
    # 2 of 20 are unknown, 7 are female; a tolerance of 4 standard deviations
    assert seen[female].sum() == pytest.approx(0.45, abs=0.014)
    assert seen[unknown].sum() == pytest.approx(0.1, abs=0.009)


def test_a_subset_is_even_in_itself(uneven):
    archive = FaceArchive(uneven, max_images=12, seed=4)
    values = archive.attribute("gender")
    weights = picture_weights(archive.labels, 0, values)
    for label in range(3):
        of = {
            v: weights[[c == label and v == o for c, o in zip(archive.labels, values, strict=True)]].sum()
            for v in values
        }
        known = [share for value, share in of.items() if value is not None and share > 0]
        assert known == pytest.approx([known[0]] * len(known))
        assert sum(of.values()) == pytest.approx(np.mean(archive.labels == label))


def test_one_value_alone_changes_nothing():
    classes = np.array([0, 0, 0, 1])
    np.testing.assert_array_equal(picture_weights(classes, 0.5, ["male"] * 4), picture_weights(classes, 0.5))
    np.testing.assert_array_equal(picture_weights(classes, 0.5, [None] * 4), picture_weights(classes, 0.5))


@pytest.mark.parametrize("chosen", [{}, {"balance": 0.5, "mirrory": True}, {"even": "gender", "workers": 0}], ids=str)
def test_position_goes_on_where_a_run_stopped_and_processes_share_it(uneven, monkeypatch, chosen):
    archive, chosen = FaceArchive(uneven), {"seed": 3, "mirror": True, **chosen}
    whole = take(Batches(archive, 6, **chosen), 9)  # 54 pictures: crosses two chunks of 20
    assert_same(take(at(24, Batches(archive, 6, **chosen)), 5), whole[4:])
    first, second = (take(Batches(archive, 6, **chosen, part=Part(i, 2)), 9) for i in range(2))
    for batch, one, other in zip(whole, first, second, strict=True):
        assert torch.equal(batch[0][::2], one[0])
        assert torch.equal(batch[0][1::2], other[0])
    monkeypatch.setattr(batches_module, "IN_MEMORY_BYTES", 0)
    streamed = at(24, Batches(archive, 6, **chosen))
    assert not streamed.in_memory
    assert_same(take(streamed, 5), whole[4:])  # decoded ahead by other processes
    assert streamed.waiting > 0


@pytest.mark.parametrize("balance", [0, 0.5])
def test_without_even_the_order_is_that_of_old_runs(uneven, balance):
    # Written out, as runs of before --even must go on with the same faces.
    archive = FaceArchive(uneven)
    random = np.random.default_rng([5, 0])
    roots = {0: 10**-0.5, 1: 6**-0.5, 2: 4**-0.5}
    weights = np.array([roots[label] for label in archive.labels])
    order = random.choice(20, 20, p=weights / weights.sum()) if balance else random.permutation(20)
    shown = next(Batches(archive, 20, seed=5, balance=balance))[0][:, 0, 0, 0]
    np.testing.assert_array_equal(shown.numpy(), order)


def test_an_attribute_that_the_archive_lacks_is_refused(uneven):
    with pytest.raises(
        FacegenError, match=r"uneven.zip: .* keeps no attribute 'race' of faces; it keeps gender, person"
    ):
        Batches(FaceArchive(uneven), 4, even="race")
