import json
import re
from pathlib import Path
from unittest import mock

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from refusals import assert_refused
from small_networks import assert_same_weights, discriminator, editor, encoder, generator
from strangers import TEXT, assert_clean

import facegen
from facegen.weights import hub_folder
from facegen.weights.header import Header
from facegen.weights.hub_folder import push_to_hub, save_pretrained
from facegen.weights.load import read_networks

METADATA = {
    "groups": ["0-10", "11-20", "21-"],
    "class_names": ["0-10", "11-20", "21-"],
    "kimg": 12.5,
    "metrics": {"fid": 21.5},
    "license": "cc-by-nc-4.0",
    "training_options": {"data": "/home/somebody/faces64.zip", "outdir": "/scratch/runs", "resume": None, "batch": 16},
}

EDITED = {"val_age_error": 4.2, "val_identity": 0.6, "val_sex_kept": 0.97}
OPTIONS_THAT_GO_ALONG = {"data": "faces64.zip", "outdir": "runs", "resume": None, "batch": 16}


def age_estimator() -> facegen.AgeEstimator:
    return facegen.AgeEstimator(input_size=16, widths=(4, 8), depths=(1, 1)).eval()


@pytest.fixture
def folder(tmp_path) -> Path:
    save_pretrained({"G_ema": generator()}, tmp_path / "generator", METADATA)
    return tmp_path / "generator"


