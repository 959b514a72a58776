"""Mutants of a file that keep its structure: JSON stays JSON, pickles stay made of instructions."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.containers import join_parts, read_safetensors, split_parts, write_safetensors
from weights.fuzz_pickles import mutant as pickle_mutant

ODD_TEXTS = ["", "\x1b[31m", "\u202e", "\x9b", "\ud800", "<script>", "a\nb", "../../x", "x" * 3000, "0" * 5000, "NaN"]
ODD_NUMBERS = [0, -1, 1, 2, 2**31, 2**53, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308, 1e-320]
ODD_NUMBERS += [float("nan"), float("inf"), -float("inf")]
_BYTES = [b"\0", b"\xff", b"\n", b'"', b"{", b"[", b"," * 50, b"[" * 200, b"9" * 400, b"\x1b[2J", b"\xff" * 8, b"e999"]


def mutate(name: str, data: bytes, random: Random) -> bytes:
    """Return a mutant of a target's input: a change or a few, to its structure where there is one."""
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        try:
            data = _STRUCTURED.get(name, mutate_bytes)(data, random) if random.random() < 0.9 else data
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # it has lost its structure
            data = mutate_bytes(data, random)
    return data if random.random() < 0.9 else mutate_bytes(data, random)


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Change, insert, remove or repeat bytes somewhere."""
    changed = bytearray(data or b"\0")
    at, length = random.randrange(len(changed)), random.choice([1, 1, 2, 4, 8, 64])
    kind = random.randrange(6)
    if kind == 0:
        changed[at] ^= 1 << random.randrange(8)
    elif kind == 1:
        changed[at : at + length] = random.randbytes(length)
    elif kind == 2:
        changed[at:at] = random.choice(_BYTES)
    elif kind == 3:
        del changed[at : at + length]
    elif kind == 4:
        start = random.randrange(len(changed))
        changed[at:at] = changed[start : start + length] * random.choice([1, 1, 2, 50])
    else:
        changed[at : at + 4] = random.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]).to_bytes(
            4, random.choice(["little", "big"])
        )
    return bytes(changed)


def mutate_tree(tree: Any, random: Random) -> Any:
    """Return a parsed JSON document with another value, key or length somewhere."""
    places: list[tuple[Any, Any]] = []  # container, key or index
    waiting = [tree]
    while waiting:
        container = waiting.pop()
        keys: Any = range(len(container)) if isinstance(container, list) else container
        keys = keys if isinstance(container, (dict, list)) else ()
        places += [(container, key) for key in keys]
        waiting += [container[key] for key in keys]
    if not places or random.random() < 0.02:
        return _odd_value(random)
    container, key = random.choice(places)
    other, other_key = random.choice(places)
    kind = random.randrange(6)
    if kind <= 1:
        container[key] = _odd_value(random)
    elif kind == 2:
        container[key] = json.loads(json.dumps(other[other_key]))  # a copy: else it could hold itself
    elif kind == 3:
        del container[key]
    elif isinstance(container, list):
        container[key:key] = [container[key]] * random.choice([1, 2, 100])
    elif kind == 4:
        container[random.choice([*ODD_TEXTS, str(other_key)])] = container[key]
    elif isinstance(container[key], (int, float)):
        container[key] *= random.choice([-1, 2, 1000, 10**9])
    elif isinstance(container[key], str) and container[key]:
        at = random.randrange(len(container[key]))
        container[key] = container[key][:at] + random.choice(ODD_TEXTS) + container[key][at + random.randrange(3) :]
    return tree


def _odd_value(random: Random) -> Any:
    nested: list[Any] = []
    for _ in range(random.choice([1, 60, 900])):
        nested = [nested]
    kinds: list[list[Any]] = [ODD_TEXTS, ODD_NUMBERS, [None, True, False, [], {}, [[]], {"": {}}, nested]]
    return random.choice(random.choice(kinds))


def mutate_json(data: bytes, random: Random) -> bytes:
    """Mutate a JSON document, or one line of many."""
    lines = data.splitlines()
    if len(lines) > 1:
        at = random.randrange(len(lines))
        lines[at] = mutate_json(lines[at], random)
        return b"\n".join(lines) + b"\n"
    return json.dumps(mutate_tree(json.loads(data), random), ensure_ascii=random.random() < 0.9).encode(
        "utf-8", "surrogatepass"
    )


def _mutate_parts(data: bytes, random: Random) -> bytes:
    parts = split_parts(data)
    name = random.choice(list(parts))
    if random.random() < 0.05:
        del parts[name]
    else:
        parts[name] = (mutate_json if name.endswith(("json", "jsonl")) else mutate_bytes)(parts[name], random)
    return join_parts(parts)


def _mutate_safetensors(data: bytes, random: Random) -> bytes:
    header, tensors = read_safetensors(data)
    return write_safetensors(mutate_tree(header, random), tensors)


def _mutate_pickle(data: bytes, random: Random) -> bytes:
    return pickle_mutant([data], random)


_STRUCTURED: dict[str, Callable[[bytes, Random], bytes]] = {
    "archive": _mutate_parts,
    "run": _mutate_parts,
    "spool": _mutate_parts,
    "state": mutate_json,
    "safetensors": _mutate_safetensors,
    "pickle": _mutate_pickle,
    "torch_pickle": _mutate_pickle,
}
