"""Folders as the Hugging Face hub has them: `model.safetensors`, `config.json` and a model card.

`facegen.load_generator` and its like read such a folder, or a repository on the hub, as they read every weight file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from facegen.files import atomic_path, write_json
from facegen.text import in_markdown, visible
from facegen.weights.header import Header, without_paths
from facegen.weights.hub import CONFIG, USUAL
from facegen.weights.in_words import edits_in_words
from facegen.weights.native import save_networks

CARD = "README.md"
REPOSITORY = "ORGANIZATION/NAME"  # stands in a card until its owner writes the real one
_LOADED = ("generator", "encoder", "discriminator", "age_estimator", "editor")  # `facegen.load_generator`, ...
# How the hub writes licenses that it knows; all else is "other", with the words in the card.
_LICENSE_ID = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")


def save_pretrained(
    networks: Mapping[str, nn.Module], folder: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write networks as a folder that can be pushed to the hub.

    A model card is only written if there is none: what its owner wrote stays.

    Args:
        networks: By name, as in `save_networks`.
        folder: Made if missing.
        metadata: As in `save_networks`; files that its training options name lose their folders.

    Example:
        >>> import facegen
        >>> G = facegen.Generator(z_dim=64, c_dim=10, w_dim=64, img_resolution=32, img_channels=3)
        >>> metadata = {"groups": facegen.AgeGroups.default().labels, "license": "cc-by-nc-4.0"}
        >>> facegen.save_pretrained({"G_ema": G}, "my-generator", metadata)
        >>> G, header = facegen.load_generator("my-generator")
    """
    folder = Path(folder)
    header = _save_weights(networks, folder, metadata or {})
    if not (folder / CARD).exists():
        with atomic_path(folder / CARD) as temporary:
            temporary.write_text(model_card(header), encoding="utf-8")


def _save_weights(networks: Mapping[str, nn.Module], folder: Path, metadata: Mapping[str, Any]) -> Header:
    """Write the weights and, for people and the hub, their header beside them; return the header."""
    save_networks(folder / USUAL, networks, without_paths(metadata))
    header = Header.read(folder / USUAL)
    write_json(folder / CONFIG, dict(header))
    return header


def push_to_hub(
    networks: Mapping[str, nn.Module],
    repository: str,
    metadata: Mapping[str, Any] | None = None,
    *,
    private: bool | None = None,
    token: str | None = None,
    **upload: Any,
) -> str:
    """Upload networks, their header and a model card to a repository on the hub.

    Args:
        networks: as in `save_networks`
        repository: "organization/name"; made if missing. Its model card is replaced, unless `ignore_patterns` names it.
        metadata: as in `save_pretrained`
        private: whether a new repository is private; None for the organization's default
        token: None for the one that huggingface_hub finds
        upload: more arguments of `HfApi.upload_folder`, such as `commit_message`, `revision` or `ignore_patterns`

    Returns:
        The address of the commit.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
    with TemporaryDirectory() as folder:
        header = _save_weights(networks, Path(folder), metadata or {})
        (Path(folder) / CARD).write_text(model_card(header, repository), encoding="utf-8")
        return api.upload_folder(repo_id=repository, folder_path=folder, **upload)


def model_card(header: Header, repository: str = REPOSITORY) -> str:
    """Return the text of a model card: what the header tells, and headings for what only its owner knows."""
    identifier = header.license if header.license and _LICENSE_ID.fullmatch(header.license) else "other"
    networks = [f"- {_sentence(name, entry)}" for name, entry in header.networks.items()]
    if header.class_names:
        networks.append(f"- classes: {in_markdown(', '.join(map(str, header.class_names)))}")
    kinds = {entry["kind"] for entry in header.networks.values()}
    kind = next((name for name in _LOADED if name in kinds), "generator")
    data = header.training_options.get("data") or header.training_options.get("generator")
    lines = [
        "---",
        f"license: {identifier}",
        "library_name: facegen",
        "tags: [facegen, stylegan2-ada, face, age]",
        "---",
        "",
        f"# {repository.rpartition('/')[2]}",
        "",
        *networks,
        "",
        "```python",
        "import facegen",
        f'{kind}, header = facegen.load_{kind}("{repository}")',
        "```",
        "",
        "## License",
        "",
        "\n".join(map(in_markdown, (header.license or "").split("\n")))
        or "Not stated. Write here under which terms these weights may be used.",
        "",
        "## Data and training",
        "",
        f"Trained on {_code(data)}." if data else "Write here what the weights were trained on.",
        *([f"Images seen: {header.kimg:g} thousand."] if header.kimg is not None else []),
        *([f"On faces held back: {edits}."] if (edits := edits_in_words(header)) else []),
        *[in_markdown(f"{name}: {value}.") for name, value in (header.get("metrics") or {}).items()],
        "",
        "## Limits",
        "",
        "Write here what the weights cannot do, whom the data leaves out, and what they must not be used for.",
        "",
    ]
    return "\n".join(lines)


def _sentence(name: str, entry: Mapping[str, Any]) -> str:
    kwargs = entry["kwargs"]
    if entry["kind"] == "editor":
        youngest, oldest = kwargs["ages"]
        return f"{_code(name)}: editor, faces of any size from {youngest:g} to {oldest:g} years"
    side, classes = kwargs.get("img_resolution", kwargs.get("input_size")), kwargs.get("c_dim")
    size = f", {side}x{side} pixels" if side else ""
    return f"{_code(name)}: {entry['kind']}{size}" + (f", {classes} classes" if classes else "")


def _code(name: object) -> str:
    """A name as code in Markdown, which it cannot end."""
    return f"`{visible(str(name)).replace('`', chr(39))}`"
