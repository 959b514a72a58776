"""Tensors by name from files of PyTorch and safetensors. Nothing of such a file is ever run."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from facegen.errors import FacegenError
from facegen.text import shown

WRAPPERS = ("module.", "_orig_mod.")


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict: a `.safetensors` file, or a file of `torch.save` with tensors by name and nothing else.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is damaged, or something else.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such weight file")
        try:
            return without_wrapper(load_file(path))
        except (SafetensorError, ValueError) as error:
            raise FacegenError(f"{path}: not a readable safetensors file ({shown(error, 200)})") from error
    content = read_torch_file(path)
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise FacegenError(f"{path}: holds no state dict, that is tensors by name and nothing else")
    return without_wrapper(content)


def without_wrapper(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict without the prefix that wrappers of a network give to all of its names.

    `module.` is that of DataParallel and DistributedDataParallel, `_orig_mod.` that of torch.compile.
    """
    state = dict(state)
    for prefix in WRAPPERS * len(WRAPPERS):  # one may lie in the other
        if state and all(isinstance(name, str) and name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def read_torch_file(path: str | Path) -> Any:
    """Read what `torch.save` wrote: tensors, plain values, containers, and options as an `argparse.Namespace`.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is damaged, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such weight file")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise FacegenError("compressed inside, which torch never writes")  # it could unpack to any size
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # torch's, on protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds, some with dangerous advice
        reason = str(error).strip().split("\n")[0]
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            reason = f"it names {named[1]}"
        raise FacegenError(f"{path}: damaged, or it holds more than tensors ({shown(reason, 200)}): refused") from error
