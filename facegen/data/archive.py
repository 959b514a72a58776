"""The training archive, read and written: a folder or uncompressed zip of square pictures and `dataset.json`.

`dataset.json` is the format of the StyleGAN family: `{"labels": [["00000/img00000000.png", 3], ...]}`, or
null for no labels. `facegen.json`, where there is one, adds what that format cannot hold: the age groups
behind the labels, each face's exact age and origin, and where the landmarks sit.
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from facegen import images as pictures
from facegen.ages import AgeGroups
from facegen.container import Container, check_name, is_image_name
from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.parallel import map_in_order

if TYPE_CHECKING:
    from facegen.faces.template import AlignmentTemplate

FORMAT = 1
FEW_VALUES = 20  # an attribute of faces that takes more values tells single faces, not kinds of faces
MAX_CLASSES = 10_000  # a label beyond this is a mistake in the file, and its one-hot vectors would fill the memory
_CHECK_ALL_UP_TO = 5000  # pictures whose headers are read on opening; of more, this many, evenly spaced


class FaceArchive:
    """A data set for training: item i is `(uint8 picture [C, H, W], float32 one-hot label [c_dim])`.

    Reads a zip or a folder of PNG, JPEG or WebP pictures. May be handed to a `torch.utils.data.DataLoader`
    with worker processes: each opens the zip for itself.

    Args:
        path: the zip or folder.
        use_labels: read the labels (every picture must then have one); without, c_dim is 0 and labels are -1.
        max_images: take only so many pictures, drawn by `seed`.
        seed: of the draw for `max_images`.

    Attributes:
        path, name: where it is, and the file name without its ending.
        resolution, channels: pictures are `[channels, resolution, resolution]`; 1 channel when all are gray,
            else 3.
        c_dim: number of classes: of groups, else the largest label + 1; 0 without labels.
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
        self._files = Container(path)
        self.path = self._files.path
        self.name = self.path.stem if self._files.is_zip else self.path.resolve().name
        dataset = self._read_json("dataset.json") or {}
        extra = self._read_json("facegen.json") or {}

        left_out = dataset.get("left_out") or []
        if not isinstance(left_out, list):
            raise FacegenError(f'{self.path}: dataset.json: "left_out" must be a list of file names')
        left_out = set(map(str, left_out))
        names = [name for name in self._files.names if is_image_name(name) and name not in left_out]
        if not names:
            raise FacegenError(f"{self.path}: no PNG, JPEG or WebP picture in it")
        self.resolution, self.channels = self._check_headers(names)

        self.groups, self.template = self._read_extra(extra)
        self.class_names: list[str] = []
        labels = np.full(len(names), -1, np.int64)
        if use_labels:
            labels = self._read_labels(names, dataset)
            self.class_names = self._name_classes(dataset.get("classes"), int(labels.max()) + 1)
        self.c_dim = len(self.class_names)
        if self.groups is None:
            self.groups = _as_groups(self.class_names)
        ages = self._read_ages(names, extra)

        chosen = np.arange(len(names))
        if max_images is not None:
            if max_images < 1:
                raise FacegenError(f"max_images is {max_images}: it must be at least 1")
            chosen = np.sort(np.random.default_rng(seed).permutation(len(names))[:max_images])
        self.file_names: list[str] = [names[i] for i in chosen]
        self.labels: np.ndarray = labels[chosen]
        self.ages: np.ndarray | None = None if ages is None else ages[chosen]

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.image(index), self.one_hot(index)

    def image(self, index: int) -> np.ndarray:
        """Picture `index` as uint8 `[C, H, W]`."""
        index = range(len(self))[index]  # IndexError beyond the end, so that a for loop stops
        name = self.file_names[index]
        image = pictures.decode(self._files.read(name), f"{self.path}: {name}")
        self._check_size(name, *image.size, self.resolution)
        if self.channels == 1 and image.mode != "L":
            raise FacegenError(f"{self.path}: {name} is a colour picture among gray ones; make them all alike")
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
        for index, image in enumerate(
            tqdm(decoded, f"decoding {self.name}", len(self), unit="img", disable=not progress)
        ):
            images[index] = image
        return images

    def attribute(self, name: str) -> list[str | None]:
        """What facegen.json says of each picture, `[N]` in the order of `file_names`; None where it is unknown.

        facegen.json is read again for it, as few need it.

        Args:
            name: of the attribute, such as `gender`.

        Raises FacegenError, naming the attributes that can be had, for one that no picture has or that takes more
        than FEW_VALUES values.
        """
        faces = (self._read_json("facegen.json") or {}).get("faces") or []
        known = {face["file"]: attributes_of(face) for face in faces}
        kept: dict[str, set[str]] = {}
        for attributes in known.values():
            for key, value in attributes.items():
                kept.setdefault(key, set()).add(value)
        few = sorted(key for key, values in kept.items() if len(values) <= FEW_VALUES)
        if name not in few:
            why = f" that takes at most {FEW_VALUES} values (it takes {len(kept[name])})" if name in kept else ""
            others = f"it keeps {', '.join(few)}" if few else "it keeps none"
            raise FacegenError(f"{self.path}: facegen.json keeps no attribute {name!r} of faces{why}; {others}")
        values = [known.get(file, {}).get(name) for file in self.file_names]
        if all(value is None for value in values):  # of a few pictures (`max_images`), that is
            raise FacegenError(f"{self.path}: facegen.json knows {name!r} of none of these {len(values)} pictures")
        return values

    def close(self) -> None:
        """Close the zip; it opens again when needed."""
        self._files.close()

    def _read_json(self, name: str) -> dict[str, Any] | None:
        if name not in self._files.names:
            return None
        try:
            content = json.loads(self._files.read(name))
        except ValueError as error:
            raise FacegenError(f"{self.path}: {name} is not valid JSON ({error})") from error
        if not isinstance(content, dict):
            raise FacegenError(f"{self.path}: {name} must hold a JSON object, not a {type(content).__name__}")
        return content

    def _check_headers(self, names: list[str]) -> tuple[int, int]:
        step = max(1, len(names) / _CHECK_ALL_UP_TO)
        checked = [names[int(i * step)] for i in range(min(len(names), _CHECK_ALL_UP_TO))]
        headers = {name: pictures.read_header(self._files.read(name), f"{self.path}: {name}") for name in checked}
        sizes = Counter((width, height) for width, height, _ in headers.values())
        # The most frequent size is what the archive is meant to be: name the file that differs from it.
        resolution = sizes.most_common(1)[0][0][0]
        for name, (width, height, _) in headers.items():
            self._check_size(name, width, height, resolution)
        return resolution, 1 if all(is_gray for _, _, is_gray in headers.values()) else 3

    def _check_size(self, name: str, width: int, height: int, resolution: int) -> None:
        where = f"{self.path}: {name} is {width}x{height} pixels"
        if width != height:
            raise FacegenError(f"{where}, not square; `facegen prepare` makes square pictures")
        if width != resolution:
            raise FacegenError(f"{where}, the others {resolution}x{resolution}; make them one size")
        if width < 4 or width & (width - 1):
            raise FacegenError(f"{where}; the side must be a power of two (32, 64, 128, ...)")

    def _read_labels(self, names: list[str], dataset: dict[str, Any]) -> np.ndarray:
        entries = dataset.get("labels")
        if not entries:
            nested = next((name for name in self._files.names if name.endswith("/dataset.json")), None)
            hint = f"; there is {nested}: pack the content of that folder, not the folder" if nested else ""
            raise FacegenError(
                f"{self.path}: no labels in it (dataset.json), which a conditional network needs{hint}"
                "; `facegen prepare` and `facegen label` write labels"
            )
        by_name = self._parse_labels(entries)
        missing = [name for name in names if name not in by_name]
        if missing:
            raise FacegenError(
                f"{self.path}: dataset.json has no label for {missing[0]} (nor for {len(missing) - 1} others"
                f" of {len(names)}); label them or take them out"
            )
        gone = sorted(by_name.keys() - set(names))
        if gone:
            warnings.warn(
                f"{self.path}: dataset.json labels {len(gone)} files that are not there (first: {gone[0]})",
                stacklevel=3,
            )
        return np.array([by_name[name] for name in names], np.int64)

    def _parse_labels(self, entries: Any) -> dict[str, int]:
        where = f"{self.path}: dataset.json"
        limit = len(self.groups) if self.groups else MAX_CLASSES
        by_name: dict[str, int] = {}
        if not isinstance(entries, list):
            raise FacegenError(f'{where}: "labels" must be a list of [file name, label] pairs')
        for entry in entries:
            if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
                raise FacegenError(f"{where}: {str(entry)[:80]} is not a [file name, label] pair")
            name, label = entry
            check_name(name, self.path)
            if type(label) is not int:  # a bool is an int to isinstance
                raise FacegenError(f"{where}: the label of {name} is {str(label)[:40]}, not a whole number")
            if not 0 <= label < limit:
                raise FacegenError(
                    f"{where}: the label of {name} is {label}, outside 0 to {limit - 1}"
                    + (f" (the {limit} groups of facegen.json)" if self.groups else "")
                )
            name = name.replace("\\", "/")
            if by_name.setdefault(name, label) != label:
                raise FacegenError(f"{where}: {name} has two labels, {by_name[name]} and {label}; keep one")
        return by_name

    def _name_classes(self, classes: Any, count: int) -> list[str]:
        if self.groups is not None:
            return self.groups.labels
        if isinstance(classes, list) and len(classes) >= count and all(isinstance(c, str) for c in classes):
            return list(classes)
        return [str(index) for index in range(count)]

    def _read_extra(self, extra: dict[str, Any]) -> tuple[AgeGroups | None, AlignmentTemplate | None]:
        if not extra:
            return None, None
        if extra.get("format") != FORMAT:
            raise FacegenError(
                f"{self.path}: facegen.json has format {extra.get('format')!r}, this facegen reads {FORMAT}; "
                "update facegen or prepare the archive again"
            )
        try:
            groups = AgeGroups.from_labels(extra["groups"]) if extra.get("groups") else None
            template = None
            if extra.get("template") is not None:
                from facegen.faces.template import AlignmentTemplate

                template = AlignmentTemplate.from_json(extra["template"])
        except (FacegenError, TypeError, ValueError, IndexError) as error:
            raise FacegenError(f"{self.path}: facegen.json: {error}") from error
        return groups, template

    def _read_ages(self, names: list[str], extra: dict[str, Any]) -> np.ndarray | None:
        if not extra.get("faces"):
            return None
        try:
            ages = {face["file"]: face["age"] for face in extra["faces"]}
            return np.array([-1 if ages.get(name) is None else int(ages[name]) for name in names], np.int64)
        except (TypeError, KeyError, ValueError) as error:
            raise FacegenError(f"{self.path}: facegen.json: an entry of faces has no file or age") from error


