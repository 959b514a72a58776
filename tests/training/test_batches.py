"""Batches: order by seed and position alone, mirroring, balance, memory or workers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.training import batches as batches_module
from facegen.training.batches import Batches, class_weights


@pytest.fixture(scope="module")
def archive(face_archive):
    return FaceArchive(face_archive)


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


@pytest.mark.parametrize("balance", [0, 0.5])
def test_position_goes_on_where_a_run_stopped(archive, balance):
    kwargs = {"seed": 3, "mirror": True, "balance": balance}
    whole = take(Batches(archive, 6, **kwargs), 9)  # 54 pictures: crosses two chunks of 20
    later = Batches(archive, 6, **kwargs, position=24)
    for (images, labels), (again, again_labels) in zip(whole[4:], take(later, 5), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, again_labels)


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


@pytest.mark.parametrize(("balance", "expected"), [(0, [0.5, 0.3, 0.2]), (1, [1 / 3] * 3)])
def test_class_weights(archive, balance, expected):
    assert class_weights(archive, balance) == pytest.approx(expected)


def test_balance_draws_groups_evenly(archive):
    labels = torch.cat([labels for _, labels in take(Batches(archive, 20, balance=1), 60)])
    # 1200 draws: 1/3 +- 4 standard deviations of 0.0136
    assert torch.all((labels.mean(dim=0) - 1 / 3).abs() < 0.055)


def test_workers_give_the_same_stream(archive, monkeypatch):
    expected = take(Batches(archive, 6, seed=1, mirror=True, position=12), 4)
    monkeypatch.setattr(batches_module, "IN_MEMORY_BYTES", 0)
    streamed = Batches(archive, 6, seed=1, mirror=True, position=12, workers=1)
    assert not streamed.in_memory
    for (images, labels), (again, again_labels) in zip(expected, take(streamed, 4), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, again_labels)
    assert streamed.waiting > 0


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
    for (images, labels), (again, again_labels) in zip(expected, take(stream, 6), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, again_labels)


@pytest.mark.parametrize(("free", "fits"), [(4000, True), (3999, False)])
def test_a_quarter_of_the_free_memory_of_a_gpu_may_hold_pictures(free, fits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    assert batches_module.fits_on(torch.device("cuda"), 1000) is fits
    assert not batches_module.fits_on(torch.device("cpu"), 1)
