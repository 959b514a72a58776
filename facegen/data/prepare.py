"""From a data set of faces with ages to a training archive."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from facegen.ages import AgeGroups
from facegen.container import AGAIN, Container
from facegen.data.assemble import (
    Outcome,
    PrepareReport,
    check_targets,
    choose,
    examples,
    split_paths,
    write_archives,
    write_report_files,
)
from facegen.data.crops import crop_pictures
from facegen.data.options import Choice, CropOptions
from facegen.data.shards import SHARD_FILE, describe_shard, digest_items
from facegen.data.sources import Record, Skipped, Source, open_source
from facegen.data.spool import Spool, spool_path, worked_on
from facegen.files import at_home

_WRITTEN = re.compile(r"([^/]+\.zip)\.(?:partial/|report\.(?:json|html)$)", re.IGNORECASE)  # beside an archive


def prepare(
    path: str | os.PathLike[str],
    archive: str | os.PathLike[str],
    *,
    source: Source | None = None,
    crop: CropOptions | None = None,
    groups: AgeGroups | None = None,
    choice: Choice | None = None,
    shard: tuple[int, int] | None = None,
    force: bool = False,
    progress: bool = True,
) -> PrepareReport:
    """Write the training archive `archive` (a zip) from the data set at `path`.

    The label of a face is the index of its age group; facegen.json keeps exact ages, names of files and persons, and
    where the landmarks sit. Faces come in the order of the data set, so the same source gives the same archive.

    Pictures that cannot be used are skipped and listed, with the reason, in the report, which is returned and written
    next to the archive (`<archive>.report.json` and `.html`). Finished pictures are kept in `<archive>.partial` until
    the archive is written: after Ctrl-C or a crash the same call continues where it stopped.

    Args:
        path: the data set: a folder, a zip or a CSV table.
        archive: the zip to write; with splits `faces.zip` becomes `faces-train.zip`, `faces-val.zip`, ...
        source: which data set it is, with its options; None detects it.
        crop: how pictures are cropped; None is the data set's own way at 64x64 pixels.
        groups: the age groups; None for the ten default ones.
        choice: how many faces to keep and how to split them; None keeps all.
        shard: `(i, n)`, i from 1 to n: work on every n-th file only and leave the choice to `facegen merge`.
        force: replace an existing archive; a continued run does so anyway, as it may have stopped before its report.
        progress: show bars.

    Raises FacegenError or FileNotFoundError, and writes no archive, when an argument is wrong or no face is left.
    """
    archive = at_home(archive)
    files, source = open_source(path, source)
    crop, groups, choice = crop or CropOptions(crop=source.crop), groups or AgeGroups.default(), choice or Choice()
    check_targets(archive, files.path, Choice() if shard else choice, force or spool_path(archive).exists())
    report = _new_report(files, source, crop, groups, choice)
    items = list(_read_items(files, source, archive))
    if shard is not None:
        dealt, items = digest_items(items), items[shard[0] - 1 :: shard[1]]
    with Spool(spool_path(archive), {"source": str(files.path.resolve()), "crop": asdict(crop)}) as spool:
        _clear_half_written(archive, choice)
        crop_all = _crop_all(files, crop, spool)
        faces = choose(items, groups, None if shard else choice, crop_all, report, progress=progress)
        extra = {}
        if shard is not None:  # it holds all faces: `facegen merge` chooses, from all shards
            extra = {SHARD_FILE: describe_shard(shard, report, items, spool, crop, choice, dealt)}
            choice = Choice()
        elif not faces:
            spool.remove()  # it holds refusals only
        del items  # half a million records take memory that is needed now
        template, png = crop.template, spool.png
        written = write_archives(archive, faces, groups, choice, template, png, report, extra, progress=progress)
        del faces, extra
        spool.forget()
        write_report_files(archive, report, written, examples(report, files.read), progress=progress)
        spool.remove()
    return report


def _crop_all(files: Container, crop: CropOptions, spool: Spool) -> Callable[..., Iterator[tuple[Record, Outcome]]]:
    def work(names: list[str]) -> list[Outcome]:
        return crop_pictures(names, files.read, crop)

    return partial(worked_on, work=work, stamp=files.stamp, spool=spool)


def _clear_half_written(archive: Path, choice: Choice) -> None:
    """Delete what a run left that was killed while writing; only the process that has the spool writes now."""
    for path in split_paths(archive, choice):
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            left.unlink()


def _read_items(files: Container, source: Source, archive: Path) -> Iterator[Record | Skipped]:
    """Everything that the data set holds, except what runs (other shards' too) left in its folder."""
    yield from refused_items(files, archive)
    yield from source.read(files)


def refused_items(files: Container, archive: Path) -> list[Skipped]:
    """What is dangerous or endless in a source. What runs left that wrote archives into it goes from its `names`."""
    here, folder = archive.resolve().parent, files.path.resolve()
    if here.is_relative_to(folder):
        prefix = "" if here == folder else here.relative_to(folder).as_posix() + "/"
        there = [name for name in files.names if name.startswith(prefix)]
        beside = {name: prefix + match[1] for name in there if (match := _WRITTEN.match(name, len(prefix)))}
        own = {prefix + archive.name, *beside, *beside.values()}
        inside = tuple(f"{prefix}{name}/" for name in (archive.name, spool_path(archive).name))  # of a folder
        files.names = [name for name in files.names if name not in own and not name.startswith(inside)]
    again, unsafe = "the same folder again", "unsafe name"
    return [Skipped(name, again if why == AGAIN else unsafe, why) for name, why in files.refused.items()]


def _new_report(
    files: Container, source: Source, crop: CropOptions, groups: AgeGroups, choice: Choice
) -> PrepareReport:
    """A report with the options as people write them, without those that choose nothing."""
    words: dict[str, Any] = asdict(source) | asdict(crop) | asdict(choice)
    words["split"] = ",".join(f"{name}={share:g}" for name, share in choice.split) or None
    options = {name.replace("_", "-"): str(value) for name, value in words.items() if value is not None}
    return PrepareReport(str(files.path), source.name, source.title, options, groups.labels, crop.resolution)
