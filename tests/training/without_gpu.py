"""A stand-in for a GPU that finds what a GPU would be waited for.

Tensors on PyTorch's `meta` device have no values: whoever asks for one (`item`, `bool`, `float`, `cpu`, `nonzero`, ...)
is refused, which is where a program would wait for a real GPU. Copies from the CPU are possible, and waited for unless
they say otherwise; those are counted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")
_ATEN = torch.ops.aten


class Waits(TorchDispatchMode):
    """Counts copies from the CPU that are waited for, and keeps every operation that ran on the device.

    Attributes:
        copies: Shapes of the tensors that were copied so.
        operations: Name and arguments, in order; what `watched` says.
    """

    def __init__(self, watched: tuple = ()) -> None:
        super().__init__()
        self.copies: list[torch.Size] = []
        self.operations: list[tuple[str, tuple]] = []
        self._watched = watched

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket
        if name is _ATEN._to_copy:
            source, target = args[0].device, torch.device(kwargs.get("device") or args[0].device)
            waited = not kwargs.get("non_blocking")
        elif name is _ATEN.copy_:
            source, target = args[1].device, args[0].device
            waited = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        else:
            waited = False
        if waited and source.type == "cpu" and target == META:
            self.copies.append(args[0].shape)
        if name in self._watched:
            self.operations.append((str(func), args))
        return func(*args, **kwargs)


def refuse_constants(monkeypatch) -> None:
    """Let tensors made of Python's numbers right on the device fail: that is a copy that is waited for, too."""
    for module, name in ((torch, "tensor"), (torch, "as_tensor"), (torch.Tensor, "new_tensor")):
        monkeypatch.setattr(module, name, _refusing(getattr(module, name), name))


def _refusing(function: Callable, name: str) -> Callable:
    def call(*args, **kwargs):
        made = function(*args, **kwargs)
        assert not made.is_meta or isinstance(args[0], torch.Tensor), f"torch.{name} of Python's numbers on the device"
        return made

    return call
