"""What a weight file says of itself, beside its tensors.

In a file it is a JSON object:

    format_version     2
    networks           name -> {kind, kwargs (constructor arguments), sha256 (of its tensors)}
    groups, class_names, template, resolution    what the classes are, and the alignment that the faces had
    kimg, augment_p, metrics, training_options, license     how the weights came about, and what may be done with them
    trained_for        of an encoder or an editor: its generator, see `facegen.weights.trained_for`
    sha256             the checksum of this object without this entry, as JSON with sorted keys and no spaces

Files of version 1 have no checksums. Keys that this version of facegen does not know are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from facegen.ages import AgeGroups
from facegen.errors import DamagedError, FacegenError
from facegen.faces.template import AlignmentTemplate
from facegen.reading import parse_json
from facegen.text import visible
from facegen.weights.tensors.safetensors_file import open_safetensors

FORMAT_VERSION = 2
MAX_KIMG = 2**53
MAX_NETWORKS = 32  # of one file; a snapshot has three
HEADER_KEY = "facegen"  # names the JSON object in the metadata of a safetensors file
# Every file's writer says these itself; `left_out` are networks of another program's file that were not taken.
WRITTEN_ANEW = ("format_version", "networks", "sha256", "left_out")
# Training options that name files of one machine.
PATHS = (
    *("data", "val", "outdir", "generator", "encoder", "age_estimator", "age_estimators"),
    *("face_network", "resume", "init"),
)


@dataclass(frozen=True, eq=False)  # equal to any mapping of the same content
class Header(Mapping[str, Any]):
    """What a weights file says about itself: a mapping of its JSON object, with properties for the most useful values.

    Example:
        >>> import facegen
        >>> generator, header = facegen.load_generator("generator.safetensors")
        >>> header.groups.labels[:3]
        ['0-10', '11-20', '21-30']
        >>> header["resolution"] == generator.img_resolution
        True
    """

    content: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """The networks by name: each one's `kind` and constructor `kwargs`, and its `sha256` in a checked file."""
        return self.content.get("networks", {})

    @property
    def groups(self) -> AgeGroups | None:
        """The age groups of the classes; FacegenError if they cannot be understood."""
        labels = self.content.get("groups")
        return AgeGroups.from_labels(labels if isinstance(labels, list) else [labels]) if labels else None

    def groups_of(self, classes: int, given: AgeGroups | None = None) -> AgeGroups:
        """Return the age groups that a generator's classes are.

        Files of other programs do not say. Then `given` is used; without it, ten classes are taken for the ten default
        groups, with a warning.

        Args:
            classes: how many the generator has.
            given: what the user says they are.

        Raises:
            FacegenError: the file says otherwise, the number of classes differs, or neither says.
        """
        known = self.groups
        if known is not None and given not in (None, known):
            raise FacegenError(f"this generator's age groups are {known}, as its file says: leave out --groups")
        groups = known or given
        if groups is None:
            if classes != len(AgeGroups.default()):
                raise FacegenError(
                    f"this generator has {classes} classes, and its file does not say which ages they are: "
                    "give --groups, as in --groups 0-12,13-19,20-39,40-59,60-"
                )
            groups = AgeGroups.default()
            words = f"the generator's file does not say which ages its classes are: taken for {groups}"
            warnings.warn(visible(f"{words}; if not so, give --groups"), stacklevel=3)
        if len(groups) != classes:
            raise FacegenError(
                f"this generator has {classes} classes, but there are {len(groups)} age groups: {groups}"
            )
        return groups

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, which need not be age groups; empty if the file does not say."""
        return self.content.get("class_names") or self.content.get("groups") or []

    @property
    def template(self) -> AlignmentTemplate | None:
        """How the training faces were aligned; FacegenError if it cannot be understood."""
        points = self.content.get("template")
        return AlignmentTemplate.from_json(points) if points else None

    @property
    def license(self) -> str | None:
        """What may be done with the weights, as text."""
        license = self.content.get("license")
        return license if isinstance(license, str) else None

    @property
    def kimg(self) -> float | None:
        """How many thousand pictures the training had seen; None if the file does not say."""
        kimg = self.content.get("kimg")
        return float(kimg) if isinstance(kimg, (int, float)) and 0 <= kimg < MAX_KIMG else None

    @property
    def augment_p(self) -> float | None:
        """How strong the augmentation was when the file was written, 0 or more (`AugmentPipe.p`)."""
        p = self.content.get("augment_p")
        return float(p) if isinstance(p, (int, float)) and 0 <= p < math.inf else None

    @property
    def training_options(self) -> Mapping[str, Any]:
        """The options of the training; empty if the file does not say."""
        options = self.content.get("training_options")
        return options if isinstance(options, Mapping) else {}

    @property
    def left_out(self) -> list[str]:
        """Networks in another program's file that facegen does not use."""
        names = self.content.get("left_out")
        return [str(name) for name in names] if isinstance(names, list) else []

    @property
    def metadata(self) -> dict[str, Any]:
        """What to copy when the networks are written to another file."""
        return {name: value for name, value in self.content.items() if name not in WRITTEN_ANEW}

    def to_json(self) -> str:
        """Return the JSON object that `read` understands, with its checksum."""
        return json.dumps({**self.content, "sha256": checksum(self.content)})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Header:
        """Read the header of one of facegen's own weight files; the tensors are not read.

        Raises:
            FileNotFoundError: there is no such file.
            FacegenError: it is not one of facegen's weight files, damaged, or of a newer version.
        """
        with open_safetensors(path) as file:
            text = file.metadata.get(HEADER_KEY, "null")
        try:
            content = parse_json(text, "its header")
        except FacegenError as error:
            raise type(error)(f"{path}: damaged, or not a safetensors file ({error})") from error
        if not _has_layout(content):
            raise FacegenError(f"{path}: a safetensors file, but not one that facegen wrote")
        names = sorted(f"{name}." for name in content["networks"])
        if len(names) > MAX_NETWORKS or any(longer.startswith(name) for name, longer in pairwise(names)):
            raise FacegenError(f"{path}: more than {MAX_NETWORKS} networks, or one within another: refused")
        version = content["format_version"]
        if version > FORMAT_VERSION:
            raise FacegenError(
                f"{path}: format version {version}, this facegen reads up to {FORMAT_VERSION}: update facegen"
            )
        if (version > 1 or "sha256" in content) and content.get("sha256") != checksum(content):
            raise DamagedError(f"{path}: damaged: its header does not match its checksum; get the file again")
        return cls(content)


def checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, that a header must have under `sha256`."""
    content = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def without_paths(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata in which training options name files by their last part: no other machine has their folders."""
    kept = dict(metadata)
    if isinstance(options := kept.get("training_options"), Mapping):
        kept["training_options"] = {key: _without_folders(x) if key in PATHS else x for key, x in options.items()}
    return kept


def _without_folders(value: Any) -> Any:
    """A path's last part; of several paths each one's."""
    if isinstance(value, (list, tuple)):
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) else value


def _has_layout(content: Any) -> bool:
    """Whether a decoded header has the layout that `save_networks` gives it."""
    if not isinstance(content, dict) or type(content.get("format_version")) is not int:
        return False
    networks = content.get("networks")
    return isinstance(networks, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("kind"), str) and "kwargs" in entry
        for entry in networks.values()
    )
