"""Whatever the kind of file, one function loads it; what it is shows in its first bytes, not in its name."""

from __future__ import annotations

import shutil

import pytest
import torch
from click.testing import CliRunner
from refusals import assert_refused
from small_networks import METADATA, assert_same_weights, discriminator, editor, encoder, generator

import facegen
from facegen.cli import main
from facegen.weights.export.pickle import write_pickle
from facegen.weights.load import kind_of_file, read_networks
from facegen.weights.native import save_networks


@pytest.fixture(scope="module")
def networks():
    """G, D and G_ema, which differs from G."""
    return {"G": generator(0), "D": discriminator(), "G_ema": generator(2)}


@pytest.fixture(scope="module")
def files(networks, tmp_path_factory):
    """The same networks in every format that holds them, by kind."""
    folder = tmp_path_factory.mktemp("weights")
    save_networks(folder / "a.safetensors", networks, METADATA)
    write_pickle(folder / "a.pkl", networks)
    torch.save({name: network.state_dict() for name, network in networks.items()}, folder / "a.pt")
    run = folder / "00000-run"
    run.mkdir()
    shutil.copy(folder / "a.safetensors", run / "network-snapshot-000400.safetensors")
    return {"safetensors": folder / "a.safetensors", "pickle": folder / "a.pkl", "torch": folder / "a.pt", "run": run}


@pytest.mark.parametrize("kind", ["safetensors", "pickle", "torch", "run"])
def test_every_kind_gives_the_same_networks(files, networks, kind):
    G, _ = facegen.load_generator(files[kind])
    D, _ = facegen.load_discriminator(str(files[kind]))
    assert_same_weights(G, networks["G_ema"])
    assert_same_weights(D, networks["D"])
    assert not G.training
    assert not any(parameter.requires_grad for parameter in G.parameters())
    assert_refused("holds G, D, G_ema, but no encoder", facegen.load_encoder, files[kind])


def test_an_editor_in_float16(tmp_path):
    run, network = tmp_path / "00000-editor", editor()
    run.mkdir()
    save_networks(run / "editor.safetensors", {"editor": network}, METADATA, dtype=torch.float16)
    loaded, header = facegen.load_editor(run)
    assert (loaded.init_kwargs, loaded.training, header.license) == (network.init_kwargs, False, METADATA["license"])
    faces, ages, targets = torch.rand(2, 3, 48, 40) * 2 - 1, torch.tensor([20.0, 70.0]), torch.tensor([70.0, 20.0])
    before, after = network(faces, ages, targets), loaded(faces, ages, targets)
    assert after.dtype == torch.float32
    torch.testing.assert_close(after, before, rtol=0, atol=0.02)
    assert not torch.equal(after, before)


def test_a_file_without_an_editor(files, tmp_path):
    assert_refused("holds G, D, G_ema, but no editor", facegen.load_editor, files["safetensors"])
    wrong = tmp_path / "wrong.safetensors"
    save_networks(wrong, {"editor": encoder()}, METADATA)
    assert_refused("holds editor, but no editor", facegen.load_editor, wrong)


@pytest.mark.parametrize("kind", ["safetensors", "pickle", "torch"])
def test_the_name_does_not_matter(files, networks, kind, tmp_path):
    path = tmp_path / ("download" if kind != "torch" else "download.bin")
    shutil.copy(files[kind], path)
    assert kind_of_file(path) == kind
    assert_same_weights(facegen.load_generator(path)[0], networks["G_ema"])


def test_a_safetensors_file_may_begin_like_a_pickle_or_a_zip(tmp_path):
    """Its first bytes are a length, so by chance they are any other format's."""
    found = set()
    for filling in range(256):
        path = tmp_path / "weights"
        save_networks(path, {"encoder": encoder()} if filling == 0 else {}, {"x": "y" * filling})
        found.add(path.read_bytes()[:1])
        assert kind_of_file(path) == "safetensors"
    assert b"\x80" in found or b"P" in found  # headers are filled up to a multiple of 8: 0x80 and 0x50 are among them


def test_a_generator_that_was_never_averaged(networks, tmp_path):
    save_networks(tmp_path / "g.safetensors", {"G": networks["G"]}, {})
    assert_same_weights(facegen.load_generator(tmp_path / "g.safetensors")[0], networks["G"])


def test_only_what_is_asked_for_is_read(files, networks, tmp_path):
    """A damaged D does not keep a generator from being loaded."""
    data = bytearray(files["safetensors"].read_bytes())
    position = bytes(data).index(networks["D"].b4.out.weight.detach().numpy().tobytes())
    data[position] ^= 1
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data)
    assert_same_weights(facegen.load_generator(path)[0], networks["G_ema"])
    assert_refused("the weights of D do not match", read_networks, path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a weights file"),
        (b"\x08\x0a\x12\x07pytorch", "ONNX can only be written"),
        (b"\x80\x04N.", "a pickle, but not of networks"),
        (b"PK\x03\x04", "file: "),
    ],
)
def test_files_that_hold_no_networks(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    assert_refused(words, facegen.load_generator, tmp_path / "file")


def test_commands_take_every_kind(files, tmp_path):
    for kind in ("pickle", "torch", "run"):
        out = tmp_path / f"{kind}.safetensors"
        result = CliRunner().invoke(main, ["convert", str(files[kind]), str(out), "--only", "generator"])
        assert result.exit_code == 0, result.output
        assert kind_of_file(out) == "safetensors"
