"""Files of torch.save: what torch would see is what comes, and nothing that claims more than the file has."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from refusals import assert_refused

from facegen.errors import FacegenError
from facegen.weights.read import read_state_dict, read_torch_file
from facegen.weights.tensors import blocks

DTYPES = [
    *("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"),
    *("complex64", "complex128"),
]
NEW_DTYPES = ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"]
FORMATS = pytest.mark.parametrize("zipped", [True, False])


def save(path: Path, content: object, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_same(found: object, expected: object) -> None:
    if isinstance(expected, torch.Tensor):
        assert (found.dtype, found.shape, found.stride()) == (expected.dtype, expected.shape, expected.stride())
        assert found.tolist() == expected.tolist()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


@FORMATS
def test_everything_honest_comes_as_it_was(zipped, tmp_path):
    base = torch.randn(4, 5, 6)
    parameter = torch.nn.Parameter(torch.randn(3))
    optimizer = torch.optim.Adam([parameter], lr=1e-3)
    parameter.sum().backward()
    optimizer.step()
    content = {
        **{name: torch.arange(5).to(getattr(torch, name)) for name in DTYPES + NEW_DTYPES * zipped},
        "views": [base, base.transpose(0, 2), base[1:, 2], base.expand(1, 4, 5, 6), torch.zeros(1).expand(3)],
        "channels last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "scalar and empty": (torch.tensor(3.0), torch.empty(0, 7)),
        "parameter": parameter,
        "values": [None, True, 2.5, -5, 2**62, "hä", (1,), {1, 2, "a"}, torch.Size([1, 2])],
        "ordered": collections.OrderedDict(a=1, b=torch.ones(2)),
        "counter": collections.Counter([4, 4, 5]),
        "optimizer": optimizer.state_dict(),
        7: "a number as a key",
    }
    found = read_torch_file(save(tmp_path / "a.pt", content, zipped))
    assert_same(found, torch.load(tmp_path / "a.pt", weights_only=True))
    views = [view.untyped_storage().data_ptr() for view in found["views"][:4]]
    assert len(set(views)) == 1  # memory is shared where it was


@FORMATS
def test_what_comes_does_not_depend_on_the_defaults_of_torch(zipped, tmp_path):
    path = save(tmp_path / "a.pt", {"a": torch.ones(3), "b": torch.empty(0)}, zipped)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = read_torch_file(path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert [(x.dtype, x.device.type) for x in found.values()] == [(torch.float32, "cpu")] * 2


def test_a_dictionary_of_python_2(tmp_path):
    body = b"\x80\x02ccollections\nOrderedDict\n]](X\1\0\0\0aK\1ea\x85R."
    assert read_torch_file(zipped_pickle(tmp_path / "a.pt", body)) == {"a": 1}


def test_an_options_namespace_is_a_dictionary(tmp_path):
    assert read_torch_file(save(tmp_path / "a.pt", argparse.Namespace(size=16))) == {"size": 16}


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@FORMATS
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lambda: Evil(), "print"),
        (lambda: bytearray(b"abc"), "bytearray"),
        (lambda: torch.eye(3).to_sparse(), "_rebuild_sparse_tensor"),
        (lambda: torch.empty(2**40, device="meta"), "meta"),
        (lambda: torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (lambda: torch.ones(2, dtype=torch.complex64).conj(), "conjugate"),
        (lambda: collections.defaultdict(list), "defaultdict"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_no_weights_need_is_refused_by_its_name(content, named, zipped, tmp_path):
    path = save(tmp_path / "a.pt", {"a": content()}, zipped)
    assert "a.pt: " in assert_refused(named, read_torch_file, path)


def zipped_pickle(path: Path, body: bytes, others: dict[str, bytes] | None = None, **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in {"a/data.pkl": body, "a/version": b"3", **(others or {})}.items():
            archive.writestr(name, content)
    return path


def tensor(
    size: str = "K\4\x85", stride: str = "K\1\x85", offset: str = "K\0", count: str = "K\4", key: str = "0"
) -> bytes:
    """A pickle with one tensor, of a storage of four float32 by default; parts of it as instructions."""
    text = (
        "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\n"
        f"X\1\0\0\0{key}X\3\0\0\0cpu{count}tQ{offset}{size}{stride}\x89ccollections\nOrderedDict\n)RtR"
    )
    return b"\x80\x02" + text.encode("latin1") + b"."


def test_a_pickle_by_hand_is_read(tmp_path):
    path = zipped_pickle(tmp_path / "a.pt", tensor(), {"a/data/0": struct.pack("<4f", 1, 2, 3, 4)})
    assert read_torch_file(path).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "K\5\x85"},
        {"offset": "K\1"},
        {"offset": "J\xff\xff\xff\xff"},
        {"stride": "K\2\x85"},
        {"stride": "J\xff\xff\xff\xff\x85"},
        {"stride": "K\1K\1\x86"},
        {"count": "K\5"},
        {"count": "J\xff\xff\xff\xff"},
        {"key": "1"},
        {"size": "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t"},
        {"size": "\x8a\6\0\0\0\0\0\1K\0\x86", "stride": "K\1K\1\x86"},
        {"size": "X\1\0\0\0a\x85"},
    ],
)
def test_no_tensor_looks_beyond_its_storage(changes, tmp_path):
    path = zipped_pickle(tmp_path / "a.pt", tensor(**changes), {"a/data/0": bytes(16)})
    assert_refused("a.pt: ", read_torch_file, path)


@FORMATS
def test_one_number_repeated_is_bounded_by_the_file(zipped, tmp_path):
    for content in (torch.zeros(1).expand(2**14, 2**14), [torch.zeros(1000).expand(4, 1000)] * 100):
        path = save(
            tmp_path / "a.pt", content if isinstance(content, torch.Tensor) else [x[:] for x in content], zipped
        )
        assert_refused("more than the file holds", read_torch_file, path)


def test_compressed_overlapping_and_repeated_files_inside_are_refused(tmp_path):
    data = {"a/data/0": struct.pack("<4f", 1, 2, 3, 4)}
    compressed = zipped_pickle(tmp_path / "a.pt", tensor(), data, compression=zipfile.ZIP_DEFLATED)
    assert_refused("compressed inside", read_torch_file, compressed)
    # A directory that only other readers find, behind so many zeros that Python does not look: no zip at all.
    hidden = tmp_path / "hidden.pt"
    hidden.write_bytes(compressed.read_bytes() + bytes(66_000))
    assert_refused("hidden.pt: ", read_torch_file, hidden)
    # Two entries of the directory for the same bytes.
    content = zipped_pickle(tmp_path / "b.pt", tensor(), {**data, "a/data/1": b"x"}).read_bytes()
    first, second = (content.rindex(name) - 46 for name in (b"a/data/0", b"a/data/1"))
    changed = bytearray(content)
    changed[second + 16 : second + 28] = content[first + 16 : first + 28]  # checksum and sizes
    changed[second + 42 : second + 46] = content[first + 42 : first + 46]  # place
    (tmp_path / "b.pt").write_bytes(changed)
    assert_refused("overlap", read_torch_file, tmp_path / "b.pt")
    twice = zipped_pickle(tmp_path / "c.pt", tensor(), data)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("a/data/0", bytes(16))
    assert_refused("two files of one name", read_torch_file, tmp_path / "c.pt")


def test_the_other_order_of_bytes_is_refused(tmp_path):
    path = zipped_pickle(tmp_path / "a.pt", tensor(), {"a/data/0": bytes(16), "a/byteorder": b"big"})
    assert_refused("byte order", read_torch_file, path)


def test_attributes_do_not_take_the_place_of_methods(tmp_path):
    body = b"\x80\x02ccollections\nOrderedDict\n)R}X\3\0\0\0getK\5sb."
    assert read_torch_file(zipped_pickle(tmp_path / "a.pt", body)) == {}


@FORMATS
def test_truth_values_are_zero_or_one(zipped, tmp_path):
    path = save(tmp_path / "a.pt", torch.ones(64, dtype=torch.bool), zipped)
    path.write_bytes(path.read_bytes().replace(b"\1" * 64, b"\2" * 64))
    assert read_torch_file(path).view(torch.uint8).tolist() == [1] * 64


def test_bounds_of_tensors(tmp_path, monkeypatch):
    one = torch.zeros(1)
    many = save(tmp_path / "a.pt", [one.clone() for _ in range(20)])
    views = save(tmp_path / "b.pt", [one[:] for _ in range(20)])
    monkeypatch.setattr(blocks, "MAX_TENSORS", 10)
    assert_refused("more than 10 files", read_torch_file, many)
    assert_refused("more than 10 tensors", read_torch_file, views)


@FORMATS
def test_a_file_cut_or_changed_anywhere_is_read_or_refused(zipped, tmp_path):
    path = save(tmp_path / "a.pt", {"a": torch.arange(3), "b": [torch.ones(2, 2), "text"]}, zipped)
    content = path.read_bytes()
    generator, messages = torch.Generator().manual_seed(0), []
    for place in range(0, len(content), 7):
        value = int(torch.randint(256, (1,), generator=generator))
        for damaged in (content[:place], content[:place] + bytes([value]) + content[place + 1 :]):
            path.write_bytes(damaged)
            try:
                read_torch_file(path)
            except FacegenError as error:
                messages.append(str(error))
    assert len(messages) > 100
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_pipe_or_folder_as_weights_does_not_hang(suffix, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes")
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    assert_refused("pipe", read_state_dict, tmp_path / f"pipe.{suffix}")
    assert_refused("folder", read_state_dict, tmp_path / f"folder.{suffix}")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    for value in (float("nan"), float("inf"), -float("inf")):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            path = save(tmp_path / "a.pt", {"a": torch.ones(3), "b": torch.tensor([1, value], dtype=dtype)})
            assert_refused("b has infinite", read_state_dict, path)
    path = save(
        tmp_path / "a.pt", {"a": torch.empty(0), "b": torch.ones(2).to(torch.float8_e4m3fn), "c": torch.ones(1)}
    )
    assert list(read_state_dict(path)) == ["a", "b", "c"]


def test_pickles_of_other_programs_say_that_they_are_none_of_torch(tmp_path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"a": 1}, 2))
    assert_refused("not a PyTorch file", read_torch_file, tmp_path / "a.pt")
