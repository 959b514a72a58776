from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from refusals import assert_refused

from facegen.data import selection
from facegen.data.crops import Cropped
from facegen.data.options import Choice, parse_split
from facegen.data.selection import Selection, assign_splits, draw, offer_order
from facegen.data.sources import Record, Skipped


def cropped(name: str, content: str | None = None, dhash: int | None = None) -> Cropped:
    sha256 = hashlib.sha256((content or name).encode()).hexdigest()
    return Cropped(name, sha256, dhash, (), b"png")


def take(records, labels, choice, outcomes=None):
    """What `prepare` does with a selection: (names taken in order, reason by name of the rest)."""
    chosen, kept, dropped = Selection(choice), [], {}
    for i in offer_order(records, choice):
        record = records[i]
        outcome = (outcomes or {}).get(record.name) or cropped(record.name)
        refused = chosen.offer(record, labels[i], outcome)
        if refused is None:
            kept.append(record.name)
        else:
            dropped[record.name] = refused
    return kept, dropped


def people(count: int, faces: int) -> list[Record]:
    """So many persons with so many faces each, ages in turn."""
    return [Record(f"{p}/{f}.jpg", 20 + f, 20 + f, person=f"p{p}") for p in range(count) for f in range(faces)]


def test_all_are_taken_in_order_unless_something_is_asked_for():
    records = people(3, 2)
    assert take(records, [0] * 6, Choice()) == ([record.name for record in records], {})


def test_caps_hold_and_say_what_they_dropped():
    records = people(10, 4)
    labels = [record.low - 20 for record in records]
    kept, dropped = take(records, labels, Choice(max_per_group=5, per_person=2))
    by_name = {record.name: (record.person, label) for record, label in zip(records, labels, strict=True)}
    persons = Counter(by_name[name][0] for name in kept)
    groups = Counter(by_name[name][1] for name in kept)
    assert max(persons.values()) == 2
    assert max(groups.values()) <= 5
    assert len(kept) == min(sum(groups.values()), 20)
    assert {refused.reason for refused in dropped.values()} == {"over --max-per-group", "over --per-person"}
    assert len(kept) + len(dropped) == len(records)


def test_the_draw_depends_on_the_seed_alone():
    records = people(20, 1)
    labels = [0] * 20
    first, second = (set(take(records, labels, Choice(max_per_group=8, seed=seed))[0]) for seed in (0, 1))
    assert first == set(take(records[::-1], labels, Choice(max_per_group=8))[0])
    assert first != second
    assert len(first) == len(second) == 8


def test_a_broken_picture_leaves_its_place_to_another():
    records = people(6, 1)
    choice = Choice(max_per_group=3)
    drawn = [records[i].name for i in offer_order(records, choice)]
    broken = {drawn[0]: Skipped(drawn[0], "unreadable picture"), drawn[2]: Skipped(drawn[2], "no face")}
    kept, dropped = take(records, [0] * 6, choice, broken)
    assert kept == [drawn[1], drawn[3], drawn[4]]
    assert {name: refused.reason for name, refused in dropped.items()} == {
        drawn[0]: "unreadable picture", drawn[2]: "no face", drawn[5]: "over --max-per-group",
    }  # fmt: skip


def test_a_refusal_needs_no_outcome():
    chosen = Selection(Choice(max_per_group=1))
    first, second = people(2, 1)
    assert chosen.refuses(first, 3) is None
    assert chosen.offer(first, 3, cropped(first.name)) is None
    assert chosen.refuses(second, 3).reason == "over --max-per-group"
    assert chosen.refuses(second, 4) is None
    # Even where an outcome is known, the answer is the same: a resumed run reports what an uninterrupted one does.
    assert chosen.offer(second, 3, Skipped(second.name, "no face")).reason == "over --max-per-group"


def test_same_bytes_are_taken_once_and_another_age_is_told():
    a, b, c = Record("a", 30, 30), Record("b", 30, 30), Record("c", 41, 41)
    outcomes = {name: cropped(name, "same") for name in "abc"}
    kept, dropped = take([a, b, c], [2, 2, 4], Choice(), outcomes)
    assert kept == ["a"]
    assert dropped["b"] == Skipped("b", "duplicate", "the same bytes as a")
    assert dropped["c"] == Skipped("c", "duplicate", "the same bytes as a (41 years; that one 30)")


