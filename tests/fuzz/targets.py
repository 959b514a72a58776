"""Who reads what a stranger may send: functions of bytes, which raise only on a finding.

Each gives its bytes to the package as a file, a folder or a text, most by way of the command that a user would run. A
FacegenError and a missing file are answers; every other exception, more than one line of it, characters that a
terminal obeys, and a page with somebody else's markup are findings. So are more than SECONDS and MEGABYTES, which
`facegen` must never need; `fuzz.run` watches them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
from bundle_writers import idx, write_cifar
from click.testing import CliRunner
from fuzz.containers import (
    split_parts,
    torch_zip,
    with_compressed_elements,
    with_png_checksums,
    with_safetensors_checksums,
    zipped,
)

from facegen.cli import main
from facegen.errors import FacegenError

if TYPE_CHECKING:
    import resource

SECONDS, MEGABYTES = 10, 1500
TARGETS: dict[str, Callable[[bytes], None]] = {}


def target(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Enter a function into TARGETS."""
    TARGETS[function.__name__] = function
    return function


@cache
def workplace() -> Path:
    """A folder of this process."""
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def written(name: str, data: bytes) -> Path:
    """Write a file into the workplace and return it."""
    path = workplace() / name
    path.write_bytes(data)
    return path


def folder_of(name: str, files: dict[str, bytes]) -> Path:
    """Make a folder of files in the workplace, a new one each time, and return it."""
    folder = workplace() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder


def facegen(*arguments: str | Path) -> None:
    """Run a command of `facegen` in this process, and look at what it says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), f"exit code {result.exit_code}"
    obeyed = {char for char in result.output if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    obeyed -= set("\n\r\u200c\u200d")  # progress bars, and what joins letters
    assert not obeyed, f"the terminal sees {obeyed}"
    error = result.stderr.partition("Error: ")[2]
    assert error.count("\n") <= 1, f"an error of many lines: {error!r}"


def answers(call: Callable[..., object], *arguments: object, **options: object) -> object:
    """Call a function that may refuse what it is given; return what it returns, None if it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call(*arguments, **options)
        except (FacegenError, FileNotFoundError):
            return None


def megabytes(used: resource.struct_rusage) -> float:
    """The most memory that a process has had."""
    return used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def check_page(path: Path) -> None:
    """A page must not hold the markup that the corpora strew in."""
    if path.exists():
        assert b"<script" not in path.read_bytes(), "somebody else's markup is on the page"
        path.unlink()


# Weights


def _read_weights(path: Path) -> None:
    from facegen.weights.load import read_networks
    from facegen.weights.read import read_state_dict

    facegen("info", path, "--layers")
    facegen("info", path, "--json")
    answers(read_networks, path)
    answers(read_state_dict, path)


@target
def safetensors(data: bytes) -> None:
    """A weight file of facegen, or any safetensors."""
    _read_weights(written("w.safetensors", with_safetensors_checksums(data)))


@target
def pickle(data: bytes) -> None:
    """A network pickle of the StyleGAN family."""
    from facegen.weights.load import read_networks

    path = written("w.pkl", data)
    facegen("info", path)
    answers(read_networks, path)


@target
def torch_pickle(data: bytes) -> None:
    """The pickle in a file of `torch.save`."""
    torch_file(torch_zip(data))


@target
def torch_file(data: bytes) -> None:
    """A file of `torch.save`: a zip, or a pickle of before 1.6."""
    from facegen.training.run.folder import read_state

    path = written("w.pt", data)
    _read_weights(path)
    answers(read_state, path, ("optimizer",))


@target
def mxnet_file(data: bytes) -> None:
    """A `.params` file of a face recognition network."""
    from facegen.weights.face_network import load_face_network

    answers(load_face_network, written("w.params", data))


# Data sets


@target
def archive(data: bytes) -> None:
    """What lies beside the pictures of a training archive: dataset.json, facegen.json, shard.json."""
    zip_file(zipped({**pictures(), **split_parts(data)}))


