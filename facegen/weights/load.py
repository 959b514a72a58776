"""Read networks from any file that facegen understands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from torch import nn

from facegen.errors import FacegenError
from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.discriminator import Discriminator
from facegen.networks.editor import Editor
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.networks.lite_features import LiteFeatures
from facegen.networks.sex_classifier import SexClassifier
from facegen.reading import open_plain
from facegen.weights.cache import removed_if_damaged
from facegen.weights.header import Header
from facegen.weights.locate import locate
from facegen.weights.native import load_networks

Network = TypeVar("Network", bound=nn.Module)


def read_networks(
    reference: str | os.PathLike[str], first_of: Sequence[str] | None = None
) -> tuple[dict[str, nn.Module], Header]:
    """Read the networks of a weight file, of whatever kind its first bytes show it to be.

    Args:
        reference: What `facegen.weights.locate.locate` takes: a file, a run folder, an address, a published network.
        first_of: build only the first of these that is there; None builds all

    Returns:
        The networks by name (float32, on the CPU, in evaluation mode, without gradients) and the header.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is damaged, or no weight file.
    """
    path = locate(reference)
    with removed_if_damaged(path):
        return _read(path, first_of)


def _read(path: Path, first_of: Sequence[str] | None) -> tuple[dict[str, nn.Module], Header]:
    kind = kind_of_file(path)
    if kind == "pickle":
        from facegen.weights.family.pickles import read_networks as read_pickle

        return read_pickle(path, first_of)
    if kind == "torch":
        from facegen.weights.family.state_dict import read_networks as read_state_dicts

        return read_state_dicts(path, first_of)
    if kind == "unknown":
        raise FacegenError(
            f"{path}: not a weights file: neither safetensors nor a pickle nor a PyTorch file (ONNX can only be "
            "written)"
        )
    if first_of is None:
        return load_networks(path)
    described = Header.read(path).networks
    return load_networks(path, [name for name in first_of if name in described][:1])


def load_generator(reference: str | os.PathLike[str]) -> tuple[Generator, Header]:
    """Load the generator from a weights file (`G_ema`, else `G`), and what the file says about it.

    Args:
        reference: A file of any kind, a run folder (its newest snapshot), an http(s) address, `hf://name/repository`
            or a published network such as `ffhq256`.

    Returns:
        The generator (float32, on the CPU, in evaluation mode, without gradients) and the header, with
        `groups`, `template`, `kimg`, `license`, ..., as far as the file has them.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is damaged, cannot be downloaded, or holds no generator.
    """
    return _load(reference, ("G_ema", "G"), Generator, "generator")


def load_discriminator(reference: str | os.PathLike[str]) -> tuple[Discriminator, Header]:
    """Load the discriminator `D` from a weights file, and what the file says about it; see `load_generator`."""
    return _load(reference, ("D",), Discriminator, "discriminator")


def load_encoder(reference: str | os.PathLike[str]) -> tuple[Encoder, Header]:
    """Load the encoder from a weights file or run folder, and what the file says about it; see `load_generator`."""
    return _load(reference, ("encoder",), Encoder, "encoder")


def load_editor(reference: str | os.PathLike[str]) -> tuple[Editor, Header]:
    """Load the editor from a weights file or run folder, and what the file says about it; see `load_generator`."""
    return _load(reference, ("editor",), Editor, "editor")


def load_age_estimator(reference: str | os.PathLike[str]) -> tuple[AgeEstimator, Header]:
    """Load an age estimator from a weights file or run folder, and its header; see `load_generator`."""
    return _load(reference, ("age",), AgeEstimator, "age estimator")


def load_sex_classifier(reference: str | os.PathLike[str]) -> tuple[SexClassifier, Header]:
    """Load the sex classifier of a weight file, and what the file says about it; see `load_generator`."""
    return _load(reference, ("sex",), SexClassifier, "sex classifier")


def load_lite_features(reference: str | os.PathLike[str]) -> tuple[LiteFeatures, Header]:
    """Load the features of a weight file, and what the file says about it; see `load_generator`."""
    return _load(reference, ("features",), LiteFeatures, "features of pictures")


def _load(
    reference: str | os.PathLike[str], names: Sequence[str], kind: type[Network], what: str
) -> tuple[Network, Header]:
    networks, header = read_networks(reference, names)
    for name in names:
        if isinstance(network := networks.get(name), kind):
            return network, header
    held = ", ".join(header.networks or networks) or "nothing"
    raise FacegenError(f"{reference}: holds {held}, but no {what}")


def kind_of_file(path: Path) -> str:
    """Tell what a weight file is by its first bytes: `safetensors`, `torch` (a .pt file), `pickle`, or `unknown`.

    What a download is called says little, but a name that ends in .safetensors is trusted to mean it.
    """
    with open_plain(path) as file:
        start = file.read(9)
    # A safetensors file begins with the length of its header, 8 bytes of any value, and the header's brace.
    fits = int.from_bytes(start[:8], "little") <= path.stat().st_size - 8
    if (start[8:] == b"{" and fits) or path.suffix.lower() == ".safetensors":
        return "safetensors"
    if start.startswith(b"PK"):
        return "torch"
    if start.startswith(b"\x80"):
        # PyTorch's files of before 1.6 are pickles too; only their name tells them from a network pickle.
        return "torch" if path.suffix.lower() in {".pt", ".pth"} else "pickle"
    return "unknown"
