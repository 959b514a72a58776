"""Choose which usable faces go into the archive and its splits: limits, duplicates, people."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from facegen.data.crops import Cropped
from facegen.data.options import DHASH_BITS, Choice
from facegen.data.sources import Record, Skipped


def offer_order(records: Sequence[Record], choice: Choice) -> list[int]:
    """Return the indices of records in the order in which they are offered: drawn if a cap chooses among them."""
    indices = list(range(len(records)))
    if choice.max_per_group is not None or choice.per_person is not None:
        indices.sort(key=lambda i: draw(choice.seed, records[i].name))
    return indices


def draw(seed: int, name: str) -> bytes:
    """Return a number for `name` that looks random: the same on every machine and whatever else is drawn."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=str(seed).encode()).digest()


class Selection:
    """Takes faces as they are offered, one after another, or says why not.

    Each decision depends only on what was taken before. So a record that `refuses` names need not even be decoded, and
    a run, a resumed run and the merge of shards come to the same faces.

    Without a choice it takes all that can be used, as a shard does: what a choice drops from it, another shard may
    need.
    """

    def __init__(self, choice: Choice | None) -> None:
        self.choice = choice
        self._per_group: Counter[int] = Counter()
        self._per_person: Counter[str] = Counter()
        self._by_bytes: dict[bytes, Record] = {}
        self._hashes = _HashList()

    def refuses(self, record: Record, label: int) -> Skipped | None:
        """Tell, before it is decoded, why a face will not be taken, however it looks."""
        if self.choice is None:
            return None
        limit = self.choice.max_per_group
        if limit is not None and self._per_group[label] >= limit:
            return Skipped(record.name, "over --max-per-group", f"{limit:,d} of its group were drawn before it")
        limit = self.choice.per_person
        if limit is not None and record.person is not None and self._per_person[record.person] >= limit:
            return Skipped(record.name, "over --per-person", f"{limit:,d} of {record.person!r} were drawn before it")
        return None

    def offer(self, record: Record, label: int, outcome: Cropped | Skipped) -> Skipped | None:
        """Take a face; or return why not."""
        if refused := self.refuses(record, label):
            return refused
        if isinstance(outcome, Skipped):
            return outcome
        if self.choice is None:
            return None
        twin = self._by_bytes.setdefault(bytes.fromhex(outcome.sha256), record)
        if twin is not record:
            age = "" if twin.age_text == record.age_text else f" ({record.age_text} years; that one {twin.age_text})"
            return Skipped(record.name, "duplicate", f"the same bytes as {twin.name}{age}")
        if self.choice.near_duplicates is not None and outcome.dhash is not None:
            near = self._hashes.nearest(outcome.dhash)
            if near is not None and near[1] <= self.choice.near_duplicates:
                detail = f"differs from {near[0]} in {near[1]} of {DHASH_BITS} bits"
                return Skipped(record.name, "near duplicate", detail)
            self._hashes.append(outcome.dhash, record.name)
        self._per_group[label] += 1
        if record.person is not None:
            self._per_person[record.person] += 1
        return None


class _HashList:
    """64-bit hashes, searched by comparing with all of them, which costs little beside decoding a picture."""

    def __init__(self) -> None:
        self._hashes = np.empty(1024, np.uint64)
        self._names: list[str] = []

    def append(self, value: int, name: str) -> None:
        if len(self._names) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
        self._hashes[len(self._names)] = value
        self._names.append(name)

    def nearest(self, value: int) -> tuple[str, int] | None:
        """Return the name of the hash that differs in the fewest bits, and in how many."""
        if not self._names:
            return None
        distances = _bit_count(self._hashes[: len(self._names)] ^ np.uint64(value))
        index = int(distances.argmin())
        return self._names[index], int(distances[index])


def _bit_count(values: np.ndarray) -> np.ndarray:
    """Count the set bits of each uint64."""
    if hasattr(np, "bitwise_count"):  # since NumPy 2
        return np.bitwise_count(values)
    return np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)


def assign_splits(records: Sequence[Record], choice: Choice) -> dict[str | None, list[int]]:
    """Return the indices of the records of each split; a person's faces are all in one. Without splits it is None.

    Persons (faces, where there is no person) come in a drawn order, each into the split that lacks most.
    """
    if not choice.split:
        return {None: list(range(len(records)))}
    units: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        # A person may be called like a file.
        unit = f"file {record.name}" if record.person is None else f"person {record.person}"
        units.setdefault(unit, []).append(index)
    members: dict[str, list[int]] = {name: [] for name, _ in choice.split}
    wanted: Mapping[str, float] = {name: share * len(records) for name, share in choice.split}
    for unit in sorted(units, key=lambda unit: draw(choice.seed, unit)):
        lacking = max(wanted, key=lambda name: wanted[name] - len(members[name]))
        members[lacking] += units[unit]
    return {name: sorted(indices) for name, indices in members.items()}
