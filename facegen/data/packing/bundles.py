"""Data sets that come as one file of many pictures: CIFAR-10, MNIST and its kind, LSUN."""

from __future__ import annotations

import gzip
import re
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facegen.data.packing.labels import WITHOUT, Labels
from facegen.errors import DamagedError, FacegenError
from facegen.images import encode_png
from facegen.reading import check_plain, open_plain
from facegen.weights.family.records import BUILDERS
from facegen.weights.family.safe_pickle import read_pickle

CIFAR_NAME = "cifar-10-python.tar.gz"
_CIFAR_BATCH = re.compile(r"cifar-10-batches-py/(data_batch_\d+)")
_CIFAR_META = "cifar-10-batches-py/batches.meta"
_CIFAR_SHAPE = (3, 32, 32)
_IDX_NAME = re.compile(r".*images-idx3-ubyte(\.gz)?")
_IDX_IMAGES, _IDX_LABELS = 0x0803, 0x0801  # unsigned bytes in three dimensions and in one
MNIST_BORDER = 2  # black pixels around its 28x28, for a power of two
MAX_UNPACKED = 1024**3  # bytes; CIFAR-10 has 177 MB, MNIST's largest relative, EMNIST, 548 MB


@dataclass
class Bundle:
    """Pictures of one file: their names in its order, the bytes of each as a picture's file, and their labels."""

    title: str
    names: list[str]
    read: Callable[[str], bytes]
    labels: Labels = field(default_factory=Labels)


def open_bundle(path: Path, how: str | None) -> Bundle | None:
    """Open a file of many pictures; None where `path` is nothing of the kind.

    Args:
        how: whose labels to take: its own for `json` and None; see `find_labels`.

    Raises:
        FacegenError: it is damaged, has no such labels, or needs a package that is not installed.
    """
    if path.is_dir() and (path.name.endswith("_lmdb") or (path / "data.mdb").is_file()):
        bundle = _open_lsun(path)
    elif path.name == CIFAR_NAME:
        bundle = _open_cifar(path)
    elif _IDX_NAME.fullmatch(path.name):
        bundle = _open_idx(path, needs_labels=how != "none")
    else:
        return None
    if how == "none":
        bundle.labels = Labels()
    elif how == "folders" or (how == "json" and not bundle.labels.of):
        raise FacegenError(f"{path}: {bundle.title} has no labels of this kind; {WITHOUT}")
    return bundle


# -- CIFAR-10


def _open_cifar(path: Path) -> Bundle:
    """The training pictures of CIFAR-10, as its authors pack them: pickles of Python 2, read as data."""
    pickles = _cifar_files(path)
    batches = sorted(name for name in pickles if name != _CIFAR_META)
    pixels: dict[str, np.ndarray] = {}
    labels = Labels()
    for file in batches:
        batch = _read_batch(pickles[file], f"{path}: {file}")
        for index, (picture, label) in enumerate(zip(batch["data"], batch["labels"], strict=True)):
            name = f"{file.rpartition('/')[2]}/{index:05d}.png"
            pixels[name], labels.of[name] = picture.reshape(_CIFAR_SHAPE), label
    if not pixels:
        raise DamagedError(f"{path}: no {CIFAR_NAME}: there is no data_batch in it")
    labels.classes = _cifar_classes(pickles.get(_CIFAR_META), str(path), max(labels.of.values()) + 1)
    return Bundle("CIFAR-10", list(pixels), lambda name: _png(pixels[name].transpose(1, 2, 0)), labels)


def _cifar_files(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    unpacked = 0
    try:
        with open_plain(path) as file, gzip.open(file) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
            for member in archive:
                unpacked += member.size
                if unpacked > MAX_UNPACKED:
                    raise FacegenError(f"{path}: unpacks to more than {MAX_UNPACKED // 1024**2:,d} MB: refused")
                if member.isreg() and (_CIFAR_BATCH.fullmatch(member.name) or member.name == _CIFAR_META):
                    content = archive.extractfile(member)
                    assert content is not None  # of a plain file
                    found[member.name] = content.read()
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise DamagedError(f"{path}: not a readable .tar.gz ({error}); get the file again") from error
    return found


def _read_batch(data: bytes, where: str) -> dict[str, Any]:
    batch = read_pickle(data, BUILDERS, where, python2=True)[0]
    pixels, labels = (batch.get(key) for key in ("data", "labels")) if isinstance(batch, dict) else (None, None)
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape[1:] != (int(np.prod(_CIFAR_SHAPE)),)
        or not isinstance(labels, list)
        or len(labels) != len(pixels)
        or not all(type(label) is int and 0 <= label < 256 for label in labels)
    ):
        raise DamagedError(f"{where}: holds no pictures of 32x32 pixels with labels; get the file again")
    return {"data": pixels, "labels": labels}


