"""From a data set of faces with ages to a training archive."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tqdm import tqdm

from facegen.ages import AgeGroups
from facegen.data import pictures
from facegen.data.archive import ArchiveWriter
from facegen.data.container import Container
from facegen.data.parallel import map_in_order
from facegen.data.sources import Record, Skipped, get_reader
from facegen.errors import FacegenError
from facegen.files import atomic_path

if TYPE_CHECKING:
    from facegen.faces import AlignmentTemplate

TEMPLATE_FACES = 200  # the landmarks scatter by 0.02-0.04 of the width: the median of 200 is good to 0.003


@dataclass
class PrepareReport:
    """What `prepare` did: faces per group, and every file that was left out, by reason."""

    source: str
    archive: str
    source_name: str
    resolution: int
    groups: list[str]
    written: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    enlarged: int = 0
    cropped: int = 0
    template: list | None = None

    def skip(self, skipped: Skipped) -> None:
        """Note a file that is left out."""
        entry = {"file": skipped.name} | ({"detail": skipped.detail} if skipped.detail else {})
        self.skipped.setdefault(skipped.reason, []).append(entry)

    def skip_counts(self) -> dict[str, int]:
        """How many files were left out for each reason, most frequent first."""
        counts = {reason: len(files) for reason, files in self.skipped.items()}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def report_path(archive: str | os.PathLike[str]) -> Path:
    """Where the report of an archive is written: beside it, `faces.zip.report.json`."""
    archive = Path(archive)
    return archive.with_name(f"{archive.name}.report.json")


def prepare(
    source: str | os.PathLike[str],
    archive: str | os.PathLike[str],
    *,
    source_name: str = "utkface",
    resolution: int = 64,
    groups: AgeGroups | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Write the training archive `archive` (a zip) from the data set in the folder or zip `source`.

    Pictures become RGB PNG of `resolution` pixels (a power of two), by Lanczos filtering; one that is not
    square is cut to the square in its middle. The label is the index of the age's group; facegen.json keeps
    exact ages, file names, groups, and the alignment template measured on the pictures. Files come in the
    order of their names, so the same source gives the same archive.

    A file that is broken, not understood or of an age outside `groups` (the ten default groups if None) is
    left out and listed in the report, which is returned and written beside the archive as
    `<archive>.report.json`.

    Raises FacegenError or FileNotFoundError, and writes nothing, when the source or an argument is wrong or
    no face is left.
    """
    source, archive = Path(source), Path(archive)
    groups = groups or AgeGroups.default()
    reader = get_reader(source_name)
    if resolution < 4 or resolution & (resolution - 1):
        raise FacegenError(f"resolution is {resolution}: it must be a power of two (32, 64, 128, ...)")
    files = Container(source)
    if archive.exists() and archive.samefile(source):
        raise FacegenError(f"{archive}: is the source itself; give the archive another name")
    report = PrepareReport(str(source), str(archive), source_name, resolution, groups.labels)

    records: list[Record] = []
    for record in reader(files):
        if isinstance(record, Skipped):
            report.skip(record)
        elif groups.index_of(record.age) is None:
            report.skip(Skipped(record.name, "age outside the groups", f"age {record.age}"))
        else:
            records.append(record)

    with ArchiveWriter(archive, groups=groups) as writer:
        written = []
        results = map_in_order(lambda record: _resize(record, resolution), records)
        for record, result in zip(
            records, tqdm(results, "preparing", len(records), unit="img", disable=not progress), strict=True
        ):
            if isinstance(result, Skipped):
                report.skip(result)
                continue
            writer.add_png(record.name, result.png, groups.index_of(record.age), record.age)
            report.enlarged += result.is_enlarged
            report.cropped += result.is_cropped
            written.append(record)
        if not written:
            raise FacegenError(f"{source}: no usable face in it ({_in_words(report) or 'it holds no files'})")
        writer.template = _measure_template(written, progress)

    report.written = len(written)
    ages = Counter(groups.index_of(record.age) for record in written)
    report.counts = {label: ages[index] for index, label in enumerate(groups.labels)}
    report.template = writer.template.to_json() if writer.template else None
    with atomic_path(report_path(archive)) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=1) + "\n")
    return report


@dataclass(frozen=True)
class _Resized:
    png: bytes
    is_enlarged: bool
    is_cropped: bool


def _resize(record: Record, resolution: int) -> _Resized | Skipped:
    try:
        image = pictures.decode(record.open(), record.name)
    except FacegenError as error:
        return Skipped(record.name, "unreadable picture", str(error))
    square = pictures.center_square(image.convert("RGB"))
    small = square.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return _Resized(pictures.encode_png(small), square.width < resolution, image.width != image.height)


def _measure_template(records: list[Record], progress: bool) -> AlignmentTemplate | None:
    from facegen.faces import measure_template

    count = min(TEMPLATE_FACES, len(records))
    chosen = [records[i * len(records) // count] for i in range(count)]
    images = [pictures.center_square(pictures.decode(r.open(), r.name).convert("RGB")) for r in chosen]
    return measure_template(images, progress=progress)


def _in_words(report: PrepareReport) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in report.skip_counts().items())
