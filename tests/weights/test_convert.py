import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from refusals import assert_refused
from small_networks import METADATA, assert_same_weights, discriminator, editor, encoder
from small_networks import generator as small_generator
from torch import nn

from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.errors import FacegenError
from facegen.networks.age_shift import AgeShift
from facegen.networks.generator import Generator
from facegen.weights.convert import convert
from facegen.weights.header import Header
from facegen.weights.load import load_generator, read_networks
from facegen.weights.native import load_networks, save_networks


def generator(seed: int = 0, c_dim: int = 3) -> Generator:
    return small_generator(seed, c_dim, conv_clamp=None, num_fp16_res=1)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "network-snapshot-000001.safetensors"
    save_networks(path, {"G": generator(0), "D": discriminator(), "G_ema": generator(2)}, METADATA)
    return path


def write(path: Path, **networks: nn.Module) -> Path:
    save_networks(path, networks, METADATA)
    return path


def run(*arguments: object):
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def test_to_a_pickle_and_back_to_the_bit(tmp_path, snapshot):
    pickled, again = tmp_path / "snapshot.pkl", tmp_path / "again.safetensors"
    assert convert(snapshot, pickled) == [f"{pickled}: G, D, G_ema as pkl"]
    assert convert(pickled, again) == [f"{again}: G, D, G_ema as safetensors"]
    assert again.read_bytes() == snapshot.read_bytes()
    second = tmp_path / "second.pkl"
    convert(again, second)
    assert second.read_bytes() == pickled.read_bytes()


@pytest.mark.parametrize("name", ["out.safetensors", "out.pkl", "out.onnx"])
def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path, snapshot, name):
    there = tmp_path / name
    there.write_bytes(b"mine")
    result = run(snapshot, there)
    assert result.exit_code == 1
    assert f"{there}: already exists" in result.output
    assert "--force" in result.output
    assert there.read_bytes() == b"mine"


def test_a_file_that_is_there_is_replaced_with_force(tmp_path, snapshot):
    there = tmp_path / "out.pkl"
    there.write_bytes(b"mine")
    assert run(snapshot, there, "--force").exit_code == 0
    assert set(read_networks(there)[0]) == {"G", "D", "G_ema"}


def test_a_generator_alone_to_a_pickle_and_back_to_the_bit(tmp_path):
    path = write(tmp_path / "g.safetensors", G_ema=generator())
    convert(path, tmp_path / "g.pkl")
    convert(tmp_path / "g.pkl", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_pickle_of_other_tools_becomes_ours(tmp_path):
    golden = Path(__file__).parents[1] / "golden" / "legacy_protocol3.pkl"
    convert(golden, tmp_path / "ours.safetensors")
    networks, header = load_networks(tmp_path / "ours.safetensors")
    read, _ = read_networks(golden)
    assert set(networks) == {"G", "D", "G_ema"}
    for name, network in networks.items():
        assert_same_weights(network, read[name])
    assert header["origin"]["format"] == "stylegan2-ada-pytorch"
    # and with a source of our own instead of theirs
    convert(golden, tmp_path / "ours.pkl")
    convert(tmp_path / "ours.pkl", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "ours.safetensors").read_bytes()


def test_one_kind_of_network_is_taken_out(tmp_path, snapshot):
    lines = convert(snapshot, tmp_path / "g.safetensors", network="generator")
    assert lines == ["left out: D, not asked for", f"{tmp_path / 'g.safetensors'}: G, G_ema as safetensors"]
    assert set(Header.read(tmp_path / "g.safetensors")["networks"]) == {"G", "G_ema"}
    convert(snapshot, tmp_path / "d.safetensors", network="discriminator")
    networks, header = load_networks(tmp_path / "d.safetensors")
    assert set(networks) == {"D"}
    assert header["groups"] == METADATA["groups"]


@pytest.mark.parametrize(("group", "index"), [("0-10", 0), ("21+", 2)])
def test_rosinality_by_the_groups_name(tmp_path, snapshot, group, index):
    from facegen.weights.export.rosinality import convert as expected_state

    lines = convert(snapshot, tmp_path / "g.pt", to="rosinality", group=group)
    assert "Generator(size=8, style_dim=8, n_mlp=2, channel_multiplier=1)" in lines[-2]
    assert lines[-1] == f"{tmp_path / 'g.pt'}: G_ema as rosinality"
    state = torch.load(tmp_path / "g.pt", weights_only=True)["g_ema"]
    expected, _ = expected_state(generator(2), index)
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_a_generator_as_pt_is_rosinalitys(tmp_path, snapshot):
    named, found = tmp_path / "named.pt", tmp_path / "found.pt"
    convert(snapshot, named, to="rosinality", group="21+")
    assert run(snapshot, found, "--group", "21+").exit_code == 0
    states = [torch.load(path, weights_only=True)["g_ema"] for path in (named, found)]
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


def test_float16_whatever_the_file_says(tmp_path, snapshot):
    """As legacy.py has it, with its names of the two files."""
    result = CliRunner().invoke(
        main, ["legacy", f"--source={snapshot}", f"--dest={tmp_path / 'f.pkl'}", "--force-fp16=True"]
    )
    assert result.exit_code == 0, result.output
    networks, header = read_networks(tmp_path / "f.pkl")
    before, _ = read_networks(snapshot)
    for name, network in networks.items():
        kwargs = header.networks[name]["kwargs"]
        kwargs = kwargs if name == "D" else kwargs["synthesis_kwargs"]
        assert (kwargs["num_fp16_res"], kwargs["conv_clamp"]) == (4, 256)
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before[name].parameters(), strict=True))
    assert networks["G_ema"].synthesis.b8.use_fp16
    assert run(snapshot).exit_code == run("--source", snapshot).exit_code == 2