def test_a_folder_and_back(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded, header = facegen.load_generator(folder)
    assert_same_weights(loaded, generator())
    assert loaded.init_kwargs == generator().init_kwargs
    assert {key: header[key] for key in METADATA} == METADATA | {"training_options": OPTIONS_THAT_GO_ALONG}
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_saving_again_changes_nothing(folder, tmp_path):
    loaded, header = facegen.load_generator(str(folder))
    save_pretrained({"G_ema": loaded}, tmp_path / "again", header)
    for name in ("README.md", "config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "make"),
    [
        ("G", "generator", generator),
        ("D", "discriminator", discriminator),
        ("encoder", "encoder", encoder),
        ("age", "age_estimator", age_estimator),
        ("editor", "editor", editor),
    ],
)
def test_what_is_loaded_is_of_the_public_class(tmp_path, name, kind, make):
    network = make()
    save_pretrained({name: network}, tmp_path)
    loaded, _ = getattr(facegen, f"load_{kind}")(tmp_path)
    assert type(loaded) is type(network) is getattr(facegen, kind.title().replace("_", ""))
    assert_same_weights(loaded, network)
    assert loaded.init_kwargs == network.init_kwargs
    assert f"facegen.load_{kind}(" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_card_of_an_editor(tmp_path):
    save_pretrained({"editor": editor()}, tmp_path, METADATA | EDITED | {"groups": None, "class_names": None})
    card = ModelCard.load(tmp_path / "README.md").text
    for words in ("from 5 to 80 years", "age error 4.20 years, identity 0.600, sex kept 97%", "faces64.zip"):
        assert words in card


def test_an_editor_is_none_of_the_others(tmp_path):
    save_pretrained({"editor": editor()}, tmp_path)
    assert "held back" not in (tmp_path / "README.md").read_text(encoding="utf-8")  # nobody measured
    assert_refused("holds editor, but no generator", facegen.load_generator, tmp_path)
    save_pretrained({"G_ema": generator()}, tmp_path)
    assert_refused("holds G_ema, but no editor", facegen.load_editor, tmp_path)


def test_config_is_for_people_to_read(folder):
    text = (folder / "config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    assert config == Header.read(folder / "model.safetensors")
    assert config["networks"]["G_ema"]["kwargs"]["img_resolution"] == 8
    assert text.count("\n") > 20


def test_no_folder_of_this_machine_goes_along(folder):
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"/home/somebody" not in content
        assert b"/scratch" not in content
    assert json.loads((folder / "config.json").read_text())["training_options"] == OPTIONS_THAT_GO_ALONG


def test_model_card(folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.library_name == "facegen"
    for words in ("8x8 pixels, 3 classes", "0-10, 11-20, 21-", "faces64.zip", "12.5 thousand", "fid: 21.5"):
        assert words in card.text


@pytest.mark.parametrize("license", ["for research only: no 'commerce'", None, "Apache 2.0"])
def test_model_card_with_a_license_that_the_hub_does_not_know(license):
    header = {"license": license, "networks": {"G": {"kind": "generator", "kwargs": {"img_resolution": 8, "c_dim": 0}}}}
    card = ModelCard(hub_folder.model_card(Header(header)))
    assert card.data.license == "other"
    assert (license or "Not stated") in card.text


def test_a_model_card_holds_no_markup_of_strangers():
    networks = {TEXT: {"kind": "generator", "kwargs": {"img_resolution": 8}}}
    told = {
        "license": "MIT\n\n" + TEXT.replace("\n", ""),
        "class_names": [TEXT],
        "metrics": {TEXT: TEXT},
        "training_options": {"data": "`" + TEXT},
    }
    card = hub_folder.model_card(Header({"networks": networks, **told}))
    assert_clean(card)
    assert "MIT\n" in card
    assert "<" not in re.sub(r"`[^`]*`", "", card)


def test_a_card_that_somebody_wrote_stays(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    save_pretrained({"G_ema": generator()}, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_several_networks_in_one_folder(tmp_path):
    networks = {"G": generator(1), "G_ema": generator(2)}
    save_pretrained(networks, tmp_path, METADATA)
    loaded, header = read_networks(tmp_path)
    assert header["license"] == METADATA["license"]
    for name, network in networks.items():
        assert_same_weights(loaded[name], network)
    assert_same_weights(facegen.load_generator(tmp_path)[0], networks["G_ema"])


def test_from_a_repository(folder, monkeypatch):
    download = mock.Mock(return_value=folder / "model.safetensors")
    monkeypatch.setattr("facegen.weights.locate.hub_download", download)
    assert_same_weights(facegen.load_generator("somebody/faces@v1")[0], generator())
    download.assert_called_once_with("somebody/faces", None, "v1")


def test_an_editor_from_a_repository(tmp_path, monkeypatch):
    save_pretrained({"editor": editor()}, tmp_path, METADATA)
    download = mock.Mock(return_value=tmp_path / "model.safetensors")
    monkeypatch.setattr("facegen.weights.locate.hub_download", download)
    assert_same_weights(facegen.load_editor("hf://somebody/editor@v1")[0], editor())
    download.assert_called_once_with("somebody/editor", None, "v1")


def test_push_to_hub(monkeypatch):
    pushed = {}

    class Api:
        def __init__(self, token=None):
            pushed["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            pushed["private"] = private
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id, folder_path, commit_message, **rest):
            pushed.update(repository=repo_id, message=commit_message)
            assert_same_weights(facegen.load_generator(folder_path)[0], generator())
            files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
            assert b'load_generator("somebody/faces")' in files["README.md"]
            return "https://huggingface.co/somebody/faces/commit/1"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    options = {"private": True, "token": "hf_x"}
    url = push_to_hub({"G_ema": generator()}, "somebody/faces", METADATA, commit_message="Faces", **options)
    assert url.startswith("https://huggingface.co/somebody/faces/")
    assert pushed == {"repository": "somebody/faces", "message": "Faces", **options}


def test_folders_without_what_is_asked_for(folder, tmp_path):
    assert_refused("model.safetensors", facegen.load_generator, tmp_path, error=FileNotFoundError)
    assert_refused("holds G_ema, but no encoder", facegen.load_encoder, folder)
    (folder / "model.safetensors").write_bytes(b"half of a")
    assert_refused("damaged", facegen.load_generator, folder)


def test_a_config_that_lies_changes_nothing(folder):
    (folder / "config.json").write_text('{"networks": {"G_ema": {"kwargs": {"img_resolution": 512}}}}')
    assert facegen.load_generator(folder)[0].img_resolution == 8
