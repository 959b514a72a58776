"""Labels for a folder of class folders: the `dataset.json` that makes it a training archive."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from facegen import images as pictures
from facegen.container import Container, is_image_name
from facegen.errors import FacegenError
from facegen.files import atomic_path, check_free
from facegen.parallel import map_in_order
from facegen.reading import read_json


@dataclass
class LabelReport:
    """What `label_folder` found: the index of a class in `classes` is its label.

    counts: pictures of each class.  empty: class folders without a usable picture, which got no label.
    stray: files beside the class folders.  not_pictures: files of another kind inside them.
    unreadable: broken pictures, with the reason.  sizes: how many pictures have each (width, height).
    """

    classes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    not_pictures: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def is_trainable(self) -> bool:
        """Whether all pictures are squares of one size, a power of two, as training needs them."""
        sides = {side for size in self.sizes for side in size}
        return len(sides) == 1 and all(side >= 4 and side & (side - 1) == 0 for side in sides)


def sort_classes(names: list[str]) -> list[str]:
    """Class names in the order of their labels: by number when every name begins with one, else by name.

    Example:
        >>> sort_classes(["11-20", "0-10", "101+"])
        ['0-10', '11-20', '101+']
    """
    numbers = {name: int(match[0]) for name in names if (match := re.match(r"\d+", name))}
    return sorted(names, key=lambda name: (numbers[name], name)) if len(numbers) == len(names) else sorted(names)


def label_folder(folder: str | os.PathLike[str], *, force: bool = False, progress: bool = True) -> LabelReport:
    """Write `folder/dataset.json`: every folder in `folder` is a class of the pictures in it, at any depth.

    Classes without a picture get no label. The file holds `labels` as the StyleGAN family reads it, `classes`
    (the class names in the order of their labels) and `left_out` (pictures without a label: broken ones and
    those beside the class folders), so that `FaceArchive(folder)` reads the folder as it is.

    Raises FileNotFoundError or FacegenError, and writes nothing, when there is no folder with pictures in
    folders, or when labels would be lost: those of a prepared archive, and without `force` those of a
    `dataset.json` that holds others.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FacegenError(f"{folder}: is not a folder; give a folder that has one subfolder per class")
    files = Container(folder)
    if "facegen.json" in files.names:
        raise FacegenError(f"{folder}: is a prepared archive and already has labels (facegen.json)")
    before = _written_before(folder / "dataset.json")
    if before is None:
        check_free(folder / "dataset.json", force)
    report = LabelReport()
    candidates = []
    for name in files.names:
        if "/" not in name:
            report.stray += [name] * (name != "dataset.json")
        elif is_image_name(name):
            candidates.append(name)
        else:
            report.not_pictures.append(name)

    members: dict[str, list[str]] = {
        entry.name: [] for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    }
    sizes = map_in_order(lambda name: _try_decode(files, name), candidates)
    for name, size in zip(
        candidates, tqdm(sizes, "reading", len(candidates), unit="img", disable=not progress), strict=True
    ):
        if isinstance(size, FacegenError):
            report.unreadable[name] = str(size)
            continue
        members[name.split("/", 1)[0]].append(name)
        report.sizes[size] = report.sizes.get(size, 0) + 1

    report.classes = sort_classes([name for name, pictures_of in members.items() if pictures_of])
    report.empty = sorted(members.keys() - set(report.classes))
    report.counts = {name: len(members[name]) for name in report.classes}
    if not report.classes:
        raise FacegenError(f"{folder}: no pictures in subfolders; make one subfolder per class")
    content = {
        "labels": [[name, label] for label, c in enumerate(report.classes) for name in members[c]],
        "classes": report.classes,
        "left_out": [*filter(is_image_name, report.stray), *report.unreadable],
    }
    if content == before:
        return report
    check_free(folder / "dataset.json", force)  # somebody may have changed it by hand
    with atomic_path(folder / "dataset.json") as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return report


def _written_before(path: Path) -> dict[str, Any] | None:
    """The content of this file, if `label_folder` wrote it."""
    try:
        content = read_json(path)
    except (OSError, FacegenError):
        return None
    return content if isinstance(content, dict) and "left_out" in content else None


def _try_decode(files: Container, name: str) -> tuple[int, int] | FacegenError:
    """The size of a picture that can be decoded, in pixels."""
    try:
        return pictures.decode(files.read(name), name).size
    except FacegenError as error:
        return error
