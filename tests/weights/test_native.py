import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import assert_refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_networks import METADATA, assert_same_weights, discriminator, encoder, generator

from facegen.errors import FacegenError
from facegen.networks.encoder import Encoder
from facegen.weights import native
from facegen.weights.header import Header, checksum
from facegen.weights.load import load_encoder, load_generator
from facegen.weights.locate import PRETRAINED
from facegen.weights.native import load_networks, save_networks


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file with two generators and a discriminator."""
    path = tmp_path / "weights.safetensors"
    networks = {"G": generator(0), "D": discriminator(), "G_ema": generator(2)}
    save_networks(path, networks, METADATA)
    return path


def with_header(path: Path, header: dict | str) -> Path:
    """Write the tensors of a weight file again, under another header; one that is a dict gets its right checksum."""
    text = header if isinstance(header, str) else json.dumps({**header, "sha256": checksum(header)})
    changed = path.with_name("changed.safetensors")
    save_file(load_file(path), changed, metadata={native.HEADER_KEY: text})
    return changed


def with_arguments(path: Path, change: dict) -> Path:
    """Write a weight file again, with other constructor arguments of G_ema."""
    header = Header.read(path)
    header["networks"]["G_ema"]["kwargs"].update(change)
    return with_header(path, header)


def as_version_1(path: Path) -> None:
    """Write a file again as facegen did before it had checksums."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[native.HEADER_KEY])
    header.pop("sha256")
    for entry in header["networks"].values():
        entry.pop("sha256")
    text = json.dumps({**header, "format_version": 1})
    save_file(load_file(path), path, metadata={native.HEADER_KEY: text})


def fails(path: Path, words: str, call=load_networks) -> None:
    """Loading must end in one line that names the file."""
    assert str(path) in assert_refused(words, call, path)


# --- Round trip -----------------------------------------------------------------------------------------------------


def test_float32_comes_back_exactly(weights):
    networks, header = load_networks(weights)
    assert list(networks) == ["G", "D", "G_ema"]
    for name, original in {"G": generator(0), "D": discriminator(), "G_ema": generator(2)}.items():
        assert type(networks[name]) is type(original)
        assert_same_weights(networks[name], original)
        assert networks[name].init_kwargs == original.init_kwargs
    assert {key: header[key] for key in METADATA} == METADATA


def test_loaded_networks_are_ready_for_use(weights):
    networks, _ = load_networks(weights)
    for network in networks.values():
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
    z, c = torch.randn(2, 8), torch.eye(3)[:2]
    expected = generator(2)(z, c, truncation_psi=0.5, noise_mode="const")
    actual = networks["G_ema"](z, c, truncation_psi=0.5, noise_mode="const")
    assert torch.equal(actual, expected)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(networks["D"](images, c), discriminator()(images, c))


def test_float16_halves_the_file_and_stays_close(tmp_path, weights):
    G = generator()
    single, half = tmp_path / "single.safetensors", tmp_path / "half.safetensors"
    save_networks(single, {"G_ema": G}, METADATA)
    save_networks(half, {"G_ema": G}, METADATA, dtype=torch.float16)
    assert all(tensor.dtype == torch.float16 for tensor in load_file(half).values())
    tensors = sum(tensor.numel() for tensor in G.state_dict().values())
    assert single.stat().st_size - half.stat().st_size == pytest.approx(2 * tensors, rel=0.02)
    loaded, header = load_generator(half)
    assert header["kimg"] == METADATA["kimg"]
    for key, tensor in G.state_dict().items():
        assert loaded.state_dict()[key].dtype == torch.float32
        # Half of float16's unit in the last place is 2^-11 of the number; mapping weights are as large as 300.
        torch.testing.assert_close(loaded.state_dict()[key], tensor, rtol=2**-11, atol=1e-7)
    z, c = torch.randn(4, 8), torch.eye(3)[[0, 1, 2, 0]]
    expected, actual = G(z, c, noise_mode="const"), loaded(z, c, noise_mode="const")
    # Pictures of about -1..1: what is left is far below a step of 8 bits, 2 / 255.
    torch.testing.assert_close(actual, expected, atol=2 / 255, rtol=0)


def test_saving_leaves_the_network_as_it_was(tmp_path):
    G = generator().train().requires_grad_(True)
    before = {key: tensor.clone() for key, tensor in G.state_dict().items()}
    save_networks(tmp_path / "a.safetensors", {"G_ema": G}, {}, dtype=torch.float16)
    assert G.training
    assert all(parameter.requires_grad for parameter in G.parameters())
    for key, tensor in G.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[key])


