"""What a training archive says about its pictures: the only reader of `dataset.json` and `facegen.json`.

What is wrong becomes an entry in a list. `inspect_archive` shows them all; `FaceArchive` refuses the archive with the
first one, as training must.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from facegen.ages import OLDEST_PERSON, AgeGroups
from facegen.container import AGAIN, DOUBLE, Container, is_image_name, leads_out
from facegen.errors import FacegenError
from facegen.faces.template import AlignmentTemplate
from facegen.text import visible

FORMAT = 1  # version of facegen.json
FEW_VALUES = 20  # an attribute of faces that takes more values tells single faces, not kinds of faces
MAX_ATTRIBUTES = 100  # that are counted; of facegen's own there are three
MAX_CLASSES = 10_000  # a label beyond this is a mistake in the file, and its one-hot vectors would fill the memory
# More labels, faces or names left out than an archive has files: beyond so many they are not reported one by one.
MAX_SPARE = 10_000


@dataclass(slots=True)
class Face:
    """A picture of an archive and what the archive says of it.

    Attributes:
        name: the file.
        label: the class, -1 where it has none (or one that makes no sense).
        age: the age in years, where known exactly.
        ages: the age or range as text (`26`, `20-29`, `70+`); empty if unknown.
        person, gender: None where not known; gender is `female` or `male`.
        attributes: what is known beside the age and where the face comes from.
    """

    name: str
    label: int = -1
    age: int | None = None
    ages: str = ""
    person: str | None = None
    gender: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in an archive: its kind, the file it is about (empty: the whole), and what exactly."""

    kind: str
    file: str
    detail: str

    def __str__(self) -> str:
        file = "" if self.file in self.kind else f"{visible(self.file)}: "
        return f"{self.kind}: {file}{self.detail}"


@dataclass
class Contents:
    """An archive as its files tell it, mistakes and all.

    Attributes:
        files: where to read the pictures.
        faces: one for each picture that the archive does not declare as left out, sorted by name.
        classes: names of the classes, by label; empty without labels.
        age_groups: the age groups that the classes are, if they are.
        label_kind: `none`, `class` (whole numbers), `one-hot` or `continuous` (vectors).
        label_size: length of the vectors, 0 for other labels.
        is_own: whether facegen wrote it (it holds facegen.json).
        template: where the landmarks sit in the pictures, if known.
        problems: what is wrong with names, labels and ages.
        notes: what a person may want to know: a remark -> the files that it is about.
    """

    files: Container
    faces: list[Face] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    age_groups: AgeGroups | None = None
    label_kind: str = "none"
    label_size: int = 0
    is_own: bool = False
    template: AlignmentTemplate | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def by_class(self) -> list[tuple[str, list[Face]]]:
        """Faces by class, in the order of the labels; without labels, one class called "all"."""
        if not self.classes:
            return [("all", list(self.faces))]
        members: dict[int, list[Face]] = defaultdict(list)
        for face in self.faces:
            members[face.label].append(face)
        return [(name, members[label]) for label, name in enumerate(self.classes)]

    def attribute_values(self) -> dict[str, set[str]]:
        """All values that the attributes of faces take, by attribute."""
        values: dict[str, set[str]] = defaultdict(set)
        for face in self.faces:
            for name, value in face.attributes.items():
                values[name].add(value)
        return values

    def attribute_counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """How many faces of each class have each value of an attribute: `{attribute: {class: {value: faces}}}`.

        Attributes are those that take few values (FEW_VALUES), all of them in every class; `unknown` is the last.
        """
        tables: dict[str, dict[str, dict[str, int]]] = {}
        few = [(name, kept) for name, kept in self.attribute_values().items() if len(kept) <= FEW_VALUES]
        for name, kept in sorted(few)[:MAX_ATTRIBUTES]:
            values = sorted(kept) + ["unknown"] * any(name not in face.attributes for face in self.faces)
            tables[name] = {}
            for label, faces in self.by_class():
                counts = Counter(face.attributes.get(name, "unknown") for face in faces)
                tables[name][label] = {value: counts[value] for value in values}
        return tables

    def summary(self, split: str | None = None) -> dict[str, Any]:
        """The entry of this archive in a summary's `archives`."""
        genders = Counter(face.gender or "unknown" for face in self.faces)
        ages = Counter(face.age for face in self.faces if face.age is not None)
        persons = {face.person for face in self.faces if face.person is not None}
        return {
            "file": self.files.path.name,
            "split": split,
            "written": len(self.faces),
            "groups": {name: len(faces) for name, faces in self.by_class()} if self.classes else {},
            "ages": {str(age): ages[age] for age in sorted(ages)},
            "genders": {gender: genders[gender] for gender in ("female", "male", "unknown")},
            "persons": len(persons) or None,
        }

    def report(self, kind: str, file: str, detail: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(kind, file, detail))