def test_near_duplicates_by_hash():
    hashes = {"a": 0b1111, "b": 0b1110, "c": 0b11110000 << 20, "d": None, "e": None}
    records = [Record(name, 30, 30) for name in hashes]
    outcomes = {name: cropped(name, dhash=value) for name, value in hashes.items()}
    assert take(records, [0] * 5, Choice(), outcomes)[0] == list("abcde")
    kept, dropped = take(records, [0] * 5, Choice(near_duplicates=1), outcomes)
    assert kept == list("acde")  # flat pictures have no hash and are no duplicates
    assert dropped["b"] == Skipped("b", "near duplicate", "differs from a in 1 of 64 bits")
    assert take(records, [0] * 5, Choice(near_duplicates=0), outcomes)[0] == list("abcde")


def test_bits_are_counted_alike_by_old_and_new_numpy(monkeypatch):
    values = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64)
    expected = [bin(value).count("1") for value in values.tolist()]
    assert selection._bit_count(values).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert selection._bit_count(values).tolist() == expected


def test_more_hashes_than_the_first_room():
    values = np.random.default_rng(0).integers(0, 2**64, 3000, dtype=np.uint64).tolist()
    records = [Record(str(i), 30, 30) for i in range(3000)]
    outcomes = {str(i): cropped(str(i), dhash=value) for i, value in enumerate(values)}
    outcomes["2999"] = cropped("2999", dhash=values[1500] ^ 1)
    kept, dropped = take(records, [0] * 3000, Choice(near_duplicates=2), outcomes)
    assert len(kept) == 2999
    assert dropped["2999"].detail == "differs from 1500 in 1 of 64 bits"


def test_splits_keep_persons_together_and_shares():
    rng = np.random.default_rng(0)
    records = [Record(f"{i}.jpg", 30, 30, person=f"p{rng.integers(60)}") for i in range(1000)]
    choice = Choice(split=(("train", 0.8), ("val", 0.15), ("test", 0.05)))
    splits = assign_splits(records, choice)
    assert sorted(i for members in splits.values() for i in members) == list(range(1000))
    persons = [{records[i].person for i in members} for members in splits.values()]
    assert sum(map(len, persons)) == len(set.union(*persons))
    # A person has 17 faces on average: shares are met to within about one person.
    for (_, share), members in zip(choice.split, splits.values(), strict=True):
        assert abs(len(members) / 1000 - share) < 0.03
    assert splits == assign_splits(records, choice)
    assert splits != assign_splits(records, Choice(split=choice.split, seed=1))


def test_splits_without_persons_are_exact():
    splits = assign_splits([Record(f"{i}.jpg", 30, 30) for i in range(100)], Choice(split=parse_split("a=0.9,b=0.1")))
    assert {name: len(members) for name, members in splits.items()} == {"a": 90, "b": 10}


def test_a_person_called_like_a_file_is_not_that_file():
    records = [Record("a", 30, 30), Record("b", 30, 30, person="a")]
    splits = assign_splits(records, Choice(split=(("one", 0.5), ("two", 0.5))))
    assert sorted(map(len, splits.values())) == [1, 1]


def test_draw_is_the_same_on_every_machine():
    assert draw(0, "a").hex() == "826ec2ade9867d14"
    assert draw(0, "a") != draw(1, "a")
    assert draw(0, "\udcff") != draw(0, "a")  # a name that is no text


def test_split_is_read():
    assert parse_split("train=0.9,val=0.1") == (("train", 0.9), ("val", 0.1))
    assert parse_split("a=.5, b=.25,c=.25") == (("a", 0.5), ("b", 0.25), ("c", 0.25))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train", "'train' is not a name and a share"),
        ("train=much", "'train=much' is not a name and a share"),
        ("train=0.9", "sum to 1"),
        ("train=0.9,val=0.2", "sum to 1"),
        ("train=1.1,val=-0.1", "above 0"),
        ("train=0.5,train=0.5", "twice"),
        ("../x=0.5,val=0.5", "cannot be part of a file name"),
        ("=1", "cannot be part of a file name"),
        ("", "not a name and a share"),
        ("train=nan,val=0.5", "above 0"),
    ],
)
def test_splits_that_make_no_sense(text, words):
    assert_refused(words, parse_split, text)


@pytest.mark.parametrize(
    "wrong", [{"max_per_group": 0}, {"per_person": -1}, {"near_duplicates": 40}, {"near_duplicates": -1}]
)
def test_choices_that_make_no_sense(wrong):
    assert_refused("must be", Choice, **wrong)
