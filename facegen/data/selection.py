"""Which of the usable faces go into the archive, and into which split: caps, duplicates, persons."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facegen.data.crops import Cropped
from facegen.data.sources import Record, Skipped
from facegen.errors import FacegenError
from facegen.options import Options, option

DHASH_BITS = 64


def parse_split(text: str) -> tuple[tuple[str, float], ...]:
    """Read `train=0.9,val=0.1`. Raises FacegenError unless names differ and the shares sum to 1."""
    example = "write names and shares that sum to 1, as in train=0.9,val=0.1"
    split = []
    for part in text.split(","):
        name, _, share = part.partition("=")
        name = name.strip()
        try:
            split.append((name, float(share)))
        except ValueError:
            raise FacegenError(f"{part!r} is not a name and a share: {example}") from None
        if not name.replace("-", "").replace("_", "").isalnum():
            raise FacegenError(f"{name!r} cannot be part of a file name: {example}")
    if len({name for name, _ in split}) < len(split):
        raise FacegenError(f"a name stands there twice: {example}")
    if any(not 0 < share <= 1 for _, share in split) or abs(sum(share for _, share in split) - 1) > 1e-6:
        raise FacegenError(f"the shares of {text} must be above 0 and sum to 1: {example}")
    return tuple(split)


@dataclass(frozen=True)
class Choice(Options):
    """How many faces to take, and how to split them."""

    max_per_group: int | None = option(None, "At most so many faces of an age group, drawn by --seed.", min=1)
    per_person: int | None = option(
        None, "At most so many faces of a person, where the data set names persons, drawn by --seed.", min=1
    )
    near_duplicates: int | None = option(
        None,
        "Drop pictures that look like one taken: perceptual hashes differ in at most BITS of 64; try 3.",
        metavar="BITS",
        unset="only files with the same bytes",
        min=0,
        max=DHASH_BITS // 2 - 1,
    )
    split: tuple[tuple[str, float], ...] = option(
        (),
        "Write an archive for each, as train=0.9,val=0.1; a person is in one only.",
        metavar="SHARES",
        unset="one archive",
        parse=parse_split,
    )
    seed: int = option(0, "Seeds every draw.")

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield abs(self.seed) < 2**63, f"seed must have at most 18 digits, got {self.seed}"

    def order(self, records: Sequence[Record]) -> list[int]:
        """Return the indices of `records` in the order in which they are offered: drawn if a cap chooses among them."""
        indices = list(range(len(records)))
        if self.max_per_group is not None or self.per_person is not None:
            indices.sort(key=lambda i: draw(self.seed, records[i].name))
        return indices


def draw(seed: int, name: str) -> bytes:
    """Return a number for `name` that looks random: the same on every machine and whatever else is drawn."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=str(seed).encode()).digest()


class Selection:
    """Takes faces as they are offered, one after another, or says why not.

    Each decision depends only on what was taken before. So a record that `refuses` names need not even be decoded, and
    a run, a resumed run and the merge of shards come to the same faces.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self._per_group: Counter[int] = Counter()
        self._per_person: Counter[str] = Counter()
        self._by_bytes: dict[bytes, Record] = {}
        self._hashes = _HashList()

    def refuses(self, record: Record, label: int) -> Skipped | None:
        """Tell, before it is decoded, why a face will not be taken, however it looks."""
        limit = self.choice.max_per_group
        if limit is not None and self._per_group[label] >= limit:
            return Skipped(record.name, "over --max-per-group", f"{limit:,d} of its group were drawn before it")
        limit = self.choice.per_person
        if limit is not None and record.person is not None and self._per_person[record.person] >= limit:
            return Skipped(record.name, "over --per-person", f"{limit:,d} of {record.person!r} were drawn before it")
        return None

    def offer(self, record: Record, label: int, outcome: Cropped | Skipped) -> Skipped | None:
        """Take a face; or return why not."""
        refused = self.refuses(record, label)
        if refused is not None:
            return refused
        if isinstance(outcome, Skipped):
            return outcome
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


class Everything:
    """Takes all that can be used, as a shard does: what the choice drops from it, another shard may need."""

    def refuses(self, record: Record, label: int) -> None:
        """Refuse nothing."""

    def offer(self, record: Record, label: int, outcome: Cropped | Skipped) -> Skipped | None:
        """Take every face that there is."""
        return outcome if isinstance(outcome, Skipped) else None


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
