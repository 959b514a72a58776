"""Whether what a state file holds fits the networks, optimizers and numbers that it is for, before it gets there.

A run folder may come from a stranger, and torch believes what a state says: its fused Adam writes as many numbers as
the parameter has, however few the file's moments are, and its random generator reads from where the file says. So
everything is compared first, and what the options decide (learning rates and the like) is never taken from the file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from facegen.errors import FacegenError

MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam and AdamW; beside them `step`
MOST = 2**53  # no counter is larger
# torch's Mersenne Twister within `torch.get_rng_state`: the seed, how many of its numbers are `left`, whether it is
# seeded, which comes `next`; the numbers; normal numbers drawn ahead.
_TWISTER, _NUMBERS = struct.Struct("=QiiQ"), 624
_NORMAL, _NORMAL_AT = struct.Struct("=dddi4xf"), _TWISTER.size + 8 * _NUMBERS


def fitting(part: Any, saved: Any, where: str) -> Any:
    """Return a part's state such that it can be loaded.

    Args:
        part: a network, an Adam, a dataclass of numbers, or a mapping of such parts by name.
        saved: what the file holds of it.
        where: what to call it in messages.

    Raises:
        FacegenError: it does not belong to this part, or has numbers with which no training can continue.
    """
    if isinstance(part, nn.Module):
        return fitting_tensors(part.state_dict(), saved, where)
    if isinstance(part, torch.optim.Optimizer):
        return _of_optimizer(part, saved, where)
    if is_dataclass(part):
        return _of_numbers(part, saved, where)
    saved = as_dict(saved, where)
    if missing := [name for name in part if name not in saved]:
        raise FacegenError(f"{where}: it has no {missing[0]}")
    return {name: fitting(inner, saved[name], f"{where}: {name}") for name, inner in part.items()}


def fitting_tensors(expected: Mapping[str, torch.Tensor], saved: Any, where: str) -> dict[str, torch.Tensor]:
    """Return tensors by name, which are as many, of the same types and shapes, and finite. Raises as `fitting`."""
    saved = as_dict(saved, where)
    for name in [*expected, *saved]:
        if name not in saved or name not in expected:
            lacks = "lacks" if name not in saved else "has another tensor,"
            raise FacegenError(f"{where}: {lacks} {str(name)[:100]!r}: of another network")
    return {name: checked(saved[name], x.shape, x.dtype, f"{where}.{name}") for name, x in expected.items()}


def checked(tensor: Any, shape: torch.Size | tuple[int, ...], dtype: torch.dtype, where: str) -> torch.Tensor:
    """Return a tensor if it is one of this shape and type in the CPU's memory, and finite. Raises as `fitting`."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_nested:
        raise FacegenError(f"{where}: not a plain tensor")
    if tensor.device.type != "cpu" or tensor.dtype != dtype or tensor.shape != shape:
        found, wanted = (f"{kind} {list(size)}" for kind, size in ((tensor.dtype, tensor.shape), (dtype, shape)))
        found += f" on {tensor.device.type}" if tensor.device.type != "cpu" else ""
        raise FacegenError(f"{where}: is {found[:200]}, must be {wanted}")
    if not tensor.isfinite().all():
        raise FacegenError(f"{where}: contains numbers that are not finite; an older snapshot may be intact")
    return tensor.detach()


def whole(value: Any, where: str, least: int = 0, most: int = MOST) -> int:
    """Return a whole number in `least..most`. Raises as `fitting`."""
    if type(value) is not int or not least <= value <= most:
        raise FacegenError(f"{where}: is {_shown(value)}, must be a whole number from {least} to {most}")
    return value


