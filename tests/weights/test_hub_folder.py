import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, hub_mixin

import facegen
from facegen.errors import FacegenError
from facegen.networks import generator as plain
from facegen.weights import hub_folder, native
from facegen.weights.load import load_generator

METADATA = {
    "groups": ["0-10", "11-20", "21-"],
    "class_names": ["0-10", "11-20", "21-"],
    "kimg": 12.5,
    "metrics": {"fid": 21.5},
    "license": "cc-by-nc-4.0",
    "training_options": {"data": "/home/somebody/faces64.zip", "outdir": "/scratch/runs", "resume": None, "batch": 16},
}


def generator(seed: int = 0) -> facegen.Generator:
    torch.manual_seed(seed)
    kwargs = {"mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": {"channel_base": 64}}
    G = facegen.Generator(8, 3, 8, 8, 3, **kwargs)
    G.metadata = METADATA
    return G


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    own, other = first.state_dict(), second.state_dict()
    return own.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in own.items())


@pytest.fixture
def folder(tmp_path) -> Path:
    generator().save_pretrained(tmp_path / "generator")
    return tmp_path / "generator"


def test_a_folder_and_back(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = facegen.Generator.from_pretrained(folder)
    assert type(loaded) is facegen.Generator
    assert same_weights(loaded, generator())
    assert loaded.init_kwargs == generator().init_kwargs
    assert {key: loaded.metadata[key] for key in METADATA if key != "training_options"} == {
        key: METADATA[key] for key in METADATA if key != "training_options"
    }
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_saving_again_changes_nothing(folder, tmp_path):
    facegen.Generator.from_pretrained(str(folder)).save_pretrained(tmp_path / "again")
    for name in ("README.md", "config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    "network",
    [
        lambda: facegen.Encoder(z_dim=4, img_resolution=32, input_size=75, blocks=(0, 0, 0)),
        lambda: facegen.Discriminator(3, 8, 3, channel_base=64, block_kwargs={"freeze_layers": 1}),
    ],
)
def test_the_other_networks(tmp_path, network):
    network = network()
    network.save_pretrained(tmp_path)
    loaded = type(network).from_pretrained(tmp_path)
    assert same_weights(loaded, network)
    assert loaded.init_kwargs == network.init_kwargs
    assert f"facegen.{type(network).__name__}.from_pretrained" in (tmp_path / "README.md").read_text()


def test_it_is_a_network_like_any_other(folder):
    G = facegen.Generator.from_pretrained(folder)
    assert isinstance(G, plain.Generator)
    assert same_weights(copy.deepcopy(G), G)
    z, c = torch.randn(2, 8), torch.eye(3)[:2]
    loaded, header = load_generator(folder / "model.safetensors")
    assert type(loaded) is plain.Generator
    assert header["kimg"] == 12.5
    assert torch.equal(G(z, c, noise_mode="const"), loaded(z, c, noise_mode="const"))


def test_config_is_for_people_to_read(folder):
    text = (folder / "config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    assert config == native.read_metadata(folder / "model.safetensors")
    assert config["networks"]["G_ema"]["kwargs"]["img_resolution"] == 8
    assert text.count("\n") > 20


def test_no_folder_of_this_machine_goes_along(folder):
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"/home/somebody" not in content
        assert b"/scratch" not in content
    assert json.loads((folder / "config.json").read_text())["training_options"] == {
        "data": "faces64.zip",
        "outdir": "runs",
        "resume": None,
        "batch": 16,
    }


def test_model_card(folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.library_name == "facegen"
    assert "model_hub_mixin" in card.data.tags
    for words in ("8x8 pixels, 3 classes", "0-10, 11-20, 21-", "faces64.zip", "12.5 thousand", "fid: 21.5"):
        assert words in card.text


@pytest.mark.parametrize("license", ["for research only: no 'commerce'", None, "Apache 2.0"])
def test_model_card_with_a_licence_that_the_hub_does_not_know(license):
    header = {"license": license, "networks": {"G": {"kind": "generator", "kwargs": {"img_resolution": 8, "c_dim": 0}}}}
    card = ModelCard(hub_folder.model_card(header))
    assert card.data.license == "other"
    assert (license or "Not stated") in card.text


def test_a_card_that_somebody_wrote_stays(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    generator().save_pretrained(tmp_path)
    hub_folder.save_pretrained({"G_ema": generator()}, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_several_networks_in_one_folder(tmp_path):
    networks = {"G": generator(1), "G_ema": generator(2)}
    hub_folder.save_pretrained(networks, tmp_path, METADATA)
    loaded, header = hub_folder.from_pretrained(tmp_path)
    assert header["license"] == METADATA["license"]
    assert all(same_weights(loaded[name], network) for name, network in networks.items())
    assert same_weights(facegen.Generator.from_pretrained(tmp_path), networks["G_ema"])


def test_run_folders_and_files(tmp_path):
    native.save_networks(tmp_path / "network-snapshot-000012.safetensors", {"G_ema": generator()}, METADATA)
    for reference in (tmp_path, tmp_path / "network-snapshot-000012.safetensors"):
        assert same_weights(facegen.Generator.from_pretrained(reference), generator())


@pytest.mark.parametrize("revision", [None, "v1"])
def test_from_a_repository(folder, monkeypatch, revision):
    asked = []

    def download(*arguments):
        asked.append(arguments)
        return folder / "model.safetensors"

    monkeypatch.setattr("facegen.weights.locate.hub_download", download)
    assert same_weights(facegen.Generator.from_pretrained("somebody/faces", revision=revision), generator())
    assert asked == [("somebody/faces", None, revision)]


def test_push_to_hub(monkeypatch):
    pushed = {}

    class Api:
        def __init__(self, token=None):
            pushed["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            pushed["private"] = private
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id, folder_path, commit_message, **rest):
            pushed["repository"], pushed["message"] = repo_id, commit_message
            pushed["network"] = facegen.Generator.from_pretrained(folder_path)
            pushed["card"] = (Path(folder_path) / "README.md").read_text()
            pushed["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            return "https://huggingface.co/somebody/faces/commit/1"

    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    url = generator().push_to_hub("somebody/faces", private=True, commit_message="Faces", token="hf_x")
    assert url.startswith("https://huggingface.co/somebody/faces/")
    assert pushed["files"] == ["README.md", "config.json", "model.safetensors"]
    assert same_weights(pushed["network"], generator())
    assert 'from_pretrained("somebody/faces")' in pushed["card"]
    assert (pushed["repository"], pushed["private"], pushed["message"], pushed["token"]) == (
        "somebody/faces",
        True,
        "Faces",
        "hf_x",
    )


def test_folders_without_what_is_asked_for(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        facegen.Generator.from_pretrained(tmp_path / "generator" / ".." / "..")
    with pytest.raises(FacegenError, match="holds G_ema, but no encoder"):
        facegen.Encoder.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"half of a")
    with pytest.raises(FacegenError, match="damaged"):
        facegen.Generator.from_pretrained(folder)


def test_a_config_that_lies_changes_nothing(folder):
    (folder / "config.json").write_text('{"networks": {"G_ema": {"kwargs": {"img_resolution": 512}}}}')
    assert facegen.Generator.from_pretrained(folder).img_resolution == 8


def test_facegen_does_not_import_the_hub_until_it_is_needed():
    code = (
        "import sys, facegen, facegen.weights.native; assert 'huggingface_hub' not in sys.modules; "
        "facegen.Generator; assert 'huggingface_hub' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
