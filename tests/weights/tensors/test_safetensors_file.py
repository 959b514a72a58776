"""Safetensors: all that the header says is checked against the file before a tensor is read."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from refusals import assert_refused
from safetensors.torch import load_file, save_file
from small_networks import generator

from facegen.weights import header as headers
from facegen.weights.header import Header
from facegen.weights.native import load_networks, save_networks
from facegen.weights.read import read_state_dict
from facegen.weights.tensors import blocks, safetensors_file


def write(path: Path, header: object, data: bytes = bytes(16)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(shape: object = (4,), start: object = 0, end: object = 16, dtype: object = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_every_type_comes_as_it_was(tmp_path):
    tensors = {str(dtype): torch.arange(6).to(dtype).reshape(2, 3) for dtype in safetensors_file.DTYPES.values()}
    tensors |= {"scalar": torch.tensor(2.0), "empty": torch.empty(0, 4)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"key": "value"})
    with safetensors_file.open_safetensors(tmp_path / "a.safetensors") as file:
        assert file.metadata == {"key": "value"}
        found = {name: file.tensor(name) for name in file.entries}
    for name, tensor in load_file(tmp_path / "a.safetensors").items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].tolist() == tensor.tolist()


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(end=12)},
        {"a": entry(shape=[5])},
        {"a": entry(shape=[2**40, 2**40])},
        {"a": entry(shape=[0, 2**39, 2**39], end=0)},
        {"a": entry(shape=[-4])},
        {"a": entry(shape=[4.0])},
        {"a": entry(shape=4)},
        {"a": entry(start=-16, end=0)},
        {"a": entry(start=16, end=32)},
        {"a": entry(start=0.0)},
        {"a": entry(dtype="F4")},
        {"a": entry(dtype=["F32"])},
        {"a": {}},
        {"a": 5},
        {"a": entry(shape=[2], end=8)},  # bytes left over
        {"a": entry(), "b": entry()},  # the same bytes twice
        {"a": entry(), "b": entry(shape=[3], start=4)},
        {"a": entry(), "__metadata__": {"facegen": 5}},
        {"a": entry(), "__metadata__": "text"},
        [],
        b"{",
        b"[" * 1000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_header_that_does_not_fit_the_file_is_refused(header, tmp_path):
    path = write(tmp_path / "a.safetensors", header)
    assert_refused("damaged, or not a safetensors file", read_state_dict, path)
    path.write_bytes(struct.pack("<Q", 2**63) + bytes(20))
    assert_refused("damaged, or not a safetensors file", read_state_dict, path)


def test_bounds_of_tensors_and_networks(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_networks(path, {f"n{i}": generator() for i in range(3)}, {})
    assert list(load_networks(path)[0]) == ["n0", "n1", "n2"]
    monkeypatch.setattr(headers, "MAX_NETWORKS", 2)
    assert_refused("more than 2 networks", Header.read, path)
    monkeypatch.setattr(blocks, "MAX_TENSORS", 10)
    assert_refused("more than 10 tensors", Header.read, path)


def test_no_network_lies_within_another(tmp_path):
    networks = {name: {"kind": "", "kwargs": 0} for name in ("a", "a.b", "a.b.c")}
    metadata = {"facegen": json.dumps({"format_version": 1, "networks": networks})}
    save_file({"a.b.c.w": torch.zeros(4)}, tmp_path / "a.safetensors", metadata=metadata)
    assert_refused("one within another", load_networks, tmp_path / "a.safetensors")
    save_networks(tmp_path / "b.safetensors", {"a": generator(), "ab": generator()}, {})  # these do not
    assert list(load_networks(tmp_path / "b.safetensors")[0]) == ["a", "ab"]


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    network = generator()
    with torch.no_grad():
        network.synthesis.b4.const[0, 0, 0] = torch.nan
    save_networks(tmp_path / "a.safetensors", {"G_ema": network}, {})
    assert_refused("G_ema: synthesis.b4.const has infinite", load_networks, tmp_path / "a.safetensors")


@pytest.mark.parametrize("kimg", [10**90, float("inf"), float("nan"), -1, "many", [1]])
def test_a_number_of_pictures_that_cannot_be_is_none(kimg):
    assert Header({"kimg": kimg}).kimg is None