def read_contents(path: str | os.PathLike[str], *, use_labels: bool = True) -> Contents:
    """Read names, labels and ages of an archive, of facegen's own or of the StyleGAN family's; no picture is opened.

    Raises FileNotFoundError or FacegenError when there is no folder or readable zip at `path`. Nothing else that is
    wrong raises: it stands in `problems`. Without `use_labels`, labels are passed over, right or wrong.
    """
    contents = Contents(Container(path, strict=False))
    again = sorted(name for name, why in contents.files.refused.items() if why == AGAIN)
    if again:
        contents.notes["links to folders that were already read: left out"] = again
    for name, why in contents.files.refused.items():
        if why == AGAIN:
            continue
        kind = "name leads out" if leads_out(name) else "duplicate name" if why == DOUBLE else "endless link"
        contents.report(kind, name, why)
    dataset, extra = _read_json(contents, "dataset.json"), _read_json(contents, "facegen.json")
    return understand(contents, dataset, extra, use_labels=use_labels)


def understand(
    contents: Contents, dataset: dict[str, Any], extra: dict[str, Any], *, use_labels: bool = True
) -> Contents:
    """Fill in what dataset.json and facegen.json, parsed, say of the pictures in `contents.files`."""
    files = contents.files
    contents.is_own = "facegen.json" in files.names
    left_out = dataset.get("left_out") or []
    if not isinstance(left_out, list):
        contents.report("broken dataset.json", "dataset.json", '"left_out" is not a list of file names')
        left_out = []
    if _too_many(contents, left_out, "names left out", "dataset.json"):
        left_out = []
    left_out = {name for name in left_out if isinstance(name, str)}
    if left_out:
        contents.notes["left out on purpose (dataset.json)"] = sorted(left_out)
    names = [name for name in files.names if is_image_name(name) and name not in left_out]
    others = [n for n in files.names if not is_image_name(n) and n not in {"dataset.json", "facegen.json"}]
    if others:
        contents.notes["neither picture nor label"] = others
    if not names:
        contents.report("no pictures", "", "there is no picture in it (JPEG, PNG, WebP, TIFF, ...)")
    contents.faces = [Face(name) for name in names]

    _read_extra(contents, extra)
    if use_labels:
        _read_labels(contents, dataset)
    _read_faces(contents, extra.get("faces"))
    return contents


def _read_json(contents: Contents, name: str) -> dict[str, Any]:
    if name not in contents.files.names:
        return {}
    try:
        content = contents.files.read_json(name)
    except FacegenError as error:
        path = visible(str(contents.files.path))
        contents.report(f"broken {name}", name, str(error).removeprefix(f"{path}: ").removeprefix(f"{name}: "))
        return {}
    if not isinstance(content, dict):
        contents.report(f"broken {name}", name, f"holds a {type(content).__name__}, not a JSON object")
        return {}
    return content


def _read_extra(contents: Contents, extra: dict[str, Any]) -> None:
    if not extra:
        return
    if extra.get("format") != FORMAT:
        detail = (
            f"format {_short(extra.get('format'))}, this facegen reads {FORMAT}; update facegen or prepare it again"
        )
        contents.report("broken facegen.json", "facegen.json", detail)
    packed = extra.get("packed")
    if isinstance(packed, dict) and (packed.get("width") or packed.get("height")):
        contents.notes[f"resized by facegen pack, filter {_short(packed.get('resize_filter'))}"] = []
    try:
        if extra.get("template") is not None:
            contents.template = AlignmentTemplate.from_json(extra["template"])
        if extra.get("groups"):
            contents.age_groups = AgeGroups.from_labels(extra["groups"])
    except (FacegenError, TypeError) as error:  # TypeError: the groups are no list
        contents.report("broken facegen.json", "facegen.json", str(error))


