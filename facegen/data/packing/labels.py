"""Labels of pictures in a folder or zip: of a dataset.json, wherever it lies, or of class folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from facegen.ages import AgeGroups
from facegen.container import Container, is_image_name
from facegen.data.contents import Contents, Face, understand
from facegen.data.label import sort_classes
from facegen.data.sources import Skipped
from facegen.errors import FacegenError
from facegen.faces.template import AlignmentTemplate

JSON, OWN = "dataset.json", "facegen.json"
WITHOUT = "--labels none packs the pictures without labels"
# Mistakes in a single label: the picture is left out, and the others keep theirs.
_OF_ONE = {"picture without a label", "label not a whole number", "label out of range", "two labels"}
_OF_ONE |= {"broken label vector"}
_ARGUMENTS = {"self", "name_hint", "png", "label"}  # of `ArchiveWriter.add_png`
_HARMLESS = ("label without a picture", "age without a picture", "impossible age", "label contradicts the age")


@dataclass
class Labels:
    """What is known of pictures beside their pixels.

    Attributes:
        of: the label of each picture by its name; empty where none has one.
        classes: names of the classes by label; empty without labels.
        groups, template: the age groups that the classes are, and where landmarks sit, if an archive says so.
        known: what facegen.json says of a picture, by its name.
        skipped: pictures that are left out for their labels.
        notes: what a person should know, with the files that it is about.
    """

    of: dict[str, int] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    groups: AgeGroups | None = None
    template: AlignmentTemplate | None = None
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)


def find_labels(files: Container, how: str | None) -> Labels:
    """The labels of the pictures in a folder or zip.

    Args:
        how: `json`, `folders` or `none`; None takes those of a dataset.json, where there is one.

    Raises:
        FacegenError: there are no such labels, several dataset.json, or a broken one.
    """
    if how == "none":
        return Labels()
    if how == "folders":
        return _of_folders(files)
    found = [name for name in files.names if name == JSON or name.endswith("/" + JSON)]
    if not found and how == "json":
        raise FacegenError(f"{files.path}: there is no {JSON} in it; --labels folders uses its folders as classes")
    if JSON in found:
        found = [JSON]
    if len(found) > 1:
        raise FacegenError(f"{files.path}: several {JSON}: {found[0]}, {found[1]}; pack one folder, or: {WITHOUT}")
    return _of_json(files, found[0].removesuffix(JSON)) if found else Labels()


def class_folders(names: Sequence[str]) -> dict[str, str]:
    """The class folder of each picture: the first in which paths differ; those that lie beside these have none."""
    start = 0
    while names:
        tops = {name[start:].partition("/")[0] if "/" in name[start:] else "" for name in names}
        deeper = all(name[start:].count("/") > 1 for name in names)
        if len(tops) > 1 or not deeper:
            break
        start += len(tops.pop()) + 1
    return {name: name[start:].partition("/")[0] for name in names if "/" in name[start:]}


def _of_folders(files: Container) -> Labels:
    names = list(filter(is_image_name, files.names))
    folder_of = class_folders(names)
    classes = sort_classes(sorted(set(folder_of.values())))
    if not classes:
        raise FacegenError(f"{files.path}: no pictures in subfolders; make one subfolder per class, or: {WITHOUT}")
    numbers = {name: number for number, name in enumerate(classes)}
    stray = [Skipped(name, "not in a class folder") for name in names if name not in folder_of]
    return Labels({name: numbers[folder] for name, folder in folder_of.items()}, classes, skipped=stray)


def _of_json(files: Container, prefix: str) -> Labels:
    """The labels of the dataset.json in the folder `prefix`, and what a facegen.json beside it knows."""
    dataset, own = (_read_object(files, prefix + name) for name in (JSON, OWN))
    if prefix:
        dataset, own = _below(prefix, dataset), _below(prefix, own)
    contents = understand(Contents(files), dataset, own)
    notes: dict[str, list[str]] = {}
    skipped = [
        Skipped(name, "left out on purpose", "so says dataset.json")
        for remark, names in contents.notes.items()
        if remark.startswith("left out on purpose")
        for name in names
    ]
    for problem in contents.problems:
        if problem.kind in _HARMLESS:
            notes.setdefault(problem.kind, []).append(problem.file)
        elif problem.kind in _OF_ONE:
            skipped.append(Skipped(problem.file, problem.kind, f"{problem.detail}; {WITHOUT}"))
        elif problem.kind != "no pictures":
            raise FacegenError(f"{files.path}: {problem}; {WITHOUT}")
    if contents.label_kind == "continuous":
        raise FacegenError(f"{files.path}: its labels are vectors, training takes whole numbers; {WITHOUT}")
    if contents.label_kind == "none":  # then nothing is missing
        skipped = [item for item in skipped if item.reason != "picture without a label"]
    known = {face.name: _known(face) for face in contents.faces}
    of = {face.name: face.label for face in contents.faces if face.label >= 0}
    template = contents.template
    return Labels(of, contents.classes if of else [], contents.age_groups, template, known, skipped, notes)


def _known(face: Face) -> dict[str, Any]:
    """What facegen.json keeps of a face, as it was checked."""
    known: dict[str, Any] = {"age": face.age}
    if face.age is None and (match := re.fullmatch(r"(\d+)(?:\+|-(\d+))", face.ages)):
        known["ages"] = [int(match[1]), int(match[2]) if match[2] else None]
    return known | {name: value for name, value in face.attributes.items() if name not in _ARGUMENTS}


def _read_object(files: Container, name: str) -> dict[str, Any]:
    content = files.read_json(name) if name in files.names else {}
    if not isinstance(content, dict):
        raise FacegenError(f"{files.path}: {name} is not a JSON object; {WITHOUT}")
    return content


def _below(prefix: str, content: dict[str, Any]) -> dict[str, Any]:
    """The content of a JSON file whose names of files begin at the folder `prefix`, with whole names."""

    def whole(entry: Any) -> Any:
        if isinstance(entry, str):
            return prefix + entry
        if isinstance(entry, list) and entry and isinstance(entry[0], str):
            return [prefix + entry[0], *entry[1:]]
        if isinstance(entry, dict) and isinstance(entry.get("file"), str):
            return entry | {"file": prefix + entry["file"]}
        return entry

    lists = {key: content[key] for key in ("labels", "left_out", "faces") if isinstance(content.get(key), list)}
    return content | {key: [whole(entry) for entry in entries] for key, entries in lists.items()}