def test_torchscript_of_the_generator(tmp_path, snapshot):
    lines = convert(snapshot, tmp_path / "g.pt", to="torchscript", truncation_psi=0.5)
    assert any(line.startswith("checked: at most ") for line in lines)
    extra = {"facegen.json": ""}
    graph = torch.jit.load(str(tmp_path / "g.pt"), _extra_files=extra)
    assert json.loads(extra["facegen.json"]) == {**METADATA, "network": "G_ema", "truncation_psi": 0.5}
    z, c = torch.randn(5, 8), torch.eye(3)[[0, 1, 2, 0, 1]]
    expected = generator(2)(z, c, truncation_psi=0.5, noise_mode="const")
    torch.testing.assert_close(graph(z, c), expected, rtol=0, atol=1e-4)
    assert_refused("g.pt: TorchScript", read_networks, tmp_path / "g.pt")
    assert "g.pt: TorchScript" in CliRunner().invoke(main, ["info", str(tmp_path / "g.pt")]).output


@pytest.mark.parametrize(
    ("destination", "options", "message"),
    [
        ("out", {}, "choose one of safetensors, pkl, rosinality, onnx, torchscript with --to"),
        ("out.onnx", {"force_fp16": True}, "--force-fp16 is for safetensors and pkl"),
        ("out.pkl", {"to": "tensorflow"}, "tensorflow"),
        ("out.pkl", {"network": "encoder"}, "pkl cannot hold an encoder, only generator and discriminator"),
        ("out.pt", {"to": "rosinality", "network": "encoder"}, "rosinality cannot hold an encoder, only generator"),
        (
            "out.onnx",
            {"network": "discriminator"},
            "onnx cannot hold a discriminator, only generator, encoder, age_shift",
        ),
        ("out.safetensors", {"network": "encoder"}, "holds G, D, G_ema: no encoder"),
        ("out.pkl", {"network": "discriminator"}, "needs a generator"),
        ("out.pkl", {"group": "0-10"}, "only rosinality"),
        ("out.pkl", {"truncation_psi": 0.7}, "only be built into onnx and torchscript"),
        ("out.onnx", {"truncation_psi": math.nan}, "nan"),
        (".", {"to": "pkl"}, "is a folder: name the file to write"),
        ("out.pt", {"network": "encoder"}, "no encoder to write as torchscript"),
        ("out.pt", {}, "choose one of 0-10, 11-20, 21+ with --group"),
        ("out.pt", {"to": "rosinality", "group": "10-20"}, "no age group '10-20': choose one of 0-10"),
    ],
)
def test_says_in_one_line_what_cannot_be_converted(tmp_path, snapshot, destination, options, message):
    assert_refused(message, convert, snapshot, tmp_path / destination, **options)
    assert list(tmp_path.iterdir()) == [snapshot]


def test_only_a_whole_generator_has_truncation(tmp_path, snapshot):
    path = write(tmp_path / "encoder.safetensors", encoder=encoder())
    options = {"to": "torchscript", "truncation_psi": 0.5}
    assert_refused("only a generator has truncation", convert, path, tmp_path / "e.pt", **options)
    for half in ("mapping", "synthesis"):
        text = assert_refused("has truncation", convert, snapshot, tmp_path / "g.pt", network=half, **options)
        assert half in text


def test_an_encoders_file_keeps_its_age_shift(tmp_path):
    shift = AgeShift(3, 2, 4, [5, 15, 30])
    torch.nn.init.normal_(shift.table)
    path = write(tmp_path / "encoder.safetensors", encoder=encoder(), age_shift=shift)
    assert convert(path, tmp_path / "e.safetensors") == [
        f"{tmp_path / 'e.safetensors'}: encoder, age_shift as safetensors"
    ]
    assert (tmp_path / "e.safetensors").read_bytes() == path.read_bytes()


