"""Preparing on several machines: each writes a shard, and `merge` joins them into what one run would have written."""

from __future__ import annotations

import hashlib
import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from facegen.ages import AgeGroups
from facegen.container import Container
from facegen.data.assemble import Outcome, PrepareReport, check_targets, choose, write_archives, write_report_files
from facegen.data.crops import read_outcome
from facegen.data.options import Choice, CropOptions, parse_split
from facegen.data.sources import Record, Skipped
from facegen.data.sources.base import read_item
from facegen.data.spool import Spool
from facegen.errors import FacegenError
from facegen.files import at_home
from facegen.reading import check_types

FORMAT = 1
SHARD_FILE = "shard.json"
_HEAD_TYPES = {"number": (int,), "count": (int,), "source": (str,)}
_SAME_TYPES = {"source_name": (str,), "title": (str,), "options": (dict,), "groups": (list,)}
_SAME_TYPES |= {"crop": (dict,), "choice": (dict,), "files": (str,)}


def parse_shard(text: str) -> tuple[int, int]:
    """Read `3/8`. Raises FacegenError unless it is one of the shards from 1 to as many as there are."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and max(len(number), len(count)) < 10) or not 1 <= int(
        number
    ) <= int(count):
        raise FacegenError(f"--shard is {text}: write which of how many, as 3/8, from 1/8 to 8/8")
    return int(number), int(count)


def digest_items(items: Iterable[Record | Skipped]) -> str:
    """Return a text that tells lists of files apart: dealt out from different ones, shards would lose files."""
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        digest.update(repr(item).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def describe_shard(
    shard: tuple[int, int],
    report: PrepareReport,
    items: Sequence[Record | Skipped],
    spool: Spool,
    crop: CropOptions,
    choice: Choice,
    dealt: str,
) -> dict[str, Any]:
    """What a shard's archive holds for `merge`: what was asked for, and for every n-th file what came of it.

    `dealt` is `digest_items` of all files; `items` are every n-th of these.
    """
    rows = []
    for item in items:
        outcome = asdict(spool.get(item.name)) if item.name in spool else None
        if outcome is not None:
            outcome.pop("png", None)
        rows.append({"item": asdict(item), "outcome": outcome})
    same = {"source_name": report.source_name, "title": report.title, "options": report.options}
    same |= {"groups": report.groups, "crop": asdict(crop), "choice": asdict(choice), "files": dealt}
    return {"format": FORMAT, "shard": list(shard), "source": report.source, "same": same, "items": rows}


@dataclass
class _Shard:
    """One shard's archive, opened."""

    files: Container
    number: int
    count: int
    source: str
    same: dict[str, Any]  # what all shards of a data set have in common
    items: list[Record | Skipped]
    outcomes: dict[str, Outcome]
    pictures: dict[str, str]  # name in the data set -> file in the archive


def merge(
    shards: Sequence[str | os.PathLike[str]],
    archive: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: bool = True,
) -> PrepareReport:
    """Join shards into the archive that one run of `prepare` would have written, its splits and its report included.

    Raises FacegenError, and writes nothing, when a shard is missing, given twice, of another data set or made with
    other options, or without `force` when the archive is there already.
    """
    archive = at_home(archive)
    opened = sorted((_open(Path(path)) for path in shards), key=lambda shard: shard.number)
    _check_complete(opened)
    same = opened[0].same
    crop, groups, choice = _read_options(same, opened[0].files.path)
    for shard in opened:
        check_targets(archive, shard.files.path, choice, force)
    report = PrepareReport(
        opened[0].source, same["source_name"], same["title"], same["options"], same["groups"], crop.resolution
    )
    # The dealing out undone: the first of each, then the second of each, ...
    items = [item for row in zip_longest(*(shard.items for shard in opened)) for item in row if item is not None]
    owners = {name: shard for shard in opened for name in shard.outcomes}

    def look_up(records: Iterable[Record]) -> Iterator[tuple[Record, Outcome]]:
        for record in records:
            if record.name not in owners:
                raise FacegenError(f"{record.name}: no shard mentions it; make the shards again")
            yield record, owners[record.name].outcomes[record.name]

    def png(name: str) -> bytes:
        shard = owners[name]
        if not isinstance(file := shard.pictures.get(name), str):
            raise FacegenError(f"{shard.files.path}: there is no picture of {name} in it; make the shard again")
        return shard.files.read(file)

    faces = choose(items, groups, choice, look_up, report, progress=progress)
    written = write_archives(archive, faces, groups, choice, crop.template, png, report, progress=progress)
    write_report_files(archive, report, written, progress=progress)
    return report


def _open(path: Path) -> _Shard:
    files = Container(path)
    if SHARD_FILE not in files.names:
        raise FacegenError(f"{path}: is not a shard; `facegen prepare --shard i/n` writes shards")
    try:
        content = files.read_json(SHARD_FILE)
        if content["format"] != FORMAT:
            raise FacegenError(f"is of format {reprlib.repr(content['format'])}, this facegen reads {FORMAT}")
        number, count = content["shard"]
        source, same = content["source"], check_types(content["same"], _SAME_TYPES)
        check_types({"number": number, "count": count, "source": source}, _HEAD_TYPES)
        shard = _Shard(files, number, count, source, same, [], {}, {})
        for row in content["items"]:
            item = read_item(row["item"])
            shard.items.append(item)
            if row["outcome"] is not None:
                shard.outcomes[item.name] = read_outcome(row["outcome"])
        faces = files.read_json("facegen.json")["faces"] if "facegen.json" in files.names else []
        shard.pictures = {face["source"]: face["file"] for face in faces}
    except (ValueError, KeyError, TypeError) as error:  # FacegenError among them
        raise FacegenError(f"{path}: {SHARD_FILE} is damaged ({error}); make the shard again") from error
    return shard


def _read_options(same: dict[str, Any], path: Path) -> tuple[CropOptions, AgeGroups, Choice]:
    """What the shards were made with. Raises FacegenError if it makes no sense."""
    try:
        split = ",".join(f"{name}={share}" for name, share in same["choice"]["split"])
        choice = Choice.from_json(same["choice"] | {"split": parse_split(split) if split else ()})
        return CropOptions.from_json(same["crop"]), AgeGroups.from_labels(same["groups"]), choice
    except (ValueError, KeyError, TypeError) as error:
        raise FacegenError(f"{path}: the options in its {SHARD_FILE} are damaged ({error})") from error


def _check_complete(shards: Sequence[_Shard]) -> None:
    if not shards:
        raise FacegenError("no shards given")
    first = shards[0]
    for shard in shards[1:]:
        if shard.count != first.count or shard.same != first.same:
            keys = [key for key, value in shard.same.items() if value != first.same.get(key)]
            differing = ", ".join(keys) or f"{first.count} and {shard.count} shards"
            raise FacegenError(
                f"{shard.files.path} and {first.files.path}: were not made by the same command from the same files"
                f" ({differing} differ)"
            )
    numbers = {shard.number for shard in shards}
    for shard, other in pairwise(shards):
        if shard.number == other.number:
            raise FacegenError(f"{other.files.path}: is shard {shard.number} again, as {shard.files.path}; give one")
    missing = ", ".join(str(n) for n in range(1, min(first.count, len(shards) + 20) + 1) if n not in numbers)
    if missing:
        raise FacegenError(
            f"shard {missing} of {first.count} is missing; prepare it with --shard {missing}/{first.count}"
        )
