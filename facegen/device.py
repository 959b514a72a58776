"""Where networks run, and how tensors get there."""

from __future__ import annotations

import torch

from facegen.errors import FacegenError


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name; None takes a GPU when there is one.

    Raises:
        FacegenError: PyTorch does not know the device, or this machine does not have it.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except Exception as error:  # each backend complains in its own way
        raise FacegenError(f"device {str(name)!r} cannot be used on this machine; leave it out, or use cpu") from error
    return device


def send(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Copy a tensor from the CPU to a device without waiting for what the device still has to do.

    An ordinary copy to a GPU waits for all work that was given to it before, and the GPU then for new work. A copy out
    of page-locked memory takes its place in the queue. On the CPU this is `tensor.to`.

    Args:
        tensor: Not to be changed in place afterwards, for the copy may take place later.
        device: Where to.
        dtype: Convert to this type, before the copy.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.to(dtype).pin_memory().to(device, non_blocking=True)
    return tensor.to(device, dtype, non_blocking=True)
