"""The device on which networks run, and how tensors get there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from facegen.errors import FacegenError


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name; None uses a GPU if there is one.

    Raises:
        FacegenError: PyTorch does not know the device, or this machine does not have it.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except Exception as error:  # each backend complains in its own way
        raise FacegenError(f"device {str(name)!r} cannot be used on this machine; leave it out, or use cpu") from error
    return device


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 numbers, faster than float32: x86 with AVX512-BF16, or AMX besides.

    PyTorch computes in bfloat16 on any processor, elsewhere slower than in float32. What Arm's instructions gain has
    not been measured. The environment variable FACEGEN_BFLOAT16 answers instead, with 0 or 1.

    Raises:
        FacegenError: that variable has another value.
    """
    if answer := os.environ.get("FACEGEN_BFLOAT16"):
        if answer not in ("0", "1"):
            raise FacegenError(f"the environment variable FACEGEN_BFLOAT16 must be 0 or 1, got {answer!r}")
        return answer == "1"
    # Every processor with AMX has AVX512-BF16. PyTorch's multiplications in bfloat16 are oneDNN's.
    has_instructions = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return bool(has_instructions()) and torch.backends.mkldnn.is_available()


def trains_in_bfloat16(device: torch.device, fp32: bool) -> bool:
    """Whether a training computes in bfloat16 where it pays: on a processor that has it, unless told `fp32`.

    A run's options only say `fp32`, so that it may continue on another processor.
    """
    return device.type == "cpu" and not fp32 and cpu_has_bfloat16()


def precision_in_words(half: torch.dtype | None, device: torch.device, fp32: bool) -> str:
    """What a log says of the type, `half`, that a training computes in where it pays; None for float32 alone."""
    if half is not None:
        name, why = str(half).removeprefix("torch.") + " where it pays", "this processor has the instructions"
        return f"{name} ({why})" if trains_in_bfloat16(device, fp32) else name
    if fp32 or device.type != "cpu":
        return "float32" + (" (--fp32)" if fp32 else "")
    return "float32 (this processor has no instructions for bfloat16)"


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within the block, GPUs may round the factors of float32 products to 10 bits (TF32), or may not.

    PyTorch allows it in convolutions, and not in matrix products. It is faster; but a path length, which divides a
    small difference of pictures by 1e-8, would measure the rounding, too. On a CPU nothing changes.
    """
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = allowed
        yield
    finally:
        for place, was in zip(places, before, strict=True):
            place.allow_tf32 = was


def to_device(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Copy a tensor from the CPU to a device without waiting for what the device still has to do.

    An ordinary copy to a GPU waits for all work that was given to it before, and the GPU then for new work. A copy out
    of page-locked memory takes its place in the queue. On the CPU this is `tensor.to`.

    Args:
        tensor: Not to be changed in place afterwards, for the copy may take place later.
        dtype: Convert to this type, before the copy.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.to(dtype).pin_memory().to(device, non_blocking=True)
    return tensor.to(device, dtype, non_blocking=True)
