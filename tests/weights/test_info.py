import hashlib
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from refusals import assert_refused
from safetensors.torch import save_file
from small_networks import METADATA as COMMON
from small_networks import editor, encoder, generator

from facegen.cli import main as facegen
from facegen.weights import native
from facegen.weights.header import Header
from facegen.weights.info import info, named_globals

GOLDEN = Path(__file__).parents[1] / "golden"
METADATA = COMMON | {
    "class_names": ["0-10", "11-20", "21+"],
    "kimg": 1234.5,
    "metrics": {"fid": 21.5},
    "training_options": {"data": "faces64.zip", "resume": "ffhq.safetensors"},
}


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "weights.safetensors"
    native.save_networks(path, {"G_ema": generator()}, METADATA, dtype=torch.float16)
    return path


def run(*arguments) -> str:
    """Run the command; its output, which must be no traceback."""
    result = CliRunner().invoke(facegen, ["info", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


class Opens:
    """What a hostile pickle does."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


# --- latents ---


def test_latents(tmp_path):
    path = tmp_path / "projected_w.npz"
    np.savez(path, w=np.zeros([3, 10, 8], np.float32), seeds=[1, 2, 3])
    assert "3 of 10x8 (num_ws x w_dim), float32" in run(path)
    assert info(path)["latents"] == {"shape": [3, 10, 8], "dtype": "float32"}
    np.save(tmp_path / "w.npy", np.zeros([10, 8]))
    assert "10x8" in run(tmp_path / "w.npy")
    np.savez(path, w=np.array([print], object))
    assert_refused("contains no latents", info, path)


# --- facegen's own --------------------------------------------------------------------------------------------------


def test_own_file(weights):
    facts = info(weights)
    assert facts["format"] == "facegen safetensors, version 2, checksums right"
    assert facts["refused"] is None
    assert facts["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert facts["bytes"] == weights.stat().st_size
    assert {key: facts[key] for key in METADATA} == METADATA
    G = generator()
    entry = facts["networks"]["G_ema"]
    assert entry["class"] == "Generator"
    assert entry["kwargs"] == G.init_kwargs
    assert entry["parameters"] == sum(parameter.numel() for parameter in G.parameters())
    assert entry["tensors"] == len(G.state_dict())
    assert entry["dtype"] == "float16"
    assert entry["sha256"] == Header.read(weights)["networks"]["G_ema"]["sha256"]
    json.dumps(facts, allow_nan=False)


def test_text(weights):
    text = run(weights)
    for words in (
        "facegen safetensors, version 2, checksums right",
        "Generator, 8x8 RGB, z 8, w 8, 3 classes",
        "float16",
        "0-10, 11-20, 21+",
        "1,234.5 thousand",
        "faces64.zip",
        "ffhq.safetensors",
        "fid 21.5",
        "for research only",
    ):
        assert words in text
    assert json.loads(run(weights, "--json")) == info(weights)


def test_layers(weights):
    rows = info(weights, layers=True)["layers"]
    assert {row["name"] for row in rows} == set(generator().state_dict())
    row = next(row for row in rows if row["name"] == "synthesis.b8.conv0.weight")
    stored = native.read_tensors(weights, Header.read(weights))["G_ema"]["synthesis.b8.conv0.weight"].double()
    expected = {"network": "G_ema", "shape": list(stored.shape), "dtype": "float16", "parameters": stored.numel()}
    assert expected.items() <= row.items()
    assert row["mean"] == pytest.approx(float(stored.mean()))
    assert row["std"] == pytest.approx(float(stored.std(correction=0)))
    lines = run(weights, "--layers").splitlines()
    table = lines[lines.index("") + 1 :]
    assert len(table) == len(rows) + 1
    assert len({line.find("float16") for line in table[1:]}) == 1  # columns stand under each other


def test_file_without_checksums(tmp_path):
    path = tmp_path / "old.safetensors"
    header = {"format_version": 1, "networks": {"G_ema": {"kind": "generator", "kwargs": generator().init_kwargs}}}
    tensors = {f"G_ema.{name}": tensor for name, tensor in generator().state_dict().items()}
    save_file(tensors, path, metadata={native.HEADER_KEY: json.dumps(header)})
    assert info(path)["format"] == "facegen safetensors, version 1, without checksums"
    assert "not stated" in run(path)


def test_run_folder_and_encoder(tmp_path):
    for kimg in (4, 12):
        native.save_networks(tmp_path / f"network-snapshot-{kimg:06d}.safetensors", {"G_ema": generator()}, {})
    assert info(tmp_path)["file"].endswith("network-snapshot-000012.safetensors")
    path = tmp_path / "e.safetensors"
    native.save_networks(path, {"encoder": encoder()}, {})
    assert "Encoder, 64x64, z 4, " in run(path)


EDITED = {"val_age_error": 4.214, "val_identity": 0.6123, "val_sex_kept": 0.969}


def test_editor(tmp_path):
    told = {**METADATA, **EDITED, "trained_for": {"generator": "00003-faces/g.safetensors", "sha256": "0" * 64}}
    native.save_networks(tmp_path / "editor.safetensors", {"editor": editor()}, told, dtype=torch.float16)
    text = run(tmp_path)  # a run folder
    for words in (
        "Editor, faces of any size from 5 to 80 years, ",
        "float16",
        "1,234.5 thousand",
        "00003-faces/g.safetensors",
        "age error 4.21 years, identity 0.612, sex kept 97%",
        "for research only",
    ):
        assert words in text
    assert json.loads(run(tmp_path, "--json"))["val_identity"] == 0.6123


@pytest.mark.parametrize("value", [None, "x", [1], True, {"generator": [7]}], ids=str)
def test_an_editor_that_says_odd_things_of_itself(tmp_path, value):
    path = tmp_path / "editor.safetensors"
    odd = dict.fromkeys([*EDITED, "trained_for", "training_options", "kimg", "license"], value)
    native.save_networks(path, {"editor": editor()}, odd)
    text = run(path)
    assert "Editor, faces of any size from 5 to 80 years" in text
    assert "age error" not in text


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("widths", [8] * 9, "1 to 6 widths"),
        ("widths", [8.5, 2**40], "1 to 6 widths"),
        ("widths", "wide", "do not fit"),
        ("inner_size", 31, "cannot halve"),
        ("inner_size", 2**15, "cannot halve"),
        ("ages", [80, 5], "the youngest and the oldest"),
        ("ages", [5, float("nan")], "the youngest and the oldest"),
        ("ages", None, "do not fit"),
    ],
)
def test_an_editor_that_cannot_be(tmp_path, name, value, message):
    path, network = tmp_path / "editor.safetensors", editor()
    network.init_kwargs = {**network.init_kwargs, name: value}
    native.save_networks(path, {"editor": network}, {})
    output = run(path)
    assert output.startswith(f"Error: {path}: ")
    assert message in output
    assert output.count("\n") == 1


def test_damaged(weights):
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert run(weights).startswith(f"Error: {weights}: damaged: the weights of G_ema do not match their checksum")


@pytest.mark.parametrize("value", [None, 7, "x", [1], {"a": [1]}, True], ids=str)
def test_headers_of_any_kind_are_printed(tmp_path, value):
    path = tmp_path / "odd.safetensors"
    odd = dict.fromkeys([*METADATA, "origin", "globals", "file", "refused", "layers"], value)
    odd["origin"] = {"sources": value, "assumed": value, "training_set_kwargs": value} if value != 7 else 7
    native.save_networks(path, {"G_ema": generator()}, odd)
    assert "Generator, 8x8 RGB" in run(path)


def test_text_that_would_change_the_terminal(tmp_path):
    path = tmp_path / "odd.safetensors"
    native.save_networks(path, {"G_ema": generator()}, {"license": "\x1b[2Jgone\nfile  other"})
    assert r"\x1b[2Jgone\nfile  other" in run(path)


# --- Others' --------------------------------------------------------------------------------------------------------


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    tensors = {"a.weight": torch.ones(2, 3, dtype=torch.bfloat16), "b": torch.arange(3), "c": torch.zeros(0)}
    save_file(tensors, path, metadata={"format": "pt"})
    facts = info(path, layers=True)
    assert facts["format"] == "safetensors"
    assert "not one of facegen's files" in facts["refused"]
    assert facts["networks"][""]["parameters"] == 9
    assert facts["metadata"] == {"format": "pt"}
    types = {row["name"]: row["dtype"] for row in facts["layers"]}
    assert types == {"a.weight": "bfloat16", "b": "int64", "c": "float32"}
    json.dumps(facts, allow_nan=False)
    text = run(path, "--layers")
    assert "not one of facegen's files" in text
    assert "2x3" in text


def test_network_pickle():
    facts = info(GOLDEN / "legacy_tiny.pkl", layers=True)
    assert facts["format"] == "pickle (stylegan2-ada-pytorch)"
    assert facts["networks"]["G_ema"]["kwargs"]["c_dim"] == 10
    assert len(facts["layers"]) == sum(entry["tensors"] for entry in facts["networks"].values())
    text = run(GOLDEN / "legacy_tiny.pkl")
    assert "Generator, 32x32 RGB, z 64, w 64, 10 classes" in text
    assert "text that was not run" in text


@pytest.mark.parametrize("name", ["legacy_evil", "legacy_evil_nested"])
def test_refused_pickle(name):
    facts = info(GOLDEN / f"{name}.pkl")
    assert "posix.system" in facts["refused"]
    assert "posix.system" in facts["globals"]
    assert facts["networks"] == {}
    text = run(GOLDEN / f"{name}.pkl")
    assert "refused" in text
    assert "posix.system" in text


@pytest.mark.parametrize("suffix", ["pkl", "pt"])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_nothing_is_run(tmp_path, protocol, suffix):
    path, marker = tmp_path / f"a.{suffix}", tmp_path / "opened"
    path.write_bytes(pickle.dumps({"G_ema": Opens(marker)}, protocol=protocol))
    facts = info(path)
    assert any(name.endswith(".open") for name in facts["globals"])
    assert facts["refused"]
    torch.save({"G_ema": Opens(marker)}, path)
    assert info(path)["refused"]
    assert any(name.endswith(".open") for name in info(path)["globals"]) or suffix == "pkl"
    assert not marker.exists()


def test_state_dict(tmp_path):
    path = tmp_path / "g.pt"
    torch.save(generator().state_dict(), path)
    facts = info(path)
    assert facts["format"] == "PyTorch file (state dict)"
    assert facts["networks"]["G_ema"]["class"] == "Generator"
    assert "assumed" in run(path)


def test_state_dict_of_something_else(tmp_path):
    path = tmp_path / "other.pt"
    content = {"epoch": 3, "model": {"conv.weight": torch.ones(4, 3)}, "optimizer": {"state": {0: torch.ones(2)}}}
    torch.save(content, path)
    facts = info(path, layers=True)
    assert facts["refused"]
    sizes = {row["name"]: row["parameters"] for row in facts["layers"]}
    assert sizes == {"model.conv.weight": 12, "optimizer.state.0": 2}


def test_a_tensor_that_repeats_one_number_for_ever(tmp_path):
    path = tmp_path / "bomb.pt"
    torch.save({"a": torch.zeros(1).expand(10**12)}, path)
    facts = info(path, layers=True)
    assert facts["refused"]
    assert facts["layers"] == []


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"<html>not found</html>", b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff" * 20]
)
def test_garbage_is_one_clear_line(tmp_path, content):
    path = tmp_path / "garbage.weights"
    path.write_bytes(content)
    output = run(path)
    assert output.startswith(f"Error: {path}: not a weights file")
    assert output.count("\n") == 1


@pytest.mark.parametrize("content", [b"\x80", b"\x80\x05garbage", b"PK\x03\x04 cut off", b"12345678{not json"])
def test_nearly_garbage(tmp_path, content):
    for suffix in ("pkl", "pt", "safetensors", "bin"):
        path = tmp_path / f"garbage.{suffix}"
        path.write_bytes(content)
        output = run(path)
        assert "refused" in output or output.startswith(f"Error: {path}: ")


def test_a_zip_of_pictures(tmp_path):
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dataset.json", "{}")
    assert run(path) == f"Error: {path}: a zip file without weights in it\n"


def test_nothing_there(tmp_path):
    assert run(tmp_path / "nothing.pkl").startswith("Error: ")
    with pytest.raises(FileNotFoundError):
        info(tmp_path)
    assert_refused("not a weights file", info, __file__)


# --- The names in a pickle ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(2, 6))
def test_named_globals(protocol):
    data = pickle.dumps([Path("a"), {"x": {1}}, Path("b"), hashlib.sha256], protocol=protocol)
    names = named_globals(data)
    assert any(name.startswith("pathlib") and name.endswith("Path") for name in names)
    assert any(name.endswith("sha256") for name in names)
    assert len(names) == len(set(names))


def test_named_globals_of_damaged_pickles():
    data = (GOLDEN / "legacy_evil.pkl").read_bytes()
    for end in (0, 1, 2, 10, 100, 1000):
        assert isinstance(named_globals(data[:end]), list)
    assert named_globals(b"\x80\x04\x8d" + b"\xff" * 8) == []


def test_named_globals_of_long_texts_put_together_in_many_ways():
    texts = b"".join(b"X" + struct.pack("<I", 500_000) + bytes([65 + i]) * 500_000 + b"\x94" for i in range(20))
    pairs = b"".join(b"h" + bytes([i]) + b"h" + bytes([j]) + b"\x93" for i in range(20) for j in range(20))
    begin = time.process_time()
    names = named_globals(b"\x80\x04" + texts + pairs * 50 + b".")
    assert time.process_time() - begin < 10  # 0.2 s; whole, they would be a megabyte for each of 20,000
    assert len(names) == 400
    assert max(map(len, names)) < 100
