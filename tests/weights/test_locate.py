from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from refusals import assert_refused
from weight_server import WeightServer, forget_settings

import facegen.weights.locate as locate_module
from facegen import beside
from facegen.weights.locate import PUBLISHED, family_snapshots, locate, shipped_file, weights_of_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder, a cache of the test's own, and nothing of the machine's settings."""
    forget_settings(monkeypatch, tmp_path / "cache")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def no_network(monkeypatch):
    """What would have been downloaded, instead of downloading it."""
    wanted = []

    def record(*args):
        wanted.append(args)
        return Path("downloaded")

    monkeypatch.setattr(locate_module, "download", record)
    monkeypatch.setattr(locate_module, "hub_download", record)
    return wanted


# --- what is here ---


def test_a_file_is_itself(no_network):
    for name in ("x.pkl", "ffhq256", "org/name", "weights with spaces.pt"):
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert locate(name) == locate(path) == path
    assert no_network == []


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.pkl").touch()
    assert locate("~/x.pkl") == tmp_path / "x.pkl"


@pytest.mark.parametrize("numbers", [("000400", "000080", "9"), ("999999", "1000000"), ("9", "10", "8")])
def test_a_run_folder_is_its_newest_snapshot(numbers):
    run = Path("runs/00000-faces")
    run.mkdir(parents=True)
    others = ("network-snapshot-best.safetensors", "encoder-best.safetensors", "network-snapshot-2000000.txt")
    for name in (*others, ".network-snapshot-2000000.safetensors.77.tmp"):
        (run / name).touch()
    for number in numbers:  # the newest is not the last that was written
        (run / f"network-snapshot-{number}.safetensors").touch()
    newest = run / f"network-snapshot-{max(numbers, key=int)}.safetensors"
    assert locate(run) == locate(str(run)) == locate(f"{run}/") == weights_of_folder(run) == newest


def test_a_run_folder_of_another_program_is_its_newest_pickle():
    run = Path("runs/00000-faces-mirror-auto1")
    run.mkdir(parents=True)
    for name in ("network-snapshot-000400.pkl", "network-snapshot-001200.pkl", "network-final.pkl", "fakes001200.png"):
        (run / name).touch()
    assert locate(run) == run / "network-snapshot-001200.pkl"
    assert family_snapshots(run)[-1] == (1_200_000, locate(run))
    (run / "network-snapshot-000100.safetensors").touch()
    assert locate(run) == run / "network-snapshot-000100.safetensors"


@pytest.mark.parametrize("name", ["encoder-best.safetensors", "editor.safetensors", "model.safetensors"])
def test_other_folders_with_weights(name):
    folder = Path("folder")
    folder.mkdir()
    (folder / name).touch()
    (folder / "else.safetensors").touch()
    assert locate(folder) == folder / name


def test_weights_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(locate_module, "PRETRAINED", tmp_path)
    for name in locate_module.SHIPPED:
        (tmp_path / f"{name}.safetensors").touch()
        assert shipped_file(name) == tmp_path / f"{name}.safetensors"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("generator", "install it again, or pass --network FILE"),
        ("sex", "install it again"),
        ("editor", "comes without editor.safetensors; pass --editor FILE"),
    ],
)
def test_weights_that_the_package_lacks(tmp_path, monkeypatch, name, says):
    monkeypatch.setattr(locate_module, "PRETRAINED", tmp_path)
    assert_refused(says, shipped_file, name, error=FileNotFoundError)


@pytest.mark.parametrize("reference", [".", "empty", Path("empty")])
def test_a_folder_without_weights(reference):
    Path("empty").mkdir()
    assert_refused("name that file", locate, reference, error=FileNotFoundError)


# --- what is published, and addresses ---


@pytest.mark.parametrize("name", ["ffhq256", "ffhq512", "ffhq1024", "celebahq256", "lsundog256"])
def test_published_networks(name, no_network):
    locate(name)
    ((url,),) = no_network
    assert url == PUBLISHED[name]
    assert url.startswith("https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/")
    assert f"res{name.lstrip('abcdefhlnogqsu')}-" in url


def test_an_address_is_downloaded():
    with WeightServer() as server:
        path = locate(server.put("/x.pkl", b"weights"))
        assert path.read_bytes() == b"weights"
        assert_refused("download the file by hand", locate, f"{server.url}/y.pkl")


def test_an_address_with_a_hash_is_checked():
    with WeightServer() as server:
        url = server.put("/x.pkl", b"weights")
        right = hashlib.sha256(b"weights").hexdigest()
        assert_refused("not the expected file", locate, f"{url}#sha256={'0' * 64}")
        assert locate(f"{url}#sha256={right.upper()}").read_bytes() == b"weights"
        for wrong in ("", right[:-1], "x" * 64):
            assert_refused("is no SHA-256", locate, f"{url}#sha256={wrong}")


@pytest.mark.parametrize(
    ("reference", "hub"),
    [
        ("hf://org/name", ("org/name", None, None)),
        ("hf://org/name@v1.0", ("org/name", None, "v1.0")),
        ("hf://org/name/a/b.safetensors", ("org/name", "a/b.safetensors", None)),
        ("hf://org/name/b.safetensors@refs/pr/1", ("org/name", "b.safetensors", "refs/pr/1")),
        ("org/name", ("org/name", None, None)),
        ("org-x/na.me_2@main", ("org-x/na.me_2", None, "main")),
    ],
)
def test_hub_ids(reference, hub, no_network):
    locate(reference)
    assert no_network == [hub]


@pytest.mark.parametrize(
    "reference",
    [
        "no/such.pkl", "no/such.safetensors", "runs/00000-gone", "a/b/c", "/org/name", "../org", "org//name", "name",
        "org/name@", "org/", "", "ffhq 256", "C:\\nets\\x", "-x/-y", "org/näme", "org/name\nx", Path("org/name"),
        Path("ffhq256"), "https://h/x\ny", "a\0b", "x" * 5000, "o/" + "x" * 300 + ".pkl",
    ],
)  # fmt: skip
def test_what_is_nothing(reference, no_network):
    Path("runs").mkdir()  # so that runs/... is a path that was mistyped, not the hub's
    assert_refused("a published network (ffhq256, ", locate, reference, error=FileNotFoundError)
    assert no_network == []


@pytest.mark.parametrize(
    ("typo", "meant"), [("ffhq-256", "ffhq256"), ("FFHQ256", "ffhq256"), ("celeba256", "celebahq256")]
)
def test_a_typo_in_a_name(typo, meant, no_network):
    assert_refused(f"did you mean {meant}", locate, typo, error=FileNotFoundError)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ftp://host/x.pkl", "must begin with https"),
        ("s3://bucket/x", "must begin with https"),
        ("hf://name", "not of the form"),
        ("hf://org/name/", "not of the form"),
        ("hf://", "not of the form"),
        ("https://", "must begin with"),
        ("hf://org/name/x.pkl", "https://huggingface.co/org/name/resolve/main/x.pkl"),
        ("hf://org/name/../x.safetensors", "only .safetensors"),
    ],
)
def test_addresses_that_are_none(address, words):
    assert_refused(words, locate, address)


# --- the hub, as a server of the test's own plays it ---


def point_hub_at(url, monkeypatch):
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    # Its versions before 1.0 keep a copy here.
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


def asked_of(hub):
    """The files of repositories that were asked for; huggingface_hub has questions of its own."""
    return [path for _, path, _ in hub.log if "/resolve/" in path]


@pytest.fixture
def hub(monkeypatch):
    with WeightServer() as server:
        point_hub_at(server.url, monkeypatch)
        monkeypatch.setattr("huggingface_hub.hf_api.HfApi.list_repo_files", _list_files(server))
        server.headers["X-Repo-Commit"] = COMMIT
        server.missing = (404, "EntryNotFound")
        yield server


def _list_files(server):
    """The real one's requests differ between the versions of huggingface_hub."""

    def list_repo_files(self, repository, *, revision=None):
        prefix = f"/{repository}/resolve/{revision or 'main'}/"
        return [path.removeprefix(prefix) for path in server.files if path.startswith(prefix)]

    return list_repo_files