def test_encoder(tmp_path):
    encoder = Encoder(z_dim=6, img_resolution=32, input_size=75, blocks=(1, 1, 0)).eval()
    save_networks(tmp_path / "encoder.safetensors", {"encoder": encoder}, {"generator": "sha"})
    loaded, header = load_encoder(tmp_path / "encoder.safetensors")
    assert header["generator"] == "sha"
    assert loaded.init_kwargs == encoder.init_kwargs
    assert_same_weights(loaded, encoder)
    # It counts its batches in int64, which no storage type may touch.
    save_networks(tmp_path / "half.safetensors", {"encoder": encoder}, {}, dtype=torch.float16)
    counters = {key: t for key, t in load_file(tmp_path / "half.safetensors").items() if "num_batches" in key}
    assert {tensor.dtype for tensor in counters.values()} == {torch.int64}


def test_only_the_named_networks(weights):
    networks, _ = load_networks(weights, ["G_ema"])
    assert list(networks) == ["G_ema"]
    # "G." must not take "G_ema." along.
    assert torch.equal(load_networks(weights, ["G"])[0]["G"].synthesis.b4.const, generator(0).synthesis.b4.const)


def test_metadata_without_reading_the_weights(weights):
    header = Header.read(weights)
    assert header["groups"] == METADATA["groups"]
    assert header["format_version"] == native.FORMAT_VERSION
    assert {name: entry["kind"] for name, entry in header["networks"].items()} == {
        "G": "generator",
        "D": "discriminator",
        "G_ema": "generator",
    }


def test_metadata_cannot_stand_in_for_the_format(tmp_path):
    path = tmp_path / "a.safetensors"
    save_networks(path, {"G_ema": generator()}, {"format_version": 99, "networks": "mine"})
    assert Header.read(path)["format_version"] == native.FORMAT_VERSION
    load_generator(path)