def number(value: Any, where: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number in `least..most`. Raises as `fitting`."""
    if type(value) not in (int, float) or not abs(value) <= MOST**8 or not least <= value <= most:
        wanted = "a finite number" if least == -math.inf else f"a number from {least:g} to {most:g}"
        raise FacegenError(f"{where}: is {_shown(value)}, must be {wanted}")
    return value


def as_dict(saved: Any, where: str) -> dict[Any, Any]:
    """Return a plain dict of a mapping; raises as `fitting`.

    An OrderedDict from a file may carry anything under the names of its methods.
    """
    if not isinstance(saved, dict):
        raise FacegenError(f"{where}: is {_shown(saved)}, must be a mapping")
    return dict(dict.items(saved))


def generator_state(state: Any, where: str) -> torch.Tensor:
    """Return the state of a random generator of the CPU. Raises as `fitting`."""
    now = torch.get_rng_state()
    state = checked(state, now.shape, now.dtype, where).contiguous().clone()
    raw = state.numpy().tobytes()
    _, left, seeded, following = _TWISTER.unpack_from(raw)
    # torch reads from `next` on until none is left, without looking where its numbers end.
    in_step = left + following == _NUMBERS + 1 or (left, following) == (1, 0)
    if seeded != 1 or not 1 <= left <= _NUMBERS or not in_step:
        raise FacegenError(f"{where}: not the state of a random generator")
    if not all(map(math.isfinite, _NORMAL.unpack_from(raw, _NORMAL_AT))):
        raise FacegenError(f"{where}: contains numbers that are not finite")
    return state


def cuda_states(states: Any, where: str) -> list[torch.Tensor]:
    """Return the states of random generators of GPUs: a seed and how far it is, 8 bytes each. Raises as `fitting`."""
    if not isinstance(states, list) or len(states) > 1024:
        raise FacegenError(f"{where}: is {_shown(states)}, must be a list")
    found = [checked(state, (16,), torch.uint8, where).contiguous().clone() for state in states]
    if any(int(state[8]) % 4 for state in found):
        raise FacegenError(f"{where}: not the state of a random generator")
    return found


def _of_optimizer(optimizer: torch.optim.Optimizer, saved: Any, where: str) -> dict[str, Any]:
    """The state of an Adam, with the settings that it has already."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    saved = as_dict(saved, where)
    state = {}
    for index, moments in as_dict(saved.get("state"), where).items():
        whole(index, f"{where}: a parameter's number", most=len(parameters) - 1)
        state[index] = _moments(parameters[index], moments, f"{where}: parameter {index}")
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def _moments(parameter: torch.Tensor, saved: Any, where: str) -> dict[str, torch.Tensor]:
    """What Adam keeps of a parameter, copied into the layout that the parameter has."""
    saved = as_dict(saved, where)
    if set(saved) != {"step", *MOMENTS}:
        raise FacegenError(f"{where}: must hold step, {' and '.join(MOMENTS)}, and nothing else")
    step = saved["step"]
    kinds = (torch.float32, torch.float64)
    kind = step.dtype if isinstance(step, torch.Tensor) and step.dtype in kinds else torch.float32
    step = checked(step, (), kind, f"{where}: step").clone()
    whole(int(step) if step == step.floor() else float(step), f"{where}: step")
    fitted = {"step": step}
    for name in MOMENTS:
        moment = checked(saved[name], parameter.shape, parameter.dtype, f"{where}: {name}")
        # A gradient whose square overflows ends a training, so no moment is larger than such a gradient.
        if (moment < 0).any() if name == "exp_avg_sq" else moment.square().isinf().any():
            raise FacegenError(f"{where}: {name}: contains impossible numbers")
        fitted[name] = torch.empty_like(parameter, requires_grad=False).copy_(moment)
    return fitted


def _of_numbers(part: Any, saved: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass; those that the file lacks, as earlier versions had fewer, stay as they are."""
    saved = as_dict(saved, where)
    now = {field.name: getattr(part, field.name) for field in fields(part)}
    for name, value in saved.items():
        place = f"{where}: {str(name)[:100]}"
        if name not in now:
            raise FacegenError(f"{place}: of another version of facegen")
        if isinstance(now[name], str):
            if not isinstance(value, str):
                raise FacegenError(f"{place}: is {_shown(value)}, must be a text")
        elif isinstance(now[name], int):
            whole(value, place)
        elif not (value == math.inf == now[name]):  # the lowest loss before the first was measured
            number(value, place)
    return saved


def _shown(value: Any) -> str:
    """A value in a few letters."""
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) > MOST:
        return "a huge number"
    return repr(value)[:100] if isinstance(value, (int, float, str, bool, type(None))) else f"a {type(value).__name__}"
