"""Folders as the Hugging Face hub has them: `model.safetensors`, `config.json` and a model card.

Networks know nothing of files (`weights` builds on `networks`, never the other way), so the classes with
`from_pretrained`, `save_pretrained` and `push_to_hub` are subclasses that live here and join a network to
huggingface_hub's mixin; `facegen.Generator` and its like are these. The functions do the same for networks that are
already there, under the names that a weight file gives them, several in one file if wanted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from torch import nn

from facegen.files import atomic_path
from facegen.networks import discriminator, encoder, generator
from facegen.weights.hub import CONFIG, USUAL
from facegen.weights.locate import locate
from facegen.weights.native import kind_of, load_networks, read_metadata, save_networks

if TYPE_CHECKING:
    from typing_extensions import Self

CARD = "README.md"
REPOSITORY = "ORGANISATION/NAME"  # stands in a card until its owner writes the real one
# Training options that name files of one machine.
PATHS = ("data", "val", "outdir", "generator", "age_estimator", "face_network", "resume", "init")
OF_THE_FILE = ("format_version", "networks", "sha256")  # in a header, but no metadata
# How the hub writes licences that it knows; all else is "other", with the words in the card.
_LICENSE_ID = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")


def save_pretrained(
    networks: Mapping[str, nn.Module], folder: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write networks as a folder that can be pushed to the hub.

    A model card is only written where there is none: what its owner wrote stays.

    Args:
        networks: By name, as in `save_networks`.
        folder: Made if missing.
        metadata: As in `save_networks`; files that its training options name lose their folders.
    """
    folder = Path(folder)
    header = _save_weights(networks, folder, metadata or {})
    if not (folder / CARD).exists():
        with atomic_path(folder / CARD) as temporary:
            temporary.write_text(model_card(header), encoding="utf-8")


