"""The training archive, read and written: a folder or uncompressed zip of square pictures and `dataset.json`.

`dataset.json` is the format of the StyleGAN family: `{"labels": [["00000/img00000000.png", 3], ...]}`, or
null for no labels. `facegen.json`, where there is one, adds what that format cannot hold: the age groups
behind the labels, each face's exact age and origin, and where the landmarks sit.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from facegen import images as pictures
from facegen.ages import AgeGroups
from facegen.container import Container
from facegen.data.contents import FEW_VALUES, FORMAT, MAX_CLASSES, Contents, check_sizes, read_contents, understand
from facegen.errors import FacegenError
from facegen.faces.template import AlignmentTemplate
from facegen.files import atomic_folder, atomic_path
from facegen.parallel import map_in_order
from facegen.text import shown, visible

# What is wrong and no harm to training: such an age counts as unknown, such an entry as not there.
_HARMLESS = {"label without a picture", "age without a picture", "impossible age", "label contradicts the age"}
_CHECK_ALL_UP_TO = 5000  # pictures whose headers are read on opening; of more, this many, evenly spaced
_LOOK_INTO = 1000  # pictures whose bytes are part of the digest


class FaceArchive:
    """A data set for training: item i is `(uint8 picture [C, H, W], float32 one-hot label [c_dim])`.

    Reads a zip or a folder of pictures. May be handed to a `torch.utils.data.DataLoader`
    with worker processes: each opens the zip for itself.

    Args:
        path: the zip or folder.
        use_labels: read the labels (every picture must then have one); without, c_dim is 0 and labels are -1.
        max_images: take only this many pictures, drawn by `seed`.
        seed: seeds the draw for `max_images`.

    Attributes:
        path, name: where it is, and the file name without its ending.
        resolution, channels: pictures are `[channels, resolution, resolution]`; 1 channel when all are gray,
            else 3.
        c_dim: number of classes: the number of groups, else the largest label + 1; 0 without labels.
        labels: int64 `[N]`, -1 where there is none.
        groups: the AgeGroups behind the labels, if known.
        class_names: c_dim names for people.
        ages: int64 `[N]`, -1 where unknown; None if the archive holds no ages.
        template: where the landmarks sit in the pictures, if known.

    Raises FileNotFoundError or FacegenError in one line, naming the file, for pictures that are not square,
    not a power of two, of different sizes or unreadable, and for labels that are missing or out of range. On
    opening, a few thousand headers are read; a wrong picture beyond them is refused when it is decoded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        use_labels: bool = True,
        max_images: int | None = None,
        seed: int = 0,
    ) -> None:
        contents = read_contents(path, use_labels=use_labels)
        self._files = contents.files
        self.path = self._files.path
        self.name = self.path.stem if self._files.is_zip else self.path.resolve().name
        self._refuse_mistakes(contents, use_labels=use_labels)
        names = [face.name for face in contents.faces]
        self.resolution, self.channels = self._check_headers(names)
        self.groups, self.template = contents.age_groups, contents.template
        self.class_names: list[str] = contents.classes
        self.c_dim = len(self.class_names)
        labels = np.array([face.label for face in contents.faces], np.int64)
        ages = np.array([-1 if face.age is None else face.age for face in contents.faces], np.int64)

        chosen = np.arange(len(names))
        if max_images is not None:
            if max_images < 1:
                raise FacegenError(f"max_images is {max_images}: it must be at least 1")
            chosen = np.sort(np.random.default_rng(seed).permutation(len(names))[:max_images])
        self.file_names: list[str] = [names[i] for i in chosen]
        self.labels: np.ndarray = labels[chosen]
        self.ages: np.ndarray | None = ages[chosen] if (ages >= 0).any() else None

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.image(index), self.one_hot(index)

    def image(self, index: int) -> np.ndarray:
        """Picture `index` as uint8 `[C, H, W]`."""
        index = range(len(self))[index]  # IndexError beyond the end, so that a for loop stops
        name = self.file_names[index]
        data = self._files.read(name)
        with pictures.opened(data, f"{self.path}: {name}") as file:
            if file.size != (self.resolution, self.resolution):
                size = f"{file.width}x{file.height} pixels, the others {self.resolution}x{self.resolution}"
                raise FacegenError(f"{self.path}: {name} is {size}; make them one size")
            image = pictures.upright(file)
        if self.channels == 1 and image.mode != "L":
            raise FacegenError(f"{self.path}: {name} is a color picture among gray ones; make them all alike")
        array = np.asarray(image if self.channels == 1 else pictures.to_rgb(image))
        array = array[None] if self.channels == 1 else array.transpose(2, 0, 1)
        return np.array(array, order="C")

    def one_hot(self, index: int) -> np.ndarray:
        """The label of picture `index` as float32 `[c_dim]`."""
        label = np.zeros(self.c_dim, np.float32)
        if self.c_dim:
            label[self.labels[index]] = 1
        return label

    def load_all(self, *, progress: bool = True) -> np.ndarray:
        """Decode everything into memory: uint8 `[N, C, H, W]`."""
        images = np.empty((len(self), self.channels, self.resolution, self.resolution), np.uint8)
        decoded = map_in_order(self.image, range(len(self)))
        bar = tqdm(decoded, f"decoding {shown(self.name, 40)}", len(self), unit="img", disable=not progress)
        for index, image in enumerate(bar):
            images[index] = image
        return images

    def attribute(self, name: str) -> list[str | None]:
        """What facegen.json says of each picture, `[N]` in the order of `file_names`; None where it is unknown.

        facegen.json is read again for it, as few need it.

        Args:
            name: the attribute, such as `gender`.

        Raises FacegenError, naming the attributes that can be had, for one that no picture has or that takes more
        than FEW_VALUES values.
        """
        contents = read_contents(self.path, use_labels=False)
        known, kept = {face.name: face.attributes for face in contents.faces}, contents.attribute_values()
        few = sorted(key for key, values in kept.items() if len(values) <= FEW_VALUES)
        if name not in few:
            why = f" that takes at most {FEW_VALUES} values (it takes {len(kept[name])})" if name in kept else ""
            others = f"it keeps {', '.join(few)}" if few else "it keeps none"
            raise FacegenError(f"{self.path}: facegen.json keeps no attribute {name!r} of faces{why}; {others}")
        values = [known[file].get(name) for file in self.file_names]
        if all(value is None for value in values):  # true of a subset (`max_images`) only
            raise FacegenError(f"{self.path}: facegen.json knows {name!r} of none of these {len(values)} pictures")
        return values

    def digest(self) -> str:
        """A digest of the pictures, their labels and ages; the same for a zip and a folder of the same files.

        It takes in the size of each picture, and the bytes of 1,000 of them, evenly spaced.
        """
        found = hashlib.sha256(self.labels.tobytes() + (b"" if self.ages is None else self.ages.tobytes()))
        looked_into = set(self.file_names[:: math.ceil(len(self) / _LOOK_INTO)])
        for name in self.file_names:
            checksum = self._files.checksum(name) if name in looked_into else 0
            found.update(f"{self._files.stamp(name)[0]} {checksum};".encode())
        return found.hexdigest()

    def close(self) -> None:
        """Close the zip; it opens again when needed."""
        self._files.close()

    def _refuse_mistakes(self, contents: Contents, *, use_labels: bool) -> None:
        """Raise FacegenError for the first mistake that training cannot pass over."""
        mistakes = [problem for problem in contents.problems if problem.kind not in _HARMLESS]
        if mistakes:
            more = f" (1 of {len(mistakes):,d} mistakes: `facegen inspect` lists them)" if len(mistakes) > 1 else ""
            raise FacegenError(f"{self.path}: {mistakes[0]}{more}")
        if use_labels and contents.label_kind == "none":
            raise FacegenError(
                f"{self.path}: no labels in it (dataset.json), which a conditional network needs; `facegen prepare` and"
                " `facegen label` write labels, and `facegen train --cond=false` trains without"
            )
        if use_labels and contents.label_kind != "class":
            raise FacegenError(f"{self.path}: its labels are {contents.label_kind} vectors, not whole numbers")
        gone = [problem.file for problem in contents.problems if problem.kind == "label without a picture"]
        if gone:
            warnings.warn(
                visible(f"{self.path}: dataset.json labels {len(gone)} files that are not there (first: {gone[0]})"),
                stacklevel=3,
            )

    def _check_headers(self, names: list[str]) -> tuple[int, int]:
        """Read headers, evenly spaced; return resolution and channels."""
        step = max(1, len(names) / _CHECK_ALL_UP_TO)
        checked = [names[int(i * step)] for i in range(min(len(names), _CHECK_ALL_UP_TO))]
        headers = {name: pictures.read_header(self._files.read(name), f"{self.path}: {name}") for name in checked}
        resolution, problems = check_sizes({name: (width, height) for name, (width, height, _) in headers.items()})
        for problem in problems:
            raise FacegenError(f"{self.path}: {problem}")
        assert resolution is not None  # there are pictures, and they are square
        return resolution, 1 if all(is_gray for _, _, is_gray in headers.values()) else 3