def _as_groups(class_names: list[str]) -> AgeGroups | None:
    """The age groups that classes called `0-10`, `11-20`, ... stand for; None for other classes."""
    try:
        return AgeGroups.from_labels(class_names)
    except FacegenError:
        return None


class ArchiveWriter:
    """Writes a training archive; the file appears, whole, when the `with` block ends without an error.

    All pictures must be square, of one size, a power of two. Set `template` before the block ends to keep it.

    Example:
        >>> with ArchiveWriter("faces.zip", groups=AgeGroups.default()) as writer:
        ...     writer.add("26_1_2_20170116.jpg", image, label=2, age=26)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        groups: AgeGroups | None = None,
        template: AlignmentTemplate | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".zip":
            raise FacegenError(f"{self.path}: the name of a training archive must end in .zip")
        if self.path.is_dir():
            raise FacegenError(f"{self.path}: is a folder; give the name of a zip to write")
        self.groups = groups
        self.template = template
        self.resolution = 0
        self._labels: list[tuple[str, int | None]] = []
        self._faces: list[dict[str, Any]] = []

    def __enter__(self) -> ArchiveWriter:
        self._stack = ExitStack()
        temporary = self._stack.enter_context(atomic_path(self.path))
        # Pictures are compressed already; stored, they can be read without a copy through zlib.
        self._zip = self._stack.enter_context(zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED))
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stack.__exit__(error_type, error, traceback)
            return
        with self._stack:
            if not self._faces:
                raise FacegenError(f"{self.path}: not one picture to write; nothing was written")
            self.add_json("dataset.json", {"labels": self._all_labels()})
            self.add_json("facegen.json", self._extra())

    def __len__(self) -> int:
        return len(self._faces)

    def add(
        self,
        name_hint: str,
        image: Image.Image | np.ndarray,
        label: int | None = None,
        age: int | None = None,
        source: str | None = None,
    ) -> str:
        """Append a picture (PIL, or uint8 `[H, W, 3]` or `[H, W]`) as PNG; returns its name in the archive.

        `name_hint` is what the picture was called where it came from: it stands in error messages, and in
        facegen.json unless `source` gives a better word. Files are numbered in the order in which they come.
        """
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        if image.mode not in {"L", "RGB"}:
            image = pictures.to_rgb_or_gray(image)
        return self.add_png(name_hint, pictures.encode_png(image), label, age, source)

    def add_png(
        self,
        name_hint: str,
        png: bytes,
        label: int | None = None,
        age: int | None = None,
        source: str | None = None,
        **known: Any,
    ) -> str:
        """As `add`, for a picture that is encoded already; `known` goes into facegen.json as it is."""
        width, height, _ = pictures.read_header(png, name_hint)
        self.resolution = self.resolution or width
        if width != height or width != self.resolution or width < 4 or width & (width - 1):
            raise FacegenError(
                f"{name_hint} is {width}x{height} pixels: all must be squares of one size, a power of two"
                + (f", here {self.resolution}" if self._faces else "")
            )
        limit = len(self.groups) if self.groups else MAX_CLASSES
        if label is not None and not 0 <= label < limit:
            raise FacegenError(f"{name_hint}: label {label} is outside 0 to {limit - 1}")
        index = len(self._faces)
        name = f"{index // 1000:05d}/img{index:08d}.png"
        # A fixed date: the same pictures give the same file, byte for byte.
        self._zip.writestr(zipfile.ZipInfo(name), png)
        self._labels.append((name, None if label is None else int(label)))
        age = None if age is None else int(age)
        self._faces.append({"file": name, "age": age, "source": source or name_hint, **known})
        return name

    def add_json(self, name: str, content: Any) -> None:
        """Add a file of another kind, which readers of archives pass over."""
        self._zip.writestr(zipfile.ZipInfo(name), json.dumps(content))

    def _all_labels(self) -> list[tuple[str, int | None]] | None:
        unlabelled = [name for name, label in self._labels if label is None]
        if len(unlabelled) == len(self._labels):
            return None
        if unlabelled:
            raise FacegenError(f"{self.path}: some pictures have a label, {unlabelled[0]} has none")
        return self._labels

    def _extra(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "groups": self.groups.labels if self.groups else None,
            "template": self.template.to_json() if self.template else None,
            "resolution": self.resolution,
            "faces": self._faces,
        }


def attributes_of(face: dict[str, Any]) -> dict[str, str]:
    """What an entry of facegen.json's faces says of a face beside its age and where it comes from; without unknowns."""
    about = {"file", "source", "age"}
    return {
        key: str(value)
        for key, value in face.items()
        if key not in about and isinstance(value, (str, int, float)) and value not in ("", "unknown")
    }


def label_counts(labels: Iterable[int], c_dim: int) -> np.ndarray:
    """How many pictures each class has: int64 `[c_dim]`. Unlabelled pictures (-1) count nowhere."""
    labels = np.asarray(list(labels), np.int64)
    return np.bincount(labels[labels >= 0], minlength=c_dim)
