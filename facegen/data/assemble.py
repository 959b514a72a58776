"""From cropped faces to archives: choose among them, split, write, report. One run ends here, and a merge of shards."""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from tqdm import tqdm

import facegen
from facegen.ages import AgeGroups
from facegen.data.alignment import measure_alignment
from facegen.data.archive import ArchiveWriter, check_archive_name
from facegen.data.contents import Contents
from facegen.data.crops import Cropped
from facegen.data.options import Choice
from facegen.data.report.page import EXAMPLES, write_report
from facegen.data.selection import Selection, assign_splits, offer_order
from facegen.data.sources import Record, Skipped
from facegen.errors import FacegenError
from facegen.files import atomic_path, check_free, write_json
from facegen.images import decode, read_header, to_rgb

if TYPE_CHECKING:
    from facegen.faces.template import AlignmentTemplate

TEMPLATE_FACES = 200  # the landmarks scatter by 0.02-0.04 of the width: the median of 200 is good to 0.003
MAX_NAME = 220  # bytes: file systems take 255, and `.report.html` and what is written meanwhile are longer
OPEN_END = 999  # an age that only a group with an open end holds

Outcome = Cropped | Skipped


@dataclass
class PrepareReport:
    """What `prepare` did; `<archive>.report.json` holds it field by field.

    Attributes:
        source, source_name, title: where the pictures came from.
        options: what was asked for, in words.
        groups: labels of the age groups.
        resolution: side of the pictures in pixels.
        read, written: files and rows looked at; faces in the archives.
        dropped: for each reason every file that was left out, as `{"file", "detail"}`; most frequent first.
        notes: for each oddity the files that have it and were taken all the same.
        template: where the landmarks sit in the pictures, if known.
        archives: `Contents.summary` of each archive.
    """

    source: str
    source_name: str
    title: str
    options: dict[str, Any]
    groups: list[str]
    resolution: int | None
    format: int = 1
    facegen: str = facegen.__version__
    read: int = 0
    written: int = 0
    dropped: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    template: list | None = None
    archives: list[dict[str, Any]] = field(default_factory=list)

    def drop(self, skipped: Skipped) -> None:
        """Note a file that is left out."""
        self.dropped.setdefault(skipped.reason, []).append({"file": skipped.name, "detail": skipped.detail})

    @property
    def drop_counts(self) -> dict[str, int]:
        """How many files were left out for each reason, most frequent first."""
        return {reason: len(files) for reason, files in self.dropped.items()}


def report_path(archive: str | os.PathLike[str], suffix: str = ".json") -> Path:
    """Where the report of an archive is written: beside it, `faces.zip.report.json` and `.html`."""
    archive = Path(archive)
    return archive.with_name(f"{archive.name}.report{suffix}")


def split_path(archive: Path, split: str | None) -> Path:
    """The file of a split: `faces.zip`, `faces-train.zip`."""
    return archive if split is None else archive.with_name(f"{archive.stem}-{split}{archive.suffix}")


def split_paths(archive: Path, choice: Choice) -> list[Path]:
    """The files of all splits; the archive itself without splits."""
    return [split_path(archive, name) for name, _ in choice.split] or [archive]


def check_targets(archive: Path, source: Path, choice: Choice, force: bool) -> None:
    """Refuse names that archives cannot have, those of splits included, and the source's own.

    What is there already is refused too, without `force`.
    """
    for path in split_paths(archive, choice):
        check_archive_name(path)
        if (length := len(os.fsencode(path.name))) > MAX_NAME:
            raise FacegenError(f"{path}: the name has {length} bytes; at most {MAX_NAME} are allowed")
        if path.exists() and path.samefile(source):
            raise FacegenError(f"{path}: is also the source; give the archive another name")
        check_free(path, force)


def choose(
    items: Sequence[Record | Skipped],
    groups: AgeGroups,
    choice: Choice | None,
    outcomes: Callable[[Iterable[Record]], Iterator[tuple[Record, Outcome]]],
    report: PrepareReport,
    *,
    progress: bool,
) -> list[tuple[Record, int]]:
    """Return the faces to write with their labels, in the order of `items`; note what is left out in the report.

    `choice` is None where all are taken. `outcomes` crops pictures, or looks up what came of them; it is not asked for
    those that no outcome could save.
    """
    report.read = len(items)
    records: list[Record] = []
    labels: dict[str, int] = {}
    dropped: list[Skipped] = []
    for item in items:
        label = label_of(item, groups) if isinstance(item, Record) else item
        if isinstance(label, int) and isinstance(item, Record):
            records.append(item)
            labels[item.name] = label
        elif isinstance(label, Skipped):
            dropped.append(label)

    order = range(len(records)) if choice is None else offer_order(records, choice)
    position = {records[i].name: i for i in order}
    selection = Selection(choice)
    kept = []
    bar = tqdm(total=len(records), desc="preparing", unit="img", disable=not progress)

    def worth_a_look() -> Iterator[Record]:
        for i in order:
            refused = selection.refuses(records[i], labels[records[i].name])
            if refused is None:
                yield records[i]
            else:
                dropped.append(refused)
                bar.update()

    with bar:
        for record, outcome in outcomes(worth_a_look()):
            refused = selection.offer(record, labels[record.name], outcome)
            if refused is not None:
                dropped.append(refused)
            elif isinstance(outcome, Cropped):
                kept.append(position[record.name])
                for note in outcome.notes:
                    report.notes.setdefault(note, []).append(record.name)
            bar.update()

    by_reason = Counter(skipped.reason for skipped in dropped)
    for skipped in sorted(dropped, key=lambda s: (-by_reason[s.reason], s.reason, s.name)):
        report.drop(skipped)
    report.notes = {note: sorted(names) for note, names in sorted(report.notes.items())}
    return [(records[i], labels[records[i].name]) for i in sorted(kept)]


