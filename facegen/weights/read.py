"""Tensors by name from files of PyTorch and safetensors. Nothing of such a file is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from facegen.errors import FacegenError
from facegen.text import shown
from facegen.weights.tensors.safetensors_file import open_safetensors
from facegen.weights.tensors.torch_file import read_torch_file

WRAPPERS = ("module.", "_orig_mod.")


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict: a `.safetensors` file, or a file of `torch.save` with tensors by name and nothing else.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is damaged, or something else, or has numbers that are not finite.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        with open_safetensors(path) as file:
            content: Any = {name: file.tensor(name) for name in file.entries}
    else:
        content = read_torch_file(path)
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise FacegenError(f"{path}: not a state dict: it needs tensors by name and nothing else")
    check_finite(content, str(path))
    return without_wrapper(content)


def check_finite(tensors: Mapping[Any, torch.Tensor], where: str) -> None:
    """Raise FacegenError, naming the first tensor that is not finite: such weights would draw nothing but noise.

    Args:
        tensors: A network's, by name.
        where: The file, and the network in it, for the message.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        # The least and the largest number: a hundredth of the time that `isfinite` takes.
        lowest, highest = (tensor.float() if tensor.itemsize == 1 else tensor).aminmax()
        if not (lowest.isfinite() and highest.isfinite()):
            raise FacegenError(f"{where}: {shown(name)} has infinite or missing numbers: damaged weights")


def without_wrapper(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict without the prefix that wrappers of a network give to all of its names.

    `module.` is that of DataParallel and DistributedDataParallel, `_orig_mod.` that of torch.compile.
    """
    state = dict(state)
    for prefix in WRAPPERS * len(WRAPPERS):  # one may lie in the other
        if state and all(isinstance(name, str) and name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