def test_same_networks_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_networks(tmp_path / name, {"G_ema": generator()}, METADATA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_one_network_under_two_names(tmp_path):
    G = generator()
    save_networks(tmp_path / "a.safetensors", {"G": G, "G_ema": G}, {})
    networks, _ = load_networks(tmp_path / "a.safetensors")
    assert torch.equal(networks["G"].synthesis.b4.const, G.synthesis.b4.const)
    assert networks["G"].synthesis.b4.const.data_ptr() != networks["G_ema"].synthesis.b4.const.data_ptr()


def test_paths_as_text_and_new_folders(tmp_path):
    path = f"{tmp_path}/new/folder/with spaces.safetensors"
    save_networks(path, {"G_ema": generator()}, {})
    assert load_generator(path)[0].z_dim == 8


def test_nothing_half_written(weights, monkeypatch):
    before = weights.read_bytes()

    def dies(tensors, filename, metadata=None):
        Path(filename).write_bytes(b"half of a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(native, "save_file", dies)
    with pytest.raises(OSError, match="No space left"):
        save_networks(weights, {"G_ema": generator(7)}, {})
    assert weights.read_bytes() == before
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]


# --- Checksums ------------------------------------------------------------------------------------------------------


def test_a_file_without_checksums_still_loads(weights):
    as_version_1(weights)
    networks, header = load_networks(weights)
    assert header["format_version"] == 1
    assert torch.equal(networks["G_ema"].synthesis.b4.const, generator(2).synthesis.b4.const)


def test_the_checksum_may_not_be_left_out(weights):
    header = dict(Header.read(weights))
    header.pop("sha256")
    fails(with_header(weights, json.dumps(header)), "damaged: its header does not match")
    header["networks"]["D"].pop("sha256")
    fails(with_header(weights, header), "damaged: the weights of D do not match")


def test_networks_of_the_same_weights_have_the_same_checksum(tmp_path):
    save_networks(tmp_path / "a", {"G": generator(), "G_ema": generator()}, {"kimg": 1})
    save_networks(tmp_path / "b", {"G_ema": generator()}, {"kimg": 2})
    sums = [entry["sha256"] for name in "ab" for entry in Header.read(tmp_path / name)["networks"].values()]
    assert len(sums) == 3
    assert len(set(sums)) == 1


def snapshot_of(path: Path) -> tuple[dict, dict]:
    networks, header = load_networks(path)
    return {name: network.state_dict() for name, network in networks.items()}, header


def same(first: tuple[dict, dict], second: tuple[dict, dict]) -> bool:
    return first[1] == second[1] and all(
        torch.equal(tensor, second[0][name][key]) for name, state in first[0].items() for key, tensor in state.items()
    )


@pytest.mark.parametrize("version", [1, 2])
def test_flipped_bits(tmp_path, version):
    """One byte changed anywhere: a clear error or, where nothing that counts was hit, the very same weights."""
    path = tmp_path / "a.safetensors"
    save_networks(path, {"G_ema": generator()}, METADATA)
    if version == 1:
        as_version_1(path)
    good, content = snapshot_of(path), path.read_bytes()
    random = np.random.default_rng(version)
    header_end = 8 + int.from_bytes(content[:8], "little")
    places = [*range(8), *random.integers(8, header_end, 200), *random.integers(header_end, len(content), 100)]
    complaints = []
    for place in map(int, places):
        damaged = bytearray(content)
        damaged[place] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        try:
            found = snapshot_of(path)
        except FacegenError as error:
            complaints.append(str(error))
        else:
            assert version == 1 or same(found, good), f"byte {place} of {len(content)} changed unnoticed"
    assert all(text.startswith(f"{path}: ") and "\n" not in text for text in complaints)
    assert len(complaints) > (295 if version == 2 else 100)


def test_two_tensors_of_one_shape_swapped(weights):
    tensors, header = load_file(weights), Header.read(weights)
    first, second = (f"G_ema.synthesis.b4.{layer}.affine.weight" for layer in ("conv1", "torgb"))
    assert tensors[first].shape == tensors[second].shape
    tensors[first], tensors[second] = tensors[second], tensors[first]
    save_file(tensors, weights, metadata={native.HEADER_KEY: json.dumps(dict(header))})
    fails(weights, "damaged: the weights of G_ema do not match")


def test_checking_is_cheap():
    path = PRETRAINED / "encoder.safetensors"  # 17 MB
    header = Header.read(path)
    state = native.read_tensors(path, header)["encoder"]
    start = time.process_time()
    native.tensors_checksum(state)
    assert time.process_time() - start < 0.2  # 0.02 s on one quiet core


# --- Arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"img_resolution": 16},  # layers that the file lacks
        {"img_resolution": 4},  # layers too many
        {"w_dim": 16},  # other shapes
        {"img_resolution": 12},  # refused by the network
        {"shoe_size": 42},  # an argument of a newer version
        {"synthesis_kwargs": {"architecture": "unet"}},
        {"z_dim": "many"},
        # Too large; that must show before memory is taken.
        {"z_dim": 2**19},
        {"z_dim": 2**40},
        {"z_dim": 10**90},
        {"mapping_kwargs": {"lr_multiplier": float("inf")}},
        {"img_resolution": 2**20, "synthesis_kwargs": {"channel_base": 2**20, "channel_max": 2**20}},
        {"mapping_kwargs": {"num_layers": 10**6}},
    ],
    ids=lambda change: str(change)[:60],
)
def test_weights_that_do_not_fit_the_arguments(weights, change):
    changed = with_arguments(weights, change)
    start = time.process_time()
    fails(changed, "the weights of G_ema do not fit: ")
    assert time.process_time() - start < 5


