"""Several processes that train together: a handful of functions that do nothing where there is one process.

`torchrun` starts the processes and tells each its place by environment variables. NCCL carries gradients between GPUs,
gloo between CPUs. A second, gloo group carries what the hosts have to agree on, so that no GPU is waited for.

Gradients are not synchronised by DistributedDataParallel but in one piece: all gradients of a phase, put one after the
other, are averaged by a single all-reduce right before the optimizer's step. A phase of a GAN has several forward and
backward passes, through two networks of which one is frozen, second derivatives, and parts of a batch to accumulate;
DDP's hooks would want to be told for each of them whether to synchronise, and need a forward pass that runs through
them. What this costs is that nothing is computed meanwhile; docs/scaling.md has the numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from facegen.errors import FacegenError, one_line

TIMEOUT = "FACEGEN_TIMEOUT"  # seconds; the environment variable that overrides the number below
DEFAULT_TIMEOUT = 600

_hosts: dist.ProcessGroup | None = None  # the group on CPUs


def rank() -> int:
    """This process' number, 0 for the one that writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and messages."""
    return rank() == 0


def is_launched() -> bool:
    """Whether `torchrun` started this process, alone or with others."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def join(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes for a block, if `torchrun` started several; gives the device of this process.

    At the end of the block all wait for each other, so none is taken for dead while rank 0 still writes.
    A process joins once: for several trainings in a script, put one block around them, and those within do nothing.

    Args:
        device: What a single process would use; `cuda` becomes the GPU of this process.

    Raises:
        FacegenError: the processes cannot be joined, or one of them was lost.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        # Random states are read from the current GPU.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield device
        return
    with _lost_processes():
        device = _start(device)
        try:
            yield device
        except SystemExit:
            barrier()
            _leave()
            raise
        except BaseException:
            raise  # leaving in good order would wait for processes that may wait for this one
        barrier()
        _leave()


def barrier() -> None:
    """Wait until all processes are here, at most for the timeout."""
    if dist.is_initialized():
        dist.barrier(group=_hosts)


def share(value: Any) -> Any:
    """Return rank 0's value, a small picklable object, on all processes."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_hosts)
    return box[0]


def gather(part: torch.Tensor) -> torch.Tensor:
    """Return the `[n, ...]` tensors of all processes, on the CPU, joined in order of rank; empty ones are left out."""
    if not dist.is_initialized():
        return part
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, part.cpu(), group=_hosts)
    return torch.cat([p for p in parts if p.numel()] or [part])


def on_main(action: Any) -> Any:
    """Run a function on rank 0 and return its result on all; what it raises there is raised on all."""
    if not dist.is_initialized():
        return action()
    result, error = None, None
    if is_main():
        try:
            result = action()
        except (FacegenError, OSError) as caught:
            error = caught
    result, words = share((result, None if error is None else str(error)))
    if error is not None:
        raise error
    if words is not None:
        raise FacegenError(words)
    return result


def average(tensors: Iterable[torch.Tensor], parts: int = 1) -> None:
    """Replace float tensors by their mean over all processes, with a single all-reduce.

    Args:
        tensors: On one device; of the same number and shapes on every process.
        parts: How many parts each tensor is the sum of.
    """
    tensors = list(tensors)
    if not tensors or world_size() * parts == 1:
        return
    if world_size() == 1:
        for tensor in tensors:
            tensor.div_(parts)
        return
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat.div_(world_size() * parts)
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.detach().copy_(mean.view_as(tensor))


def broadcast(networks: Iterable[nn.Module]) -> None:
    """Give the parameters and buffers of rank 0 to all."""
    if dist.is_initialized():
        with torch.no_grad():
            for network in networks:
                for tensor in network.state_dict().values():
                    whole = tensor.contiguous()
                    dist.broadcast(whole, src=0)
                    tensor.copy_(whole)