def offer(hub, *names, revision="main"):
    for name in names:
        hub.put(f"/org/name/resolve/{revision}/{name}", f"content of {name}".encode())


def test_a_repository_gives_its_weights_and_its_config(hub, tmp_path):
    offer(hub, "model.safetensors", "config.json", "README.md", "pytorch_model.bin", "other.safetensors")
    path = locate("org/name")
    assert path.read_bytes() == b"content of model.safetensors"
    assert path.is_relative_to(tmp_path / "cache" / "hub")
    assert sorted(file.name for file in path.parent.iterdir()) == ["config.json", "model.safetensors"]
    assert {path.rsplit("/", 1)[-1] for path in asked_of(hub)} == {"config.json", "model.safetensors"}
    assert locate("hf://org/name") == path
    assert sum(method == "GET" and "/resolve/" in path for method, path, _ in hub.log) == 2


def test_the_only_safetensors_file_of_a_repository(hub):
    offer(hub, "generator.safetensors", "README.md")
    assert locate("hf://org/name").name == "generator.safetensors"


def test_a_named_file_of_a_revision(hub):
    offer(hub, "a/b.safetensors", revision="v1")
    assert locate("hf://org/name/a/b.safetensors@v1").read_bytes() == b"content of a/b.safetensors"


def test_a_repository_without_one_clear_file(hub):
    offer(hub, "README.md", "x.bin")
    assert_refused("has no .safetensors file", locate, "org/name")
    offer(hub, "a.safetensors", "b.safetensors")
    assert_refused("(a.safetensors, b.safetensors); name one, as in hf://", locate, "org/name")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ((401, "RepoNotFound"), "no such repository on the hub, or a private one"),
        ((404, "RepoNotFound"), "no such repository on the hub, or a private one"),
        ((403, "GatedRepo"), "accept its terms at https://huggingface.co/org/name"),
        ((404, "RevisionNotFound"), "no such revision"),
        ((404, "EntryNotFound"), "no such file"),
        ((403, ""), ""),
    ],
)
def test_the_hub_says_no(hub, missing, words):
    hub.missing = missing
    message = assert_refused(words, locate, "hf://org/name/x.safetensors@v2")
    assert message.startswith("hf://org/name/x.safetensors@v2: ")
    assert len(message) < 400