def label_of(record: Record, groups: AgeGroups) -> int | Skipped:
    """Return the age group that holds all ages that the person may have; or that none does."""
    first = groups.index_of(record.low)
    last = groups.index_of(OPEN_END if record.high is None else record.high)
    if first is not None and first == last:
        return first
    if record.age is not None:
        return Skipped(record.name, "age outside the groups", f"age {record.low}")
    return Skipped(record.name, "age range fits no group", f"{record.age_text} years")


def write_archives(
    archive: Path,
    faces: Sequence[tuple[Record, int]],
    groups: AgeGroups,
    choice: Choice,
    template: AlignmentTemplate | None,
    png: Callable[[str], bytes],
    report: PrepareReport,
    extra: Mapping[str, Any] | None = None,
    *,
    progress: bool,
) -> list[Contents]:
    """Write one archive, or one for each split; add them to the report and return what they hold.

    Where no `template` is known it is measured on the pictures. `png` gives a picture by the name of its record;
    `extra` is JSON to add to the archive, by name; it is worth an archive without a face.
    """
    if extra and not faces:
        with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as empty:
            for file, content in extra.items():
                empty.writestr(file, json.dumps(content))
        return []
    if not faces:
        counts = "; ".join(
            f"{len(files):,d} x {reason}, first {': '.join(filter(None, (repr(files[0]['file']), files[0]['detail'])))}"
            for reason, files in report.dropped.items()
        )
        raise FacegenError(f"{report.source}: no usable face in it ({counts or 'it holds no files'})")
    splits = assign_splits([record for record, _ in faces], choice)
    for name, members in splits.items():
        if not members:
            raise FacegenError(
                f"--split {name} gets no face: {len(faces):,d} faces are too few, or show too few people"
            )

    if template is None:
        count = min(TEMPLATE_FACES, len(faces))
        names = [faces[i * len(faces) // count][0].name for i in range(count)]
        sample = [png(name) for name in names]
        for name, data in zip(names, sample, strict=True):  # another process decodes them
            if read_header(data, name)[:2] != (report.resolution, report.resolution):
                raise FacegenError(f"{name}: is not of {report.resolution}x{report.resolution} pixels; start over")
        template = measure_alignment(sample, progress=progress)
    report.template = template.to_json() if template else None
    report.written = len(faces)
    written: list[Contents] = []
    with tqdm(total=len(faces), desc="writing", unit="img", disable=not progress) as bar:
        for name, members in splits.items():
            path = split_path(archive, name)
            chosen = [faces[i] for i in members]
            with ArchiveWriter(path, groups=groups, template=template) as writer:
                for record, label in chosen:
                    writer.add_png(record.name, png(record.name), label, record.age, **_known(record))
                    bar.update()
                for file, content in (extra or {}).items():
                    writer.add_json(file, content)
            written.append(writer.contents())
            report.archives.append(written[-1].summary(name))
    return written


def _known(record: Record) -> dict[str, Any]:
    """What facegen.json keeps of a face beyond its exact age."""
    ages = [record.low, record.high] if record.age is None else None
    known = {"ages": ages, "person": record.person, "gender": record.gender}
    return {name: value for name, value in known.items() if value is not None}


def examples(report: PrepareReport, read: Callable[[str], bytes]) -> dict[str, list[tuple[str, Image.Image | None]]]:
    """For each reason the first files that were left out, as small pictures where they can be decoded."""
    return {
        reason: [(entry["file"], _thumbnail(entry["file"], read)) for entry in dropped[:EXAMPLES]]
        for reason, dropped in report.dropped.items()
    }


def _thumbnail(name: str, read: Callable[[str], bytes]) -> Image.Image | None:
    try:
        image = decode(read(name), name)
    except FacegenError:
        return None
    image.thumbnail((96, 96))
    return to_rgb(image)


def write_report_files(
    archive: Path,
    report: PrepareReport,
    archives: Sequence[Contents],
    examples: Mapping[str, Sequence[tuple[str, Image.Image | None]]] | None = None,
    *,
    progress: bool,
) -> None:
    """Write the report beside the archive: JSON for programs, HTML for people."""
    summary = asdict(report)
    write_json(report_path(archive), summary, indent=1)
    write_report(report_path(archive, ".html"), summary, archives, examples, progress=progress)