def _save_weights(networks: Mapping[str, nn.Module], folder: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Write the weights and, for people and the hub, their header beside them; return the header."""
    save_networks(folder / USUAL, networks, without_paths(metadata))
    header = read_metadata(folder / USUAL)
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(header, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return header


def from_pretrained(
    reference: str | os.PathLike[str], *, revision: str | None = None
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Load all networks of a hub folder, a repository `organisation/name` or whatever else `locate` finds.

    Returns:
        As `load_networks`: the networks by name, and the header.

    Raises:
        FileNotFoundError, FacegenError: not there, cannot be downloaded, damaged.
    """
    return load_networks(_located(reference, revision))


def without_paths(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata in which training options name files by their last part: no other machine has their folders."""
    kept = dict(metadata)
    if isinstance(options := kept.get("training_options"), Mapping):
        shortened = {name: Path(options[name]).name for name in PATHS if isinstance(options.get(name), str)}
        kept["training_options"] = {**options, **shortened}
    return kept


def model_card(header: Mapping[str, Any], repository: str = REPOSITORY) -> str:
    """Return the text of a model card: what the header tells, and headings for what only its owner knows."""
    license = header.get("license")
    identifier = license if isinstance(license, str) and _LICENSE_ID.fullmatch(license) else "other"
    networks = [f"- {_sentence(name, entry)}" for name, entry in header["networks"].items()]
    if names := header.get("class_names") or header.get("groups"):
        networks.append(f"- classes: {', '.join(map(str, names))}")
    kinds = {entry["kind"] for entry in header["networks"].values()}
    cls = next((name for name in ("generator", "encoder", "discriminator") if name in kinds), "generator").capitalize()
    options = header.get("training_options") or {}
    data = options.get("data") or options.get("generator")
    lines = [
        "---",
        f"license: {identifier}",
        "library_name: facegen",
        "tags: [facegen, stylegan2-ada, face, age, model_hub_mixin]",
        "---",
        "",
        f"# {repository.rpartition('/')[2]}",
        "",
        *networks,
        "",
        "```python",
        "import facegen",
        f'network = facegen.{cls}.from_pretrained("{repository}")',
        "```",
        "",
        "## Licence",
        "",
        license if isinstance(license, str) else "Not stated. Write here under which terms these weights may be used.",
        "",
        "## Data and training",
        "",
        f"Trained on `{data}`." if data else "Write here what the weights were trained on.",
        *([f"Images seen: {header['kimg']:g} thousand."] if isinstance(header.get("kimg"), (int, float)) else []),
        *[f"{name}: {value}." for name, value in (header.get("metrics") or {}).items()],
        "",
        "## Limits",
        "",
        "Write here what the weights cannot do, whom the data leaves out, and what they must not be used for.",
        "",
    ]
    return "\n".join(lines)


def _sentence(name: str, entry: Mapping[str, Any]) -> str:
    kwargs = entry["kwargs"]
    words = [f"`{name}`: {entry['kind']}, {kwargs['img_resolution']}x{kwargs['img_resolution']} pixels"]
    if kwargs.get("c_dim"):
        words.append(f"{kwargs['c_dim']} classes")
    return ", ".join(words)


def _located(reference: str | os.PathLike[str], revision: str | None) -> Path:
    return locate(reference if revision is None else f"hf://{os.fspath(reference)}@{revision}")


class _OnTheHub(ModelHubMixin):
    """What the three classes share. `metadata` is what `save_networks` takes, and goes with the network."""

    metadata: Mapping[str, Any] = MappingProxyType({})
    _name: ClassVar[str]  # in the file

    @classmethod
    def from_pretrained(cls, reference: str | os.PathLike[str], *, revision: str | None = None) -> Self:
        """Load a network, in evaluation mode and without gradients, with its `metadata`.

        Args:
            reference: A hub folder, `organisation/name` on the hub (a token is used where huggingface_hub finds one),
                a run folder or a weight file of facegen.
            revision: A branch, a tag or a commit of the repository.

        Raises:
            FileNotFoundError, FacegenError: not there, cannot be downloaded, damaged, or without such a network.
        """
        networks, header = load_networks(_located(reference, revision), [cls._name])
        loaded = networks[cls._name]
        with torch.device("meta"):
            network = cls(**loaded.init_kwargs)
        network.load_state_dict(loaded.state_dict(), assign=True)
        network.metadata = {name: value for name, value in header.items() if name not in OF_THE_FILE}
        return network.eval().requires_grad_(False)

    def _save_pretrained(self, save_directory: Path) -> None:
        _save_weights({self._name: self}, save_directory, self.metadata)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Upload the network to a repository, made if missing; see `ModelHubMixin.push_to_hub` for its arguments."""
        card = {"repository": repo_id, **(kwargs.pop("model_card_kwargs", None) or {})}
        return super().push_to_hub(repo_id, model_card_kwargs=card, **kwargs)

    def generate_model_card(self, repository: str = REPOSITORY) -> ModelCard:
        """Return the stub of a model card."""
        entry = {"kind": kind_of(self), "kwargs": self.init_kwargs}
        return ModelCard(model_card({**without_paths(self.metadata), "networks": {self._name: entry}}, repository))


class Generator(_OnTheHub, generator.Generator):
    """`facegen.networks.generator.Generator` that loads from and saves to hub folders.

    Example:
        >>> G = facegen.Generator(z_dim=64, c_dim=10, w_dim=64, img_resolution=32, img_channels=3)
        >>> G.metadata = {"groups": facegen.AgeGroups().labels, "license": "cc-by-nc-4.0"}
        >>> G.save_pretrained("my-generator")
        >>> G = facegen.Generator.from_pretrained("my-generator")
    """

    _name = "G_ema"


class Discriminator(_OnTheHub, discriminator.Discriminator):
    """`facegen.networks.discriminator.Discriminator` that loads from and saves to hub folders."""

    _name = "D"


class Encoder(_OnTheHub, encoder.Encoder):
    """`facegen.networks.encoder.Encoder` that loads from and saves to hub folders."""

    _name = "encoder"