def check_equal(networks: dict[str, nn.Module]) -> None:
    """Make sure that parameters and buffers are the same on all processes, to the bit.

    Raises:
        FacegenError: on all of them, if not.
    """
    if not dist.is_initialized():
        return
    sums = torch.stack([_fingerprint(network) for network in networks.values()]).cpu()
    highest = torch.stack([sums, -sums])
    dist.all_reduce(highest, dist.ReduceOp.MAX, group=_hosts)
    different = [name for name, most, least in zip(networks, *highest.tolist(), strict=True) if most != -least]
    if different:
        raise FacegenError(
            f"the weights of {', '.join(different)} are not the same on all {world_size()} processes any more, so "
            "this run cannot be trusted; continue from its last snapshot with --resume, with the same kind of "
            "GPU everywhere"
        )


class Agreement:
    """Flags that all processes see alike: one that any of them sets is seen by all, one call later.

    The answer travels while the next step computes, so there is no waiting.
    """

    def __init__(self) -> None:
        self._pending: tuple[torch.Tensor, dist.Work] | None = None

    def __call__(self, *flags: bool) -> tuple[bool, ...]:
        """Tell the others these flags and return what anybody told in the call before (now, if alone)."""
        if not dist.is_initialized():
            return flags
        answer = (False,) * len(flags)
        if self._pending is not None:
            told, work = self._pending
            work.wait()
            answer = tuple(bool(value) for value in told.tolist())
        told = torch.tensor(flags, dtype=torch.int32)
        self._pending = (told, dist.all_reduce(told, dist.ReduceOp.MAX, group=_hosts, async_op=True))
        return answer

    def close(self) -> None:
        """Wait for what is on its way."""
        if self._pending is not None:
            self._pending[1].wait()
            self._pending = None


def _start(device: torch.device) -> torch.device:
    """Make the process groups."""
    global _hosts
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise FacegenError(
                f"{os.environ.get('LOCAL_WORLD_SIZE', 'too many')} processes on a host with "
                f"{torch.cuda.device_count()} GPUs: start as many processes as there are GPUs"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    try:
        timeout = timedelta(seconds=float(os.environ.get(TIMEOUT, DEFAULT_TIMEOUT)))
    except ValueError as error:
        raise FacegenError(f"{TIMEOUT} must be a number of seconds, got {os.environ[TIMEOUT]!r}") from error
    if device.type == "cuda":
        dist.init_process_group("nccl", timeout=timeout, device_id=device)
        group = dist.new_group(backend="gloo", timeout=timeout)
        assert isinstance(group, dist.ProcessGroup)  # every process is in it
        _hosts = group
    else:
        dist.init_process_group("gloo", timeout=timeout)
        _hosts = dist.group.WORLD
    barrier()
    return device


def _leave() -> None:
    global _hosts
    _hosts = None
    with suppress(RuntimeError):  # all is done; errors caused by a process that left first do not matter
        dist.destroy_process_group()


@contextmanager
def _lost_processes() -> Iterator[None]:
    """Turn what the backends say when a process is gone into one line."""
    try:
        yield
    except FacegenError:
        raise
    except RuntimeError as error:
        words = one_line(error)
        if not isinstance(error, dist.DistError) and not any(sign in words for sign in _SIGNS):
            raise
        raise FacegenError(
            f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}: another process is gone or does not "
            f"answer, so all stop; look for its own message above. Continue from the last snapshot with --resume "
            f"({words[:150]})"
        ) from error


_SIGNS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Timed out waiting", "Broken pipe")


def _fingerprint(network: nn.Module) -> torch.Tensor:
    """An int64 that changes with any bit of any tensor; sums of integers do not depend on their order."""
    total = None
    for position, tensor in enumerate(network.state_dict().values(), start=1):
        word = torch.int32 if tensor.element_size() % 4 == 0 else torch.uint8
        bits = tensor.detach().contiguous().reshape(-1).view(word).to(torch.int64)
        part = (bits * (torch.arange(len(bits), device=bits.device) + position)).sum()  # places count, too
        total = part if total is None else total + part
    return total if total is not None else torch.zeros([], dtype=torch.int64)