# --- Damaged and foreign files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 0.5, 0.999])
def test_truncated_file(weights, keep):
    content = weights.read_bytes()
    weights.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    for call in (load_networks, Header.read, load_generator, load_encoder):
        fails(weights, "damaged, or not a safetensors file", call)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:500] + content[504:],
        lambda content: content[4:],
        lambda content: b"PK\x03\x04" + bytes(100),
        lambda content: b"\x80\x02}q\x00." * 50,
        lambda content: bytes(64),
        lambda content: b"\xff" * 64,
    ],
)
def test_bytes_cut_out_or_added_and_other_formats(weights, damage):
    weights.write_bytes(damage(weights.read_bytes()))
    fails(weights, "damaged, or not a safetensors file")


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"facegen": "null"}, {"facegen": "[1]"}, {"facegen": "{}"}]
)
def test_safetensors_of_somebody_else(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    fails(path, "a safetensors file, but not one that facegen wrote")


@pytest.mark.parametrize(
    "text",
    ["{not json", "", '{"networks": {}', "[" * 100_000, '{"a":' * 100_000, '{"format_version": ' + "9" * 5000 + "}"],
    ids=len,
)
def test_header_that_is_no_json_or_brings_the_reader_down(weights, text):
    fails(with_header(weights, text), "damaged, or not a safetensors file")


def test_newer_version(weights):
    header = {**Header.read(weights), "format_version": native.FORMAT_VERSION + 1}
    fails(with_header(weights, header), "format version 3, this facegen reads up to 2")


def test_unknown_kind(weights):
    header = Header.read(weights)
    header["networks"]["D"]["kind"] = "transformer"
    path = with_header(weights, header)
    fails(path, "D is a 'transformer', which this facegen does not know")
    assert load_generator(path)[0].z_dim == 8  # the others still load


def test_missing_network(weights):
    fails(weights, "holds G, D, G_ema, but no encoder", load_encoder)
    fails(weights, "holds G, D, G_ema, but no E", lambda path: load_networks(path, ["G", "E"]))


def test_generator_of_an_encoder_file(tmp_path):
    save_networks(tmp_path / "encoder.safetensors", {"encoder": encoder()}, {})
    fails(tmp_path / "encoder.safetensors", "holds encoder, but no generator", load_generator)


def test_missing_and_superfluous_tensors(weights):
    tensors, header = load_file(weights), json.dumps(dict(Header.read(weights)))
    removed = tensors.pop("G_ema.synthesis.b4.const")
    save_file(tensors, weights, metadata={native.HEADER_KEY: header})
    fails(weights, "damaged: the weights of G_ema do not match")
    assert list(load_networks(weights, ["G"])[0]) == ["G"]  # what is whole can still be had
    as_version_1(weights)
    fails(weights, "synthesis.b4.const")
    more = {**tensors, "G_ema.synthesis.b4.const": removed, "G_ema.extra": removed.clone()}
    save_file(more, weights, metadata={native.HEADER_KEY: header})
    as_version_1(weights)
    fails(weights, "extra")


@pytest.mark.parametrize(
    "change",
    [
        {"networks": {"G_ema": {"kwargs": {}}}},
        {"networks": {"G_ema": {"kind": "generator"}}},
        {"networks": {"G_ema": "generator"}},
        {"networks": {"G_ema": {"kind": ["generator"], "kwargs": {}}}},
        {"format_version": "two"},
        {"format_version": None},
    ],
    ids=str,
)
def test_header_of_another_layout(weights, change):
    fails(with_header(weights, {**Header.read(weights), **change}), "")


def test_arguments_that_are_no_dictionary(weights):
    header = Header.read(weights)
    header["networks"]["G_ema"]["kwargs"] = [1, 2]
    fails(with_header(weights, header), "the weights of G_ema do not fit")


def test_header_is_text_that_is_never_run(weights, tmp_path):
    marker = tmp_path / "pwned"
    header = Header.read(weights)
    header["networks"]["G_ema"]["kind"] = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    fails(with_header(weights, header), "which this facegen does not know")
    assert not marker.exists()


def test_a_network_that_cannot_be_named_is_not_saved(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises((KeyError, ValueError)):
        save_networks(path, {"G": torch.nn.Linear(2, 2)}, {})
    assert not path.exists()


def test_metadata_that_is_no_json_is_not_saved(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(TypeError):
        save_networks(path, {"G_ema": generator()}, {"device": torch.device("cpu")})
    assert list(tmp_path.iterdir()) == []


# --- Where the file is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [load_networks, Header.read])
def test_missing_file(tmp_path, call):
    assert_refused(
        "nothing.safetensors: there is no such weights file",
        call,
        tmp_path / "nothing.safetensors",
        error=FileNotFoundError,
    )


def test_run_folder_with_a_damaged_snapshot_says_which(tmp_path):
    (tmp_path / "network-snapshot-000010.safetensors").write_bytes(b"half of a")
    assert_refused("network-snapshot-000010.safetensors: damaged", load_generator, tmp_path)


def test_run_folder_of_an_encoder_gives_the_best_one(tmp_path):
    for name, z_dim in (("encoder-best", 4), ("encoder-000003", 5)):
        save_networks(tmp_path / f"{name}.safetensors", {"encoder": encoder(z_dim)}, {})
    assert load_encoder(tmp_path)[0].z_dim == 4


# --- The shipped weights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["generator", "encoder"])
def test_the_shipped_weights_are_of_this_version_and_name_no_path(name):
    header = Header.read(PRETRAINED / f"{name}.safetensors")
    assert header["format_version"] == native.FORMAT_VERSION
    assert "UTKFace" in header["license"]
    assert len(header["groups"]) == 10
    assert "/" not in json.dumps(header["training_options"])