def check_archive_name(path: Path) -> None:
    """Raise FacegenError for a path where no zip can be written."""
    if path.suffix.lower() != ".zip":
        raise FacegenError(f"{path}: the name of a training archive must end in .zip")
    if path.is_dir():
        raise FacegenError(f"{path}: is a folder; give the name of a zip to write")


class ArchiveWriter:
    """Writes a training archive; it appears, whole, when the `with` block ends without an error.

    All pictures must be square, of one size, a power of two. Set `template` before the block ends to keep it.

    Args:
        path: the zip; with `as_folder`, a folder that is empty or not there.
        groups: the age groups behind the labels.
        template: where the landmarks sit in the pictures.
        classes: names of classes that are no age groups, in the order of their labels.
        packed: how `facegen pack` made the pictures, for facegen.json.

    Example:
        >>> with ArchiveWriter("faces.zip", groups=AgeGroups.default()) as writer:
        ...     writer.add("26_1_2_20170116.jpg", image, label=2, age=26)
        '00000/img00000000.png'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        groups: AgeGroups | None = None,
        template: AlignmentTemplate | None = None,
        classes: Sequence[str] = (),
        packed: Mapping[str, Any] | None = None,
        as_folder: bool = False,
    ) -> None:
        self.path = Path(path)
        self.as_folder = as_folder
        if not as_folder:
            check_archive_name(self.path)
        self.groups, self.classes, self.packed = groups, list(classes), packed
        self.template = template
        self.resolution = 0
        self._labels: list[list[Any]] = []  # pairs, as in dataset.json
        self._faces: list[dict[str, Any]] = []

    def __enter__(self) -> ArchiveWriter:
        self._stack = ExitStack()
        if self.as_folder:
            self._folder = self._stack.enter_context(atomic_folder(self.path))
            return self
        temporary = self._stack.enter_context(atomic_path(self.path))
        # Pictures are compressed already; stored, they can be read without a copy through zlib.
        self._zip = self._stack.enter_context(zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None:
            self._stack.__exit__(kind, *error)
            return
        with self._stack:
            if not self._faces:
                raise FacegenError(f"{self.path}: no picture to write; nothing was written")
            self.add_json("dataset.json", self._dataset())
            self.add_json("facegen.json", self._extra())

    def __len__(self) -> int:
        return len(self._faces)

    def add(
        self, name_hint: str, image: Image.Image | np.ndarray, label: int | None = None, age: int | None = None
    ) -> str:
        """Append a picture (PIL, or uint8 `[H, W, 3]` or `[H, W]`) as PNG; returns its name in the archive.

        `name_hint` is what the picture was called where it came from: it stands in error messages and in facegen.json.
        Files are numbered in the order in which they come.
        """
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        if image.mode not in {"L", "RGB"}:
            image = pictures.to_rgb_or_gray(image)
        return self.add_png(name_hint, pictures.encode_png(image), label, age)

    def add_png(
        self, name_hint: str, png: bytes, label: int | None = None, age: int | None = None, **known: Any
    ) -> str:
        """As `add`, for a picture that is a file already; `known` goes into facegen.json as it is.

        A JPEG or WebP is taken, too, and named as what it is.
        """
        width, height, _ = pictures.read_header(png, name_hint)
        self.resolution = self.resolution or width
        if width != height or width != self.resolution or width < 4 or width & (width - 1):
            raise FacegenError(
                f"{name_hint} is {width}x{height} pixels: all must be squares of one size, a power of two"
                + (f", here {self.resolution}" if self._faces else "")
            )
        limit = len(self.groups or self.classes) or MAX_CLASSES
        if label is not None and not 0 <= label < limit:
            raise FacegenError(f"{name_hint}: label {label} is outside 0 to {limit - 1}")
        index = len(self._faces)
        name = f"{index // 1000:05d}/img{index:08d}.{_ending(png)}"
        self._put(name, png)
        self._labels.append([name, None if label is None else int(label)])
        age = None if age is None else int(age)
        self._faces.append({"file": name, "age": age, "source": name_hint, **known})
        return name

    def add_json(self, name: str, content: Any) -> None:
        """Add a file of another kind, which readers of archives pass over."""
        self._put(name, json.dumps(content).encode())

    def _put(self, name: str, data: bytes) -> None:
        if self.as_folder:
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        else:  # a fixed date: the same pictures give the same file, byte for byte
            self._zip.writestr(zipfile.ZipInfo(name), data)

    def contents(self) -> Contents:
        """What `read_contents` finds in the archive when it is written, without parsing it again."""
        return understand(Contents(Container(self.path)), self._dataset(), self._extra())

    def _dataset(self) -> dict[str, Any]:
        unlabeled = [name for name, label in self._labels if label is None]
        if len(unlabeled) == len(self._labels):
            return {"labels": None}
        if unlabeled:
            raise FacegenError(f"{self.path}: some pictures have a label, {unlabeled[0]} has none")
        return {"labels": self._labels} | ({"classes": self.classes} if self.classes else {})

    def _extra(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "groups": self.groups.labels if self.groups else None,
            "template": self.template.to_json() if self.template else None,
            "resolution": self.resolution,
            "faces": self._faces,
            **({"packed": self.packed} if self.packed else {}),
        }


def _ending(picture: bytes) -> str:
    """What the name of a picture's file ends with."""
    if picture[:2] == b"\xff\xd8":
        return "jpg"
    return "webp" if picture[8:12] == b"WEBP" else "png"


def label_counts(labels: Iterable[int], c_dim: int) -> np.ndarray:
    """How many pictures each class has: int64 `[c_dim]`. Unlabeled pictures (-1) count nowhere."""
    labels = np.asarray(list(labels), np.int64)
    return np.bincount(labels[labels >= 0], minlength=c_dim)
