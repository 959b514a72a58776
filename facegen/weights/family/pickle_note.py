"""What facegen notes in the network pickles that it writes: which networks are meant, and its metadata.

The family's tools ask for `G`, `D` and `G_ema` in every file, so some may be there for them alone; other entries, such
as this note, they ignore.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from facegen.reading import parse_json

NOTE_KEY = "facegen"  # at the top level of the pickle, beside G, D and G_ema
NAMES = ("G", "D", "G_ema")


def write_note(networks: Iterable[str], metadata: Mapping[str, Any]) -> str:
    """Return the note as text: the names of the networks, and metadata that JSON can hold."""
    return json.dumps({"networks": list(networks), "metadata": dict(metadata)})


def read_note(content: Mapping[Any, Any]) -> tuple[list[str], dict[str, Any]] | None:
    """Return which networks were given to `write_pickle`, and the metadata; None for a pickle of other tools.

    Args:
        content: The top level of the pickle, as read by `pickle_records.read_records`.
    """
    text = content.get(NOTE_KEY)
    if not isinstance(text, str):
        return None
    try:
        note = parse_json(text, "its note")
        names, metadata = note["networks"], note["metadata"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if not isinstance(names, list) or not isinstance(metadata, dict) or not all(name in NAMES for name in names):
        return None
    return names, metadata
