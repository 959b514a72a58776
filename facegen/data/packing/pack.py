"""Pack any pictures into an archive; no faces or ages are needed."""

from __future__ import annotations

import glob
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from facegen import images as pictures
from facegen.container import Container, is_image_name
from facegen.data.archive import ArchiveWriter
from facegen.data.assemble import PrepareReport, check_targets, examples, write_report_files
from facegen.data.contents import Contents
from facegen.data.options import Choice, CropOptions
from facegen.data.packing.bundles import open_bundle
from facegen.data.packing.labels import JSON, OWN, Labels, class_folders, find_labels
from facegen.data.packing.options import PackOptions
from facegen.data.packing.transform import encode, pack_pictures
from facegen.data.prepare import refused_items
from facegen.data.sources import Skipped
from facegen.data.spool import Spool, spool_path, worked_on
from facegen.errors import FacegenError
from facegen.files import at_home

LOOK_AT = 200  # pictures whose sizes tell that of the archive, where none is asked for
HINT_CLASSES = 1000  # folders of more names are no classes


@dataclass(frozen=True, slots=True)
class _Picture:
    name: str


@dataclass
class _Source:
    """Pictures to pack, whatever they come in: their names in order, and how to read one."""

    path: Path
    title: str
    names: list[str]
    read: Callable[[str], bytes]
    stamp: Callable[[str], list[int]]
    labels: Labels
    skipped: list[Skipped]


