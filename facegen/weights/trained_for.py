"""Which generator an encoder was trained for, and an editor's faces are those of.

An encoder's latents mean a face to the generator that it was trained for, and noise to any other, be its sizes the
same. So an encoder's file names its generator, in the entry `trained_for` of its header:

    generator    its file, and its run's folder where it lay in one
    sha256       its `fingerprint`

Files of the version before have no such entry. The encoder in the package belongs to the generator in the package.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facegen.ages import AgeGroups
from facegen.errors import FacegenError
from facegen.faces.template import AlignmentTemplate
from facegen.networks.generator import Generator
from facegen.reading import read_note
from facegen.text import visible
from facegen.weights import locate
from facegen.weights.header import Header
from facegen.weights.load import load_generator, read_networks
from facegen.weights.native import tensors_checksum

ENTRY = "trained_for"
PACKAGED = "the one in the package"
ALIKE = 0.02  # of a face's side: by that much may the alignments of two data sets differ, which were measured


def fingerprint(generator: Generator) -> str:
    """Return the SHA-256, in hex, of a generator's parameters, rounded to float16.

    So it is the same in every format that keeps the weights, and in files of float32 and float16.
    """
    parameters = generator.named_parameters()
    return tensors_checksum({name: x.detach().cpu().to(torch.float16) for name, x in parameters})


def name_generator(generator: Generator, path: Path) -> dict[str, str]:
    """Return the entry for the header of an encoder that is trained for the generator in this file."""
    in_run = (path.parent / locate.RUN_OPTIONS).is_file()
    return {"generator": f"{path.parent.name}/{path.name}" if in_run else path.name, "sha256": fingerprint(generator)}


def own_generator(encoder: Path) -> Path:
    """Return the file of the generator that the encoder in this file was trained for.

    It is the encoder's own file, if that holds a generator (recipe `tune`); else where the options of the encoder's run
    say, beside that run, beside the encoder, or in the package. A file of the version before that is in no run gets the
    generator in the package.

    Raises:
        FileNotFoundError, FacegenError: the encoder's file is missing or damaged, or its generator is in none of these
            places.
    """
    networks, header = read_networks(encoder, ["G_ema"])
    if networks:
        return encoder
    packaged = locate.shipped_file("generator")
    if _is_packaged(encoder, header):
        return packaged
    named = _entry(encoder, header)
    if named is None:
        return next((path for path in _options_say(encoder) if path.is_file()), packaged)
    for path in [*_options_say(encoder), *_beside(encoder, named["generator"]), packaged]:
        if path.is_file() and _is(path, named["sha256"]):
            return path
    raise FacegenError(
        f"{encoder}: was trained for the generator {named['generator']}, which is not found: give it with --network"
    )


def check_trained_for(
    generator: Generator, encoder: Path, networks: Mapping[str, nn.Module], header: Header, what: str
) -> None:
    """Raise a FacegenError if the encoder was trained for another generator; warn if its file does not say.

    Args:
        generator: the one that the encoder is to work with.
        encoder: the encoder's file.
        networks: the networks in that file; a generator that the recipe `tune` put there belongs, too.
        header: that file's header.
        what: the generator's file, or what the user called it.
    """
    found, tuned = fingerprint(generator), networks.get("G_ema")
    if isinstance(tuned, Generator) and fingerprint(tuned) == found:
        return
    named = _entry(encoder, header)
    if named is None:
        warnings.warn(
            f"{visible(str(encoder))}: an older file, which does not say for which generator it was trained: only "
            "sizes are compared",
            stacklevel=3,
        )
    elif found != named["sha256"]:
        if named["generator"] == PACKAGED:
            problem = (
                "the encoder in the package was trained for another generator: give this one's encoder with --encoder"
            )
        else:
            problem = f"{encoder} was trained for another generator, {named['generator']}: give that one with --network"
        raise FacegenError(f"{what}: {problem}")


def check_same_faces(header: Header, groups: AgeGroups, template: AlignmentTemplate, what: str) -> None:
    """Raise a FacegenError if an editor learned from other faces than those of the generator beside it.

    Args:
        header: that of the editor's file. What it does not say is not compared.
        groups, template: the generator's age groups, and how its faces are aligned.
        what: the editor's file, or what the user called it.
    """
    own, words = header.template, None
    if header.groups not in (None, groups):
        words = "age groups"
    elif own is not None and not are_alike(own, template):
        words = "alignment"
    if words is not None:
        raise FacegenError(f"{what}: this editor was trained on faces with a different {words} than the generator")


def are_alike(one: AlignmentTemplate, other: AlignmentTemplate) -> bool:
    """Whether faces are aligned in the same way, as well as that can be measured."""
    return bool(np.abs(np.subtract(one.points, other.points)).max() <= ALIKE)


def _entry(encoder: Path, header: Header) -> Mapping[str, str] | None:
    """What a file says of its encoder's generator; None where it says nothing."""
    named = header.get(ENTRY)
    if isinstance(named, Mapping) and all(isinstance(named.get(key), str) for key in ("generator", "sha256")):
        return named
    if _is_packaged(encoder, header):
        generator, _ = load_generator(locate.shipped_file("generator"))
        return {"generator": PACKAGED, "sha256": fingerprint(generator)}
    return None


def _is_packaged(encoder: Path, header: Header) -> bool:
    """Whether a file is the encoder in the package, or a copy of it."""
    packaged = locate.PRETRAINED / "encoder.safetensors"
    if not packaged.is_file():
        return False
    return encoder.samefile(packaged) or _checksum(header) == _checksum(Header.read(packaged)) is not None


def _checksum(header: Header) -> Any:
    return header.networks.get("encoder", {}).get("sha256")


def _is(path: Path, sha256: str) -> bool:
    """Whether a file holds the generator of this fingerprint."""
    try:
        return fingerprint(load_generator(path)[0]) == sha256
    except (FacegenError, OSError):
        return False


def _options_say(encoder: Path) -> Iterator[Path]:
    """The generator in the options of the encoder's run; nothing where it lies in none."""
    try:
        options = read_note(encoder.parent / locate.RUN_OPTIONS)
        yield Path(options["generator"])
    except (OSError, ValueError, TypeError, LookupError):
        return


def _beside(encoder: Path, name: str) -> Iterator[Path]:
    """Where a generator lies whose run stands beside the encoder's, or whose file was copied along with it."""
    *_, folder, file = ["", *Path(name).parts]
    yield encoder.parent / file
    if folder:
        yield encoder.parent / folder / file
        yield encoder.parent.parent / folder / file