def test_an_editor_as_torchscript_says_what_it_is(tmp_path):
    path, graph = write(tmp_path / "e.safetensors", editor=editor()), tmp_path / "e.pt"
    result = run(path, graph, "--to", "torchscript")
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"{graph}: editor as torchscript\n")
    told = {"facegen.json": ""}
    faces, ages, targets = torch.rand(1, 3, 40, 56) * 2 - 1, torch.tensor([20.0]), torch.tensor([70.0])
    picture, _, _ = torch.jit.load(str(graph), _extra_files=told)(faces, ages, targets)
    torch.testing.assert_close(picture, editor()(faces, ages, targets), rtol=0, atol=1e-4)
    assert json.loads(told["facegen.json"])["network"] == "editor"


def test_an_editor_alone_is_taken_out(tmp_path):
    path, alone = write(tmp_path / "both.safetensors", G_ema=generator(), editor=editor()), tmp_path / "e.safetensors"
    convert(path, alone, network="editor")
    networks, _ = load_networks(alone)
    assert list(networks) == ["editor"]
    assert_same_weights(networks["editor"], editor())


@pytest.mark.parametrize(
    ("destination", "options", "message"),
    [
        ("e.pkl", {}, "no generator or discriminator to write as pkl"),
        ("e.pkl", {"network": "editor"}, "pkl cannot hold an editor"),
        ("e.pt", {"to": "rosinality"}, "no generator to write as rosinality"),
        ("e.pt", {}, "--to chooses another format"),
        ("e.pt", {"to": "torchscript", "truncation_psi": 0.7}, "only a generator has truncation, not the editor"),
    ],
)
def test_what_an_editor_cannot_become(tmp_path, destination, options, message):
    path = write(tmp_path / "e.safetensors", editor=editor())
    assert_refused(message, convert, path, tmp_path / destination, **options)
    assert list(tmp_path.iterdir()) == [path]


def test_a_half_says_which_it_is(tmp_path, snapshot):
    convert(snapshot, tmp_path / "s.pt", to="torchscript", network="synthesis")
    extra = {"facegen.json": ""}
    torch.jit.load(str(tmp_path / "s.pt"), _extra_files=extra)
    assert json.loads(extra["facegen.json"]) == {**METADATA, "network": "G_ema", "part": "synthesis"}


def test_an_unconditional_generator_has_no_group(tmp_path):
    path = write(tmp_path / "g.safetensors", G_ema=generator(0, 0))
    assert_refused("has no age groups", convert, path, tmp_path / "g.pt", to="rosinality", group="0-10")
    convert(path, tmp_path / "g.pt", to="rosinality")


def test_never_overwrites_the_input(tmp_path, snapshot):
    before = snapshot.read_bytes()
    (tmp_path / "link.safetensors").symlink_to(snapshot)
    for destination in (snapshot, tmp_path / "link.safetensors", tmp_path / "." / snapshot.name):
        assert_refused("is the input file", convert, snapshot, destination)
    assert_refused("is the input file", convert, tmp_path, snapshot)  # by way of the folder
    assert snapshot.read_bytes() == before


def test_a_failed_conversion_leaves_the_old_file(tmp_path, snapshot):
    old = tmp_path / "old.pt"
    old.write_text("old")
    with pytest.raises(FacegenError):
        convert(snapshot, old, to="rosinality")
    assert old.read_text() == "old"


def test_command_prints_and_complains_in_one_line(tmp_path, snapshot):
    done = run(snapshot, tmp_path / "out.pkl")
    assert done.exit_code == 0
    assert done.output == f"{tmp_path / 'out.pkl'}: G, D, G_ema as pkl\n"
    for arguments, message in (
        ((tmp_path / "missing.safetensors", tmp_path / "x.pkl"), "missing.safetensors"),
        ((snapshot, tmp_path / "x.bin"), "does not tell the format"),
        ((snapshot, snapshot), "is the input file"),
    ):
        done = run(*arguments)
        assert done.exit_code == 1
        assert done.output.startswith("Error: ")
        assert message in done.output
        assert done.output.count("\n") == 1
    assert run(snapshot, tmp_path / "x", "--to", "gguf").exit_code == 2


def test_command_in_a_process_of_its_own(tmp_path, snapshot):
    command = [sys.executable, "-m", "facegen", "convert", str(snapshot), str(tmp_path / "out.pkl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.pkl").is_file()


def test_age_groups_of_a_foreign_file_go_into_the_new_one(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_networks(foreign, {"G_ema": generator(c_dim=3)}, {})
    groups = AgeGroups.parse("0-20,21-40,41+")
    convert(foreign, tmp_path / "named.safetensors", groups=groups)
    assert load_generator(tmp_path / "named.safetensors")[1].groups == groups
    message = assert_refused("3 classes", convert, foreign, tmp_path / "x.pkl", groups=AgeGroups.parse("0-20,21+"))
    assert not (tmp_path / "x.pkl").exists(), message
    other = AgeGroups.parse("0-10,11-40,41+")
    assert_refused("leave out --groups", convert, tmp_path / "named.safetensors", tmp_path / "x.pkl", groups=other)
