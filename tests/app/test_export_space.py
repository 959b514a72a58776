"""A Space that `facegen app --export-space` writes: what it says of itself, and that it serves the page."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import start_python
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement

from facegen.app.examples import example_photos
from facegen.app.serve import serve
from facegen.app.space import export_space
from facegen.cli.app import command
from facegen.errors import FacegenError

# The keys that the hub's documentation of Spaces names, and that we could want.
KEYS = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "app_port"),
    *("base_path", "fullWidth", "header", "short_description", "models", "datasets", "tags", "thumbnail", "pinned"),
    *("license", "suggested_hardware", "startup_duration_timeout", "disable_embedding"),
}
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_what_a_space_says_of_itself_is_what_the_hub_knows(tmp_path):
    paths = export_space(tmp_path / "space")
    assert {path.name for path in paths} == {"README.md", "app.py", "requirements.txt"}
    content = SpaceCard.load(tmp_path / "space" / "README.md").data.to_dict()
    assert set(content) <= KEYS
    assert content["sdk"] == "gradio"
    assert content["sdk_version"] == version("gradio")
    assert content["python_version"] == "3.12"  # text: as a number, 3.10 would be 3.1
    assert (tmp_path / "space" / content["app_file"]).is_file()
    assert {content["colorFrom"], content["colorTo"]} <= COLORS
    assert len(content["short_description"]) <= 60  # the hub refuses more


def test_requirements_ask_for_facegen_with_the_page(tmp_path):
    export_space(tmp_path)
    lines = (tmp_path / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (wanted,) = [Requirement(line) for line in lines if not line.startswith(("#", "--"))]
    assert wanted.name == "facegen"
    assert "app" in wanted.extras


def test_a_clone_of_a_new_space_is_filled_and_filled_again(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitattributes").write_text("*.bin filter=lfs\n", encoding="utf-8")
    assert export_space(tmp_path) == export_space(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("name", ["thesis.tex", "README.md"])
def test_files_of_others_stay(tmp_path, name):
    (tmp_path / name).write_text("mine", encoding="utf-8")
    outcome = CliRunner().invoke(command, ["--export-space", str(tmp_path)])
    assert isinstance(outcome.exception, FacegenError)
    assert name in str(outcome.exception)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


def test_the_command_still_asks_for_a_password():
    with pytest.raises(FacegenError, match="password"):
        serve(host="0.0.0.0")
    outcome = CliRunner().invoke(command, ["--host", "0.0.0.0"])
    assert outcome.exit_code == 2
    assert "--password" in outcome.output


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The address of a Space, run as the hub runs it."""
    (app,) = [path for path in export_space(tmp_path_factory.mktemp("space")) if path.name == "app.py"]
    port = _free_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
        environment.setenv("GRADIO_SERVER_PORT", str(port))
        environment.setenv("SYSTEM", "spaces")
        environment.setenv("SPACE_ID", "somebody/facegen")
        environment.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        process = start_python(str(app))
    try:
        address = f"http://127.0.0.1:{port}/"
        _fetched(address, process)
        yield address
    finally:
        process.kill()
        process.communicate()


def test_its_page_is_served_to_everybody(space):
    with urllib.request.urlopen(space) as answer:
        page = answer.read().decode()
    assert 'content="facegen"' in page
    assert "Change age" in page  # the page itself, no form for a password


def test_its_examples_work(space, browser):
    tab = browser.new_page()
    tab.goto(space)
    for name, path in example_photos().items():
        tab.get_by_role("button", name=name).click()
        tab.wait_for_selector(f"#photo img[src*='{path.name}']")
        tab.wait_for_selector("#compare .compare:not([hidden])", timeout=60_000)
        tab.get_by_label("Remove Image").click()
        tab.wait_for_selector("#compare .hint:not([hidden])")
    tab.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _fetched(address: str, process: subprocess.Popen, seconds: float = 90) -> str:
    """A page, as soon as it is there."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            assert process.poll() is None, process.stderr
            assert time.monotonic() < end, "the page does not come up"
            time.sleep(0.5)