def pack(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    options: PackOptions | None = None,
    *,
    labels: str | None = None,
    max_images: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> PrepareReport:
    """Write the archive `dest` from the pictures in `source`, in the order of their names.

    Pictures that cannot be used are skipped and listed, with the reason, in the report, which is returned and written
    next to the archive (`<dest>.report.json` and `.html`). After Ctrl-C or a crash the same call continues where it
    stopped.

    Args:
        source: a folder, a zip, CIFAR-10's `cifar-10-python.tar.gz`, MNIST's `train-images-idx3-ubyte.gz` with its
            labels beside, or LSUN's `*_lmdb` folder.
        dest: a zip; any other name is a folder, which must be empty or not there.
        options: what becomes of each picture; None takes squares as they are.
        labels: `json` (dataset.json, or the data set's own), `folders` (class folders) or `none`; None takes those of a
            dataset.json or the data set's own, where there are some.
        max_images: take only the first pictures that can be used.
        force: replace a zip that is there.
        progress: show bars.

    Raises FacegenError or FileNotFoundError, and writes no archive, when an argument is wrong or no picture is left.
    """
    source, dest, options = at_home(source), at_home(dest), options or PackOptions()
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such folder or file")
    _check_dest(dest, source, force)
    found = _open(source, dest, labels)
    side = options.side or _common_side(found, options)
    report = _new_report(found, options, side)
    job = {"source": str(source.resolve()), "pack": asdict(options), "side": side}
    with Spool(spool_path(dest), job) as spool:
        for left in dest.parent.glob(f".{glob.escape(dest.name)}.*.tmp"):  # of a run that was killed while writing
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        work = partial(pack_pictures, read=found.read, options=options, side=side)
        kept = _work_through(found, work, spool, max_images, report, progress=progress)
        if not kept:
            spool.remove()  # it holds refusals only
            raise FacegenError(f"{source}: it has no usable picture ({_reasons(report)})")
        written = _write(dest, found, kept, options, spool.png, report, progress=progress)
        spool.forget()
        write_report_files(dest, report, [written], examples(report, found.read), progress=progress)
        spool.remove()
    return report


def is_folder(dest: Path) -> bool:
    """Whether an archive of this name is written as a folder."""
    return dest.suffix.lower() != ".zip"


def _check_dest(dest: Path, source: Path, force: bool) -> None:
    """Raise FacegenError for a name that the archive cannot have."""
    if not is_folder(dest):
        check_targets(dest, source, Choice(), force or spool_path(dest).exists())
    elif dest.exists() and not dest.is_dir():
        raise FacegenError(f"{dest}: is a file; name a .zip or a folder")
    elif dest.is_dir() and any(dest.iterdir()):
        raise FacegenError(f"{dest}: is a folder with files in it; name a .zip or an empty folder")


def _open(path: Path, dest: Path, how: str | None) -> _Source:
    """Find the pictures and their labels. Raises FacegenError as `find_labels` and `open_bundle` do."""
    bundle = open_bundle(path, how)
    if bundle is not None:
        about = (path / "data.mdb" if path.is_dir() else path).stat()
        stamp = [about.st_size, about.st_mtime_ns]
        return _Source(path, bundle.title, bundle.names, bundle.read, lambda _: stamp, bundle.labels, [])
    files = Container(path, strict=False)
    skipped = refused_items(files, dest)
    labels = find_labels(files, how)
    out = {item.name for item in labels.skipped}
    names = [name for name in files.names if is_image_name(name) and name not in out]
    told = {JSON, OWN}
    others = [name for name in files.names if not is_image_name(name) and name.rpartition("/")[2] not in told]
    skipped += [*labels.skipped, *(Skipped(name, "not a picture file") for name in others)]
    if how is None and not labels.of:
        folders = set(class_folders(names).values())
        if 1 < len(folders) <= HINT_CLASSES:
            remark = f"no labels: {len(folders)} folders could be classes; use --labels folders for that"
            labels.notes[remark] = sorted(folders)
    return _Source(path, "pictures", names, files.read, files.stamp, labels, skipped)


def _common_side(source: _Source, options: PackOptions) -> int:
    """The side of the pictures if they are not resized. Raises FacegenError if it is not suitable for training."""
    step = max(1, len(source.names) / LOOK_AT)
    sizes: Counter[tuple[int, int]] = Counter()
    for index in range(min(len(source.names), LOOK_AT)):
        name = source.names[int(index * step)]
        try:
            width, height, _ = pictures.read_header(source.read(name), name)
        except FacegenError:
            continue  # it will be left out
        sizes[(min(width, height),) * 2 if options.transform else (width, height)] += 1
    if not sizes:
        raise FacegenError(f"{source.path}: it has no readable picture")
    (width, height), count = sizes.most_common(1)[0]
    if width != height or width < 4 or width & (width - 1) or count * 2 <= sizes.total():
        words = ", ".join(f"{w}x{h}" for (w, h), _ in sizes.most_common(3)) + ", ..." * (len(sizes) > 3)
        advice = "resize them, as with --width 256 --transform center-crop"
        raise FacegenError(
            f"{source.path}: the pictures are {words}; training needs squares of one size, a power of two: {advice}"
        )
    return width


def _work_through(
    source: _Source,
    work: Callable[[list[str]], Any],
    spool: Spool,
    max_images: int | None,
    report: PrepareReport,
    *,
    progress: bool,
) -> list[str]:
    """Return the names of the pictures to write; note what is left out in the report."""
    kept: list[str] = []
    dropped = list(source.skipped)
    most = len(source.names) if max_images is None else max_images
    outcomes = worked_on(map(_Picture, source.names), work, source.stamp, spool)
    with closing(outcomes), tqdm(total=len(source.names), desc="packing", unit="img", disable=not progress) as bar:
        for picture, outcome in outcomes:
            if isinstance(outcome, Skipped):
                dropped.append(outcome)
            else:
                kept.append(picture.name)
                for note in outcome.notes:
                    report.notes.setdefault(note, []).append(picture.name)
            bar.update()
            if len(kept) == most:
                break
    report.read = len(kept) + len(dropped)
    by_reason = Counter(item.reason for item in dropped)
    for item in sorted(dropped, key=lambda item: (-by_reason[item.reason], item.reason)):
        report.drop(item)
    return kept


def _write(
    dest: Path,
    source: _Source,
    kept: Sequence[str],
    options: PackOptions,
    packed: Callable[[str], bytes],
    report: PrepareReport,
    *,
    progress: bool,
) -> Contents:
    """Write the archive and return what it holds. `packed` gives the file of a picture by its name."""
    labels = source.labels
    gray = [name for name in kept if pictures.read_header(packed(name), name)[2]]
    mixed = set(gray) if len(gray) < len(kept) else set()  # an archive is of one kind
    if mixed:
        report.notes["gray picture among color pictures: converted to RGB"] = gray
    whole = {name: value for name, value in asdict(options).items() if value is not None}
    template = CropOptions(crop="align").template if options.align else labels.template
    writer = ArchiveWriter(
        dest,
        groups=labels.groups,
        template=template,
        classes=[] if labels.groups else labels.classes,
        packed=whole | {"format": options.kind},
        as_folder=is_folder(dest),
    )
    with writer, tqdm(total=len(kept), desc="writing", unit="img", disable=not progress) as bar:
        for name in kept:
            data = packed(name)
            if name in mixed:
                data = encode(pictures.to_rgb(pictures.decode(data, name)), options)
            known = dict(labels.known.get(name, {}))
            writer.add_png(name, data, labels.of.get(name), known.pop("age", None), **known)
            bar.update()
    report.written = len(kept)
    report.template = template.to_json() if template else None
    contents = writer.contents()
    report.archives.append(contents.summary())
    return contents


def _new_report(source: _Source, options: PackOptions, side: int) -> PrepareReport:
    words = {
        name.replace("_", "-"): str(value) for name, value in asdict(options).items() if value not in (None, False)
    }
    classes = source.labels.classes
    report = PrepareReport(str(source.path), "pack", source.title, words, classes, side)
    report.notes.update(source.labels.notes)
    return report


def _reasons(report: PrepareReport) -> str:
    counts = [
        f"{len(files):,d} x {reason}, first {': '.join(filter(None, (repr(files[0]['file']), files[0]['detail'])))}"
        for reason, files in report.dropped.items()
    ]
    return "; ".join(counts) or "it holds no files"
