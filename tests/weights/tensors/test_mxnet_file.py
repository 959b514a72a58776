"""Files of MXNet's parameters: read without MXNet, and refused in one line where they are damaged."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from mxnet_writer import array, params
from refusals import assert_refused

from facegen.errors import DamagedError
from facegen.weights.tensors import blocks
from facegen.weights.tensors.mxnet_file import is_mxnet_file, read_mxnet_file

ONE = torch.arange(6.0).reshape(2, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.params"


def test_every_array_comes_as_it_was(path: Path):
    written = {"arg:weight": ONE, "aux:mean": torch.tensor([0.5, -2.0], dtype=torch.float64), "half": ONE.half()}
    path.write_bytes(params(written))
    assert is_mxnet_file(path)
    found = read_mxnet_file(path)
    assert list(found) == ["weight", "mean", "half"]
    for mine, tensor in zip(found.values(), written.values(), strict=True):
        torch.testing.assert_close(mine, tensor, rtol=0, atol=0)


def test_a_file_that_ends_anywhere_is_refused(path: Path):
    whole = params({"arg:a": ONE, "aux:b": ONE})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert_refused("a.params", read_mxnet_file, path, error=DamagedError)
    path.write_bytes(whole + b"\0")
    assert_refused("a.params", read_mxnet_file, path, error=DamagedError)


@pytest.mark.parametrize(
    "changed",
    [
        {"magic": 0xF993FAC8},
        {"kind": 1},  # sparse
        {"dtype": 4},  # whole numbers
        {"shape": ()},
        {"shape": (2**31, 2**31)},  # no memory is taken for it
        {"shape": (-2, -3)},
        {"shape": (1,) * 9},
        {"shape": (7,)},
    ],
)
def test_arrays_that_are_none_are_refused(path: Path, changed: Mapping):
    path.write_bytes(params({"arg:a": ONE}, arrays=[array(ONE, **changed)]))
    assert_refused("a.params", read_mxnet_file, path, error=DamagedError)


def test_names_and_counts_that_cannot_be_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch):
    for names in ([b"arg:a", b"aux:a"], [b"a"], [b"\xff", b"b"], [b"x" * 2000, b"b"]):
        path.write_bytes(params({}, arrays=[array(ONE)] * 2, names=names))
        assert_refused("a.params", read_mxnet_file, path, error=DamagedError)
    path.write_bytes(params({})[:16] + struct.pack("<Q", 2**60))
    assert_refused("a.params", read_mxnet_file, path, error=DamagedError)
    path.write_bytes(params({"a": ONE, "b": ONE}))
    monkeypatch.setattr(blocks, "MAX_TENSORS", 1)
    assert_refused("a.params", read_mxnet_file, path, error=DamagedError)


def test_other_files_are_none_and_a_missing_one_is_said_to_be(path: Path):
    path.write_bytes(b"\x12\x01")
    assert not is_mxnet_file(path)
    assert_refused("b.params", read_mxnet_file, path.with_name("b.params"), error=FileNotFoundError)
