"""CIFAR-10, MNIST and LSUN: data sets that come as one file."""

from __future__ import annotations

import gzip
import struct
import sys
import types
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from bundle_writers import array, idx, listed, pickled, text, write_cifar
from refusals import assert_refused

from facegen.data.archive import FaceArchive
from facegen.data.packing import bundles
from facegen.data.packing.pack import pack
from facegen.errors import DamagedError
from facegen.images import encode_png


@pytest.fixture
def make_cifar(tmp_path) -> Callable[..., Path]:
    """A function that writes CIFAR-10's file; `batches_meta` is batches.meta."""

    def make(**files: bytes) -> Path:
        named = {name.replace("_meta", ".meta"): data for name, data in files.items()}
        return write_cifar(tmp_path / "cifar-10-python.tar.gz", named)

    return make


def test_cifar(make_cifar, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3072), np.uint8)
    labels = [0, 1, 1, 0, 1]

    def batch(first: int, last: int) -> bytes:
        numbers = [b"K" + bytes([label]) for label in labels[first:last]]
        return pickled(batch_label=text("a batch"), labels=listed(numbers), data=array(pixels[first:last]))

    meta = pickled(label_names=listed([text("airplane"), text("automobile")]))
    path = make_cifar(batches_meta=meta, data_batch_2=batch(3, 5), data_batch_1=batch(0, 3), test_batch=batch(0, 5))
    pack(path, tmp_path / "x.zip", progress=False)
    archive = FaceArchive(tmp_path / "x.zip")
    assert archive.class_names == ["airplane", "automobile"]
    assert archive.labels.tolist() == labels
    assert (archive.load_all(progress=False) == pixels.reshape(5, 3, 32, 32)).all()

    pack(path, tmp_path / "y.zip", labels="none", max_images=2, progress=False)
    assert FaceArchive(tmp_path / "y.zip", use_labels=False).c_dim == 0
    assert_refused("--labels none", pack, path, tmp_path / "z.zip", labels="folders", progress=False)


def test_a_pickle_runs_nothing(make_cifar, tmp_path):
    evil = b"\x80\x02cos\nsystem\n" + text("touch evil") + b"\x85R."
    assert_refused("nothing of it was run", pack, make_cifar(data_batch_1=evil), tmp_path / "x.zip", progress=False)


@pytest.mark.parametrize("items", [{}, {"labels": listed([b"K\x00", b"K\x01"])}, {"labels": listed([b"N"])}])
def test_broken_batches(make_cifar, tmp_path, items):
    pixels = {} if not items else {"data": array(np.zeros((1, 3072), np.uint8))}
    path = make_cifar(data_batch_1=pickled(**items, **pixels))
    assert_refused("data_batch_1", pack, path, tmp_path / "x.zip", progress=False, error=DamagedError)


def test_broken_archives(make_cifar, tmp_path, monkeypatch):
    path = make_cifar(data_batch_1=bytes(100_000))
    monkeypatch.setattr(bundles, "MAX_UNPACKED", 1000)
    assert_refused("refused", pack, path, tmp_path / "x.zip", progress=False)
    path.write_bytes(path.read_bytes()[:60])
    assert_refused(str(path), pack, path, tmp_path / "x.zip", progress=False, error=DamagedError)
    path.write_bytes(b"no archive")
    assert_refused(str(path), pack, path, tmp_path / "x.zip", progress=False, error=DamagedError)


def write_mnist(folder: Path, pixels: np.ndarray, labels: list[int] | None) -> Path:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(pixels)))
    if labels is not None:
        (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array(labels, np.uint8))))
    return path


def test_mnist(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    path = write_mnist(tmp_path, pixels, [7, 0, 9])
    pack(path, tmp_path / "x.zip", progress=False)
    archive = FaceArchive(tmp_path / "x.zip")
    assert (archive.resolution, archive.channels, archive.c_dim) == (32, 1, 10)
    assert archive.labels.tolist() == [7, 0, 9]
    assert (archive.load_all(progress=False) == np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[:, None]).all()

    write_mnist(tmp_path, pixels, [7, 0])
    assert_refused("3 pictures", pack, path, tmp_path / "y.zip", progress=False)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    assert_refused("--labels none", pack, path, tmp_path / "y.zip", progress=False)
    assert pack(path, tmp_path / "y.zip", labels="none", progress=False).written == 3
    for data in (gzip.compress(struct.pack(">4I", 0x803, 5, 28, 28)), gzip.compress(b"x"), b"no gzip"):
        path.write_bytes(data)
        assert_refused(str(path), pack, path, tmp_path / "z.zip", progress=False, error=DamagedError)


def test_lsun(tmp_path, monkeypatch, tinted):
    folder = tmp_path / "church_train_lmdb"
    folder.mkdir()
    (folder / "data.mdb").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "lmdb", None)  # as if it were not installed
    assert_refused("pip install lmdb", pack, folder, tmp_path / "x.zip", progress=False)

    pictures = {b"one": encode_png(tinted(0)), b"two": b"no picture", b"\xffthree": encode_png(tinted(1))}
    cursor = types.SimpleNamespace(iternext=lambda keys, values: iter(pictures))
    transaction = types.SimpleNamespace(cursor=lambda: cursor, get=pictures.get)
    database = types.SimpleNamespace(begin=lambda buffers: nullcontext(transaction))
    stand_in = types.SimpleNamespace(open=lambda path, **options: database, Error=KeyError)
    monkeypatch.setitem(sys.modules, "lmdb", stand_in)
    report = pack(folder, tmp_path / "x.zip", progress=False)
    assert [entry["file"] for entry in report.dropped["unreadable picture"]] == ["two"]
    assert (
        FaceArchive(tmp_path / "x.zip", use_labels=False).image(1) == np.asarray(tinted(1)).transpose(2, 0, 1)
    ).all()
    assert_refused("--labels none", pack, folder, tmp_path / "y.zip", labels="json", progress=False)
