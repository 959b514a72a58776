"""Where networks run."""

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
