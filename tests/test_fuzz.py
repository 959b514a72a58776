"""What fuzzing has found stays mended; and a few mutants of the corpora, always the same. See `fuzz.run`."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from fuzz import targets
from fuzz.containers import join_parts, split_parts, with_png_checksums, with_safetensors_checksums
from fuzz.mutate import mutate
from fuzz.run import CORPUS, complaint

FILES = sorted(CORPUS.glob("*/*"))
MUTANTS = 20  # of each target


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "workplace", lambda: tmp_path)


def test_every_target_has_a_corpus():
    assert {path.parent.name for path in FILES} == set(targets.TARGETS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_corpus(path: Path):
    assert complaint(path.parent.name, path.read_bytes()) is None


@pytest.mark.parametrize("name", targets.TARGETS)
def test_mutants(name: str):
    draws, seeds = Random(0), [path.read_bytes() for path in FILES if path.parent.name == name]
    for _ in range(MUTANTS):
        data = mutate(name, draws.choice(seeds), draws)
        assert (problem := complaint(name, data)) is None, f"{problem}\n{data!r}"


def test_findings_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(targets, "SECONDS", -1)
    assert "seconds" in (complaint("text", b"1,2") or "")

    def broken(data: bytes) -> None:
        raise KeyError(data)

    monkeypatch.setitem(targets.TARGETS, "text", broken)
    assert "KeyError" in (complaint("text", b"") or "")


def test_repairs_leave_honest_files_alone():
    for path in FILES:
        data = path.read_bytes()
        if path.name.startswith("seed-") and path.suffix == ".png":
            assert with_png_checksums(data) == data
        if path.name.startswith("seed-") and path.parent.name == "run":
            assert join_parts(split_parts(data)) == data
    pair = (CORPUS / "safetensors" / "seed-pair").read_bytes()
    assert with_safetensors_checksums(pair)[-300:] == pair[-300:]
    assert with_safetensors_checksums(pair[:-4] + b"\0\0\0\1") != pair