def _read_labels(contents: Contents, dataset: dict[str, Any]) -> None:
    entries = dataset.get("labels")
    if not entries:
        nested = [name for name in contents.files.names if name.endswith("/dataset.json")]
        if nested and "dataset.json" not in contents.files.names:
            detail = "the labels are one folder too deep; pack the contents of that folder, not the folder"
            contents.report("dataset.json in a folder", nested[0], detail)
        elif entries is None or entries == []:
            contents.notes["no labels: only for training without classes"] = []
        else:
            contents.report("broken dataset.json", "dataset.json", f'"labels" is {_short(entries)}, not a list')
        return
    if not isinstance(entries, list):
        detail = '"labels" is not a list of [file name, label] pairs'
        contents.report("broken dataset.json", "dataset.json", detail)
        return
    by_name = _pair_up(contents, entries)
    vectors = [label for label in by_name.values() if isinstance(label, list)]
    if len(vectors) > len(by_name) / 2:
        by_name = _read_vectors(contents, by_name, vectors)
    else:
        contents.label_kind = "class"

    classes = dataset.get("classes")
    named = contents.age_groups.labels if contents.age_groups else classes
    limit = min(len(named), MAX_CLASSES) if isinstance(named, list) and named else MAX_CLASSES
    origin = "facegen.json's groups" if contents.age_groups else "dataset.json's classes"
    bound = f"outside 0 to {limit - 1}" + (f" ({origin})" if limit != MAX_CLASSES else "")
    good: dict[str, int] = {}
    for name, label in by_name.items():
        if type(label) is not int:  # a bool is an int to isinstance
            contents.report("label not a whole number", name, f"the label is {_short(label)}")
        elif not 0 <= label < limit:
            contents.report("label out of range", name, f"the label is {_short(label)}, {bound}")
        else:
            good[name] = label
    for face in contents.faces:
        face.label = good.get(face.name, -1)
    if contents.label_kind == "continuous":
        return
    count = max(good.values(), default=-1) + 1
    if isinstance(named, list) and count <= len(named) <= MAX_CLASSES and all(isinstance(name, str) for name in named):
        contents.classes = list(named)
    else:
        contents.classes = [str(label) for label in range(count)]
    if contents.age_groups is None:
        with suppress(FacegenError):  # classes that are not ages
            contents.age_groups = AgeGroups.from_labels(contents.classes)


def _too_many(contents: Contents, entries: list[Any], what: str, file: str) -> bool:
    """Whether there are far more entries than files, which is reported once."""
    files = len(contents.files.names)
    if too_many := len(entries) > files + MAX_SPARE:
        contents.report(f"broken {file}", file, f"{len(entries):,d} {what}, but {files:,d} files")
    return too_many


def _pair_up(contents: Contents, entries: list[Any]) -> dict[str, Any]:
    """Labels by file name, whatever they are; pictures without and labels without a picture are reported."""
    by_name: dict[str, Any] = {}
    if _too_many(contents, entries, "labels", "dataset.json"):
        return by_name
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            contents.report("broken label entry", "", f"{_short(entry)} is not a [file name, label] pair")
            continue
        name, label = entry[0].replace("\\", "/"), entry[1]
        if leads_out(name):
            contents.report("name leads out", name, "dataset.json labels a file outside the archive")
        elif name in by_name:
            if by_name[name] != label:
                contents.report("two labels", name, f"labeled {_short(by_name[name])} and {_short(label)}")
        else:
            by_name[name] = label
    pictures = {face.name for face in contents.faces} | contents.files.refused.keys()
    for name in by_name:
        if name not in pictures:
            contents.report("label without a picture", name, "dataset.json labels a file that is not there")
    for face in contents.faces:
        if face.name not in by_name:
            contents.report("picture without a label", face.name, "dataset.json does not name it")
    return {name: label for name, label in by_name.items() if name in pictures}


def _read_vectors(contents: Contents, by_name: dict[str, Any], vectors: list[list[Any]]) -> dict[str, Any]:
    """What labels that are lists of numbers mean: the class where they are one-hot, nothing otherwise."""
    size = Counter(map(len, vectors)).most_common(1)[0][0]
    good: dict[str, list[float]] = {}
    for name, label in by_name.items():
        if not isinstance(label, list) or not all(type(x) in {int, float} and math.isfinite(x) for x in label):
            contents.report("broken label vector", name, f"the label is {_short(label)}, not a list of numbers")
        elif len(label) != size:
            contents.report("broken label vector", name, f"{len(label)} numbers, the others have {size}")
        else:
            good[name] = label
    contents.label_size = size
    is_one_hot = size > 1 and all(sorted(label) == [0] * (size - 1) + [1] for label in good.values())
    contents.label_kind = "one-hot" if is_one_hot else "continuous"
    what = "one-hot vectors" if is_one_hot else "continuous vectors"
    contents.notes[f"labels are {what} of {size} numbers; facegen trains on whole numbers"] = []
    return {name: label.index(1) for name, label in good.items()} if is_one_hot else {}


