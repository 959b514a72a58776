"""What a training archive holds, and everything that is wrong with it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from facegen import images as pictures
from facegen.container import is_image_name
from facegen.data.assemble import PrepareReport
from facegen.data.contents import Contents, Face, Problem, check_sizes, count_by_kind, read_contents
from facegen.data.report.page import EXAMPLES, FEW, write_report
from facegen.errors import FacegenError
from facegen.files import write_json
from facegen.parallel import map_in_order
from facegen.reading import open_zip
from facegen.text import visible

IMBALANCE = 10  # the largest group by the smallest, from which it is worth a note


@dataclass
class Inspection:
    """What `inspect_archive` found.

    Attributes:
        summary: as `PrepareReport` in `<archive>.report.json`; also `problems`, `{kind: [{"file", "detail"}, ...]}`,
            and `attributes` of its archive (see `Contents.attribute_counts`).
        problems: everything that is wrong.
        notes: remarks for people, on what is unusual but not wrong.
        contents: the archive, with the good pictures only; None where it could not be opened.
    """

    summary: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    contents: Contents | None = None

    def write_html(self, path: str | os.PathLike[str], *, progress: bool = True) -> None:
        """Write the report as one HTML file. An archive that cannot be opened has a report without faces."""
        summary = self.summary if self.contents else {**self.summary, "archives": []}
        archives = [self.contents] if self.contents else []
        write_report(Path(path), summary, archives, self._examples(), progress=progress)

    def write_json(self, path: str | os.PathLike[str]) -> None:
        """Write the summary, with every problem in it, as JSON."""
        write_json(path, self.summary, indent=1)

    def _examples(self) -> dict[str, list[tuple[str, Image.Image | None]]]:
        """The first pictures of each kind of problem that can be shown."""
        if self.contents is None:
            return {}
        files = self.contents.files
        good = {face.name for face in self.contents.faces}
        examples: dict[str, list[tuple[str, Image.Image | None]]] = {}
        for kind, problems in count_by_kind(self.problems).items():
            for name in [problem.file for problem in problems[:EXAMPLES] if problem.file in good]:
                try:
                    image = pictures.decode(files.read(name), name)
                except FacegenError:  # a good header and nothing behind it
                    continue
                examples.setdefault(kind, []).append((name, image))
        return examples


def inspect_archive(path: str | os.PathLike[str], *, full: bool = False, progress: bool = True) -> Inspection:
    """Check a training archive, a zip or folder made by facegen or another StyleGAN program, and report its contents.

    Every file is read once, so that damage in a zip (CRC) and identical pictures are found, and every picture's header
    is read; `full` decodes the pictures too. Everything that is wrong is listed in `problems`.

    Raises FileNotFoundError if there is nothing at `path`, and OSError if reading is not allowed.
    """
    path = Path(path)
    try:
        contents = read_contents(path)
    except FileNotFoundError:
        raise
    except (FacegenError, ValueError, NotImplementedError, OverflowError) as error:
        # zipfile raises more than its own error on a broken list of files
        problem = Problem("unreadable archive", "", str(error))
        entry: dict[str, Any] = {"file": path.name, "split": None, "written": 0, "groups": {}, "ages": {}}
        report = PrepareReport(str(path), "archive", "cannot be opened", {"full": full}, [], None, archives=[entry])
        return Inspection(_summary(report, [problem]), [problem])
    read = len(contents.faces)
    if contents.files.is_zip:
        _check_zip(contents)
    resolution = _check_pictures(contents, full=full, progress=progress)
    _check_balance(contents)
    report = PrepareReport(
        str(path), "archive", _title(contents), {"full": full}, contents.classes, resolution, read=read
    )
    report.written, report.notes = len(contents.faces), contents.notes
    report.template = contents.template.to_json() if contents.template else None
    report.archives = [contents.summary() | {"attributes": contents.attribute_counts()}]
    remarks = contents.notes.items()
    notes = [note + (f" ({len(names):,d}, first: {names[0]})" if names else "") for note, names in remarks]
    return Inspection(_summary(report, contents.problems), contents.problems, notes, contents)


def _check_zip(contents: Contents) -> None:
    """Note what is odd in the zip's list of files."""
    with open_zip(contents.files.path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    compressed = sorted({e.filename for e in entries if is_image_name(e.filename) and e.compress_type})
    if compressed:
        contents.notes["compressed in the zip: slower to read and hardly smaller"] = compressed
    names = [entry.filename for entry in entries if is_image_name(entry.filename)]
    if names != sorted(names):
        contents.notes["the files in the zip are not in the order of their names"] = []


def _check_pictures(contents: Contents, *, full: bool, progress: bool) -> int | None:
    """Read every picture, report what is wrong, keep the good ones in `contents`; returns the resolution."""

    def check(face: Face) -> tuple[tuple[int, int], bool, bytes] | str:
        try:
            data = contents.files.read(face.name)
            width, height, is_gray = pictures.read_header(data, face.name)
            if full:
                pictures.decode(data, face.name)
            return (width, height), is_gray, hashlib.blake2b(data, digest_size=16).digest()
        except Exception as error:  # a broken zip makes zipfile raise anything; here it is one more broken picture
            return str(error) or repr(error)

    size_of: dict[str, tuple[int, int]] = {}
    first_of: dict[bytes, Face] = {}
    gray: list[str] = []
    same: list[str] = []
    good: list[Face] = []
    results = map_in_order(check, contents.faces)
    bar = tqdm(results, "checking", len(contents.faces), unit="img", disable=not progress)
    for face, checked in zip(contents.faces, bar, strict=True):
        if isinstance(checked, str):
            contents.report("unreadable picture", face.name, _without(checked, contents.files.path, face.name))
            continue
        good.append(face)
        size_of[face.name], is_gray, digest = checked
        if is_gray:
            gray.append(face.name)
        first = first_of.setdefault(digest, face)
        if first is not face:
            if first.label != face.label:
                detail = f"the same picture as {first.name}, labeled {face.label} here and {first.label} there"
                contents.report("identical pictures, different labels", face.name, detail)
            else:
                same.append(face.name)
    contents.faces = good
    if same:
        contents.notes["the same picture as another of its class"] = same
    if gray and len(gray) < len(good):
        contents.notes["gray pictures among color ones"] = gray
    resolution, problems = check_sizes(size_of)
    contents.problems += problems
    return resolution


def _check_balance(contents: Contents) -> None:
    counts = {name: len(faces) for name, faces in contents.by_class()} if contents.classes else {}
    filled = {name: count for name, count in counts.items() if count}
    empty = [name for name, count in counts.items() if not count]
    if empty:
        contents.notes[f"classes without a picture: {', '.join(empty[:12])}{' ...' * (len(empty) > 12)}"] = []
    few = [f"{name} ({count})" for name, count in filled.items() if count < FEW]
    if few:
        contents.notes[f"fewer than {FEW} pictures: {', '.join(few[:12])}{' ...' * (len(few) > 12)}"] = []
    if filled and max(filled.values()) >= IMBALANCE * min(filled.values()):
        large, small = max(filled, key=filled.__getitem__), min(filled, key=filled.__getitem__)
        ratio = filled[large] / filled[small]
        contents.notes[
            f"uneven: the largest class ({large}) has {ratio:.0f} times the pictures of the smallest ({small})"
        ] = []


def _summary(report: PrepareReport, problems: list[Problem]) -> dict[str, Any]:
    kinds = count_by_kind(problems).items()
    return asdict(report) | {
        "problems": {kind: [{"file": p.file, "detail": p.detail} for p in found] for kind, found in kinds}
    }


def _title(contents: Contents) -> str:
    if contents.is_own:
        return "training archive of facegen"
    words = {"none": "no labels", "class": "whole numbers as labels"}
    vectors = f"{contents.label_kind} vectors of {contents.label_size} numbers as labels"
    return f"training archive of the StyleGAN family, {words.get(contents.label_kind, vectors)}"


def _without(error: str, path: Path, name: str) -> str:
    """An error's words without the names that stand beside them anyway."""
    path_shown, inside, shown = visible(str(path)), visible(str(path / name)), visible(name)
    error = error.removeprefix(f"{inside}: ").removeprefix(f"{path_shown}: ").removeprefix(f"{shown}: ")
    return error.replace(f"cannot read {shown} ", "cannot be read ")