@cache
def pictures() -> dict[str, bytes]:
    """Three small pictures, as of an archive."""
    from PIL import Image

    from facegen.images import encode_png

    colors = ("red", "green", "blue")
    return {f"img{i}.png": encode_png(Image.new("RGB", (8, 8), color)) for i, color in enumerate(colors)}


@target
def zip_file(data: bytes) -> None:
    """A training archive as a zip."""
    from facegen.data.archive import FaceArchive

    path = written("faces.zip", data)
    facegen("inspect", path, "--html", workplace() / "faces.html", "--json", workplace() / "faces.json")
    check_page(workplace() / "faces.html")
    if opened := answers(FaceArchive, path):
        assert isinstance(opened, FaceArchive)
        answers(opened.__getitem__, 0)
        answers(opened.attribute, "gender")
        answers(opened.digest)
        opened.close()
    facegen("merge", path, workplace() / "merged.zip", "--force")
    check_page(workplace() / "merged.report.html")


@target
def names(data: bytes) -> None:
    """The names of a data set's pictures, a line each."""
    from facegen.container import Container
    from facegen.data.sources import all_sources, detect_source

    listed = {line.replace("\0", ""): b"" for line in data.decode("utf-8", "ignore").split("\n")[:200]}
    path = written("names.zip", zipped({name: pictures()["img0.png"] for name in listed if 0 < len(name) < 10_000}))
    facegen("inspect", path)
    if files := answers(Container, path):
        answers(detect_source, files)
        for source in all_sources().values():
            answers(lambda source=source: list(source().read(files)))


@target
def table(data: bytes) -> None:
    """A CSV table of a data set; the name of each says whose."""
    from facegen.data.sources import all_sources, open_source

    for source, name in (
        ("csv", "faces.csv"),
        ("fairface", "fairface_label_train.csv"),
        ("appa-real", "gt_avg_train.csv"),
        ("ffhq-aging", "ffhq_aging_labels.csv"),
    ):
        assert source in all_sources()
        files, reader = open_source(folder_of("table", {**pictures(), name: data}), source)
        answers(lambda files=files, reader=reader: list(reader.read(files)))


@target
def bundle(data: bytes) -> None:
    """A batch of CIFAR-10 (a pickle), or MNIST's pictures or labels, as `pack` reads them."""
    from facegen.data.packing.bundles import open_bundle

    if data[:1] == b"\x80":
        files = {"data_batch_1": data, "batches.meta": data}
        answers(open_bundle, write_cifar(workplace() / "cifar-10-python.tar.gz", files), None)
        return
    pictures = written("train-images-idx3-ubyte", data)
    for labels in (data, idx(np.zeros(2, np.uint8))):
        written("train-labels-idx1-ubyte", labels)
        answers(open_bundle, pictures, None)


@target
def mat(data: bytes) -> None:
    """imdb.mat; a file that begins with a small letter has compressed elements."""
    from facegen.container import Container
    from facegen.data.sources import matlab
    from facegen.data.sources.imdb_wiki import ImdbWiki

    if data[:1].islower():
        data = with_compressed_elements(data)
    files = Container(folder_of("mat", {"imdb.mat": data}))
    before, matlab.run_in_child = matlab.run_in_child, forked  # the real child takes a second to import scipy
    try:
        answers(lambda: list(ImdbWiki().read(files)))
    finally:
        matlab.run_in_child = before


def forked(function, *arguments, stdin, **options):
    """As `facegen.parallel.run_in_child`, in a fork of this process."""
    import scipy.io  # noqa: F401 (so that no child imports it again)

    output = written("child", b"")
    before = psutil.Process().memory_info().rss / 2**20  # a fork counts what its parent has
    if not (child := os.fork()):
        code = 1
        for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL):
            signal.signal(number, signal.SIG_DFL)  # a crash of scipy is an answer, and none of atheris's affairs
        try:
            sys.argv[1:] = arguments
            sys.stdin = os.fdopen(stdin.fileno(), "r", closefd=False)
            with output.open("w", encoding="utf-8") as sys.stdout:
                function()
            code = 0
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    grown = megabytes(used) - before
    assert grown < MEGABYTES, f"{grown:,.0f} MB"
    code = os.waitstatus_to_exitcode(status)
    return subprocess.CompletedProcess(arguments, code, output.read_bytes(), b"")