@pytest.mark.parametrize("reference", ["org/name", "hf://org/name/x.safetensors"])
def test_the_hub_is_not_there(reference, monkeypatch):
    point_hub_at("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # huggingface_hub asks six times, longer apart each time
    message = assert_refused("the hub cannot be reached", locate, reference)
    assert ("no such file or folder; as hf://" in message) == (reference == "org/name")


@pytest.mark.parametrize("variable", ["FACEGEN_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_takes_what_the_cache_has(hub, monkeypatch, variable):
    offer(hub, "model.safetensors")
    path = locate("org/name")
    count = len(asked_of(hub))
    monkeypatch.setenv(variable, "1")
    assert locate("org/name") == path
    assert_refused("FACEGEN_OFFLINE or HF_HUB_OFFLINE forbids", locate, "org/other")
    assert len(asked_of(hub)) == count


@pytest.mark.parametrize(
    "name",
    [
        "../../x.safetensors",
        "/x.safetensors",
        "a\\\\..\\\\x.safetensors",
        "a\x1b[2J.safetensors",
        f"{'n' * 300}.safetensors",
    ],
)
def test_files_with_names_that_are_none(hub, name):
    offer(hub, name)
    assert_refused("has no .safetensors file", locate, "org/name")


@pytest.mark.parametrize("header", ["ETag", "X-Repo-Commit"])
def test_a_hub_that_names_a_place_outside_of_its_cache(hub, tmp_path, header):
    offer(hub, "model.safetensors")
    hub.headers[header] = "../../../../evil"
    assert_refused("the hub names a version", locate, "org/name")
    assert not list(tmp_path.rglob("evil"))


def test_files_that_are_too_large(hub, monkeypatch):
    offer(hub, "model.safetensors", "config.json")
    monkeypatch.setattr("facegen.weights.hub.MAX_CONFIG", 5)
    assert sorted(file.name for file in locate("org/name").parent.iterdir()) == ["model.safetensors"]
    offer(hub, "model.safetensors", revision="v2")
    monkeypatch.setattr(beside.download, "MAX_BYTES", 5)
    assert_refused("at most 5 are allowed", locate, "hf://org/name@v2")


def test_a_list_that_is_none(hub, monkeypatch):
    offer(hub, "generator.safetensors")
    monkeypatch.setattr("huggingface_hub.hf_api.HfApi.list_repo_files", lambda *_, **__: [{}["name"]])
    assert_refused("KeyError", locate, "org/name")


def test_a_name_that_no_repository_can_have(hub):
    assert_refused("not a valid repository name", locate, "hf://org/na--me")


def test_an_error_of_the_http_library(monkeypatch):
    def broken(*_, **__):
        raise httpx_error("a\nlong story")

    import huggingface_hub

    httpx_error = huggingface_hub.errors.HfHubHTTPError.__bases__[0]
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    assert_refused("a long story", locate, "hf://org/name")


def test_a_process_of_its_own_with_the_endpoint_in_the_environment(hub, tmp_path):
    offer(hub, "only.safetensors", "config.json")
    about = {"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": "only.safetensors"}]}
    files = [{"type": "file", "path": "only.safetensors", "size": 1, "oid": "0" * 40}]
    for path, answer in (("", about), ("/revision/main", about), ("/tree/main", files)):
        hub.put(f"/api/models/org/name{path}", json.dumps(answer).encode())
    code = "from facegen.weights.locate import locate; print(locate('org/name').name)"
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **own}, capture_output=True, text=True)
    assert done.stdout.strip() == "only.safetensors", done.stderr