def _read_faces(contents: Contents, entries: Any) -> None:
    if entries is None:
        return
    if not isinstance(entries, list):
        contents.report("broken facegen.json", "facegen.json", '"faces" is not a list')
        return
    if _too_many(contents, entries, "faces", "facegen.json"):
        return
    by_name = {face.name: face for face in contents.faces}
    seen = set()
    for entry in entries:
        if not (isinstance(entry, dict) and isinstance(entry.get("file"), str)):
            contents.report("broken facegen.json", "facegen.json", f"{_short(entry)} is not a face with a file")
            continue
        name = entry["file"]
        seen.add(name)
        if name not in by_name:
            contents.report("age without a picture", name, "facegen.json describes a file that is not there")
        elif "age" not in entry:
            contents.report("broken facegen.json", "facegen.json", f"it has no age for {name}")
        else:
            _read_face(contents, by_name[name], entry)
    unknown = [name for name in by_name if name not in seen]
    if unknown:
        contents.notes["not described in facegen.json"] = unknown


def _read_face(contents: Contents, face: Face, entry: dict[str, Any]) -> None:
    age, ages, person, gender = (entry.get(key) for key in ("age", "ages", "person", "gender"))
    if type(age) is int and 0 <= age <= OLDEST_PERSON:
        face.age, face.ages = age, str(age)
    elif age is not None:
        contents.report("impossible age", face.name, f"facegen.json says {_short(age)}")
    elif isinstance(ages, list) and len(ages) == 2 and all(v is None or type(v) is int for v in ages):
        face.ages = f"{_short(ages[0])}+" if ages[1] is None else f"{_short(ages[0])}-{_short(ages[1])}"
    face.person = None if person is None else str(person)
    face.gender = gender if gender in ("female", "male") else None
    face.attributes = {
        key: str(value)
        for key, value in entry.items()
        if key not in {"file", "source", "age"}
        and isinstance(value, (str, int, float))
        and value not in ("", "unknown")
    }
    groups = contents.age_groups
    if groups is not None and face.age is not None and face.label >= 0:
        expected = groups.index_of(face.age)
        if expected != face.label:
            right = "no group" if expected is None else groups.labels[expected]
            detail = f"labeled {face.label} ({contents.classes[face.label]}), but the age is {face.age}: {right}"
            contents.report("label contradicts the age", face.name, detail)


def check_sizes(sizes: Mapping[str, tuple[int, int]]) -> tuple[int | None, list[Problem]]:
    """Return the resolution of pictures, given their width and height by file name, and what is wrong with it.

    The most frequent size is what the archive is meant to be; what is wrong with it is said once, and then which
    pictures differ from it. The resolution is None where there are no pictures or they are not square.
    """
    if not sizes:
        return None, []
    usual, count = Counter(sizes.values()).most_common(1)[0]
    width, height = usual
    words = f"{width}x{height} pixels"
    problems = []
    if width != height:
        problems.append(Problem("not square", "", f"{count:,d} pictures are {words}"))
    elif width < 4 or width & (width - 1):
        detail = f"{count:,d} pictures are {words}; the side must be a power of two (32, 64, 128, ...)"
        problems.append(Problem("not a power of two", "", detail))
    for name, size in sizes.items():
        if size != usual:
            problems.append(Problem("different size", name, f"{size[0]}x{size[1]} pixels, most are {words}"))
    return width if width == height else None, problems


def count_by_kind(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    """Problems by kind, the most frequent kind first."""
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem)
    return dict(sorted(kinds.items(), key=lambda item: -len(item[1])))


def _short(value: Any) -> str:
    """A value from a file in a few words: it may be anything, of any length."""
    if isinstance(value, int) and abs(value) > 10**18:
        return "a number of more than 18 digits"  # some are too long even to be printed
    text = repr(value) if not isinstance(value, list) or len(value) < 100 else f"a list of {len(value)}"
    return text if len(text) <= 60 else text[:57] + "..."