def _cifar_classes(meta: bytes | None, path: str, count: int) -> list[str]:
    names = read_pickle(meta, BUILDERS, f"{path}: {_CIFAR_META}", python2=True)[0] if meta else {}
    names = names.get("label_names") if isinstance(names, dict) else None
    if isinstance(names, list) and len(names) >= count and all(isinstance(name, str) for name in names):
        return names
    return [str(number) for number in range(count)]


# -- MNIST


def _open_idx(path: Path, *, needs_labels: bool) -> Bundle:
    """The pictures of an IDX file, with a black border where they are MNIST's, and the labels of the file beside it."""
    images = _read_idx(path, _IDX_IMAGES)
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    names = [f"{index:08d}.png" for index in range(len(images))]
    labels = Labels()
    if needs_labels:
        if not beside.exists():
            raise FacegenError(f"{beside}: the labels should be next to the pictures; {WITHOUT}")
        numbers = _read_idx(beside, _IDX_LABELS).tolist()
        if len(numbers) != len(images):
            raise FacegenError(f"{beside}: {len(numbers):,d} labels, but {len(images):,d} pictures; {WITHOUT}")
        labels.of = dict(zip(names, numbers, strict=True))
        labels.classes = [str(number) for number in range(max(numbers, default=-1) + 1)]
    border = MNIST_BORDER if images.shape[1:] == (28, 28) else 0
    title = "pictures like MNIST's"
    return Bundle(title, names, lambda name: _png(np.pad(images[int(name.removesuffix(".png"))], border)), labels)


def _read_idx(path: Path, magic: int) -> np.ndarray:
    """The bytes of an IDX file (yann.lecun.com/exdb/mnist), packed or not, in its shape."""
    try:
        with open_plain(path) as file:
            data = (gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file).read(MAX_UNPACKED + 1)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DamagedError(f"{path}: not a readable .gz ({error}); get the file again") from error
    if len(data) > MAX_UNPACKED:
        raise FacegenError(f"{path}: unpacks to more than {MAX_UNPACKED // 1024**2:,d} MB: refused")
    count = magic & 0xFF  # of dimensions
    header = 4 * (1 + count)
    if len(data) < header or struct.unpack(">I", data[:4])[0] != magic:
        raise DamagedError(f"{path}: no IDX file of unsigned bytes in {count} dimensions")
    shape = struct.unpack(f">{count}I", data[4:header])
    pixels = np.frombuffer(data, np.uint8, offset=header)
    if len(pixels) != np.prod(shape, dtype=float):
        raise DamagedError(f"{path}: {len(pixels):,d} bytes, its header says {' x '.join(map(str, shape))}")
    return pixels.reshape(shape)


# -- LSUN


def _open_lsun(path: Path) -> Bundle:
    """The pictures of an LMDB as LSUN ships them: files of JPEG or WebP, by keys that mean nothing."""
    try:
        import lmdb
    except ImportError as error:
        raise FacegenError(f"{path}: an LMDB needs pip install lmdb") from error
    check_plain(path / "data.mdb")
    try:
        database = lmdb.open(str(path), readonly=True, lock=False, readahead=False)
        with database.begin(buffers=False) as transaction:
            keys = list(transaction.cursor().iternext(keys=True, values=False))
    except lmdb.Error as error:
        raise DamagedError(f"{path}: not a readable LMDB ({error})") from error
    key_of = {key.decode("latin-1"): key for key in keys}

    def read(name: str) -> bytes:
        with database.begin(buffers=False) as transaction:
            return transaction.get(key_of[name]) or b""

    return Bundle("LSUN, or another LMDB of pictures", list(key_of), read)


def _png(pixels: np.ndarray) -> bytes:
    return encode_png(Image.fromarray(np.ascontiguousarray(pixels)))