@target
def picture(data: bytes) -> None:
    """A photo, as `prepare` decodes it, and as `transfer` does and writes it again."""
    from facegen import images
    from facegen.data.crops import crop_pictures
    from facegen.data.options import CropOptions
    from facegen.photos.mark import Mark
    from facegen.photos.original import open_original
    from facegen.photos.save import save_photo, suffix_of

    data = with_png_checksums(data)
    if zlib.crc32(data) % 2:  # by chance: each has the whole time
        options = CropOptions(crop="center", min_size=1, min_sharpness=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's
            crop_pictures(["photo.png"], lambda _: data, options)
        return

    def as_it_is() -> None:
        with images.opened(data, "photo.jpg") as opened:
            images.oddities(opened, "photo.jpg")
        path = folder_of("photo", {"photo.jpg": data}) / "photo.jpg"
        original = open_original(path)
        save_photo(original.image, path.with_name(f"result{suffix_of(original)}"), original, mark=Mark(("age 5",)))

    answers(as_it_is)


@target
def spool(data: bytes) -> None:
    """What `prepare` keeps of a run that was stopped."""
    from facegen.data.spool import Spool

    def read() -> None:
        folder = folder_of("spool", {"job.json": b"{}", "pictures.bin": pictures()["img0.png"], **split_parts(data)})
        with Spool(folder, {}) as opened:
            for name in ("a.jpg", "b.jpg"):
                if name in opened:
                    opened.is_done(name, [1, 2])
                    opened.get(name)

    answers(read)


# Trainings


@target
def run(data: bytes) -> None:
    """A run folder: options, status, statistics, metrics, what it learned from."""
    from facegen.training.age.options import AgeOptions
    from facegen.training.encoder.options import EncoderOptions
    from facegen.training.generator.options import TrainOptions
    from facegen.training.run.data import changes, check_same_classes
    from facegen.training.run.folder import RunFolder, read_options
    from facegen.training.run.snapshots import drop_later, prune

    folder = folder_of("run", split_parts(data))
    facegen("runs", folder, "--html", workplace() / "runs.html")
    check_page(workplace() / "runs.html")
    for kind in (TrainOptions, EncoderOptions, AgeOptions):
        answers(read_options, folder, kind)
    notes = {"data": {"path": "faces.zip", "classes": ["0-10"], "pictures": 1, "content": "1f"}}
    answers(check_same_classes, folder, notes)
    answers(changes, folder, notes)
    answers(lambda: RunFolder.open(folder, 2.0).close())
    answers(drop_later, folder, 2000)
    answers(prune, folder, 1)


@target
def state(data: bytes) -> None:
    """A state file that a training goes on from, as JSON (see `fuzz.states`): of an age estimator or a generator."""
    from fuzz.states import from_json, of_age_estimator, of_generator

    from facegen.training.generator.checkpoint import STATE

    try:
        content = from_json(data)
        is_generator = isinstance(content, dict) and "images_seen" in content
        torch.save(content, (workplace() / STATE).with_stem("training-state" if is_generator else "age-state"))
    except (ValueError, RecursionError):  # no JSON, or too deep to be written
        return
    restore = of_generator(workplace()) if is_generator else of_age_estimator(workplace())
    answers(restore)


# Texts


@target
def text(data: bytes) -> None:
    """What stands on a command line."""
    from facegen.ages import AgeGroups
    from facegen.aging.edit import parse_ages
    from facegen.data.options import parse_split
    from facegen.data.shards import parse_shard
    from facegen.data.sources.words import face
    from facegen.evaluation.run import parse_system
    from facegen.metrics.names import parse_metrics

    words = os.fsdecode(data)
    for parse in (parse_ages, AgeGroups.parse, parse_split, parse_shard, parse_system, parse_metrics):
        answers(parse, words)
    answers(face, "a.jpg", words, words, words)
