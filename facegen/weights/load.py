"""Read networks from any file that facegen understands."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from facegen.weights.locate import locate


def read_networks(reference: str | os.PathLike[str]) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Read all networks of a weight file.

    Args:
        reference: What `facegen.weights.locate.locate` takes: a file, a run folder, an address, a published network.

    Returns:
        The networks by name (float32, on the CPU, in evaluation mode, without gradients) and the header.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is damaged, or no weight file.
    """
    path = locate(reference)
    suffix = path.suffix.lower()
    if suffix == ".pkl":
        from facegen.weights.legacy import read_networks as read_pickle
        from facegen.weights.pickle_note import read_note
        from facegen.weights.pickle_records import read_records

        networks, header = read_pickle(path)
        content = read_records(path)
        note = read_note(content) if isinstance(content, dict) else None
        if note is None:
            return networks, header
        names, metadata = note
        kept = {name: network for name, network in networks.items() if name in names}
        return kept, {**metadata, "networks": {name: header["networks"][name] for name in kept}}
    if suffix in (".pt", ".pth"):
        from facegen.weights.state_dict import read_networks as read_state_dicts

        return read_state_dicts(path)
    from facegen.weights.native import load_networks

    return load_networks(path)
