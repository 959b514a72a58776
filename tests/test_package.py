import ast
import importlib.metadata
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers import small_generator

import dnnlib
import facegen
import torch_utils
from facegen.ages import AgeGroups
from facegen.cli import COMMANDS, label, main
from facegen.errors import FacegenError
from facegen.networks.discriminator import Discriminator
from facegen.weights.native import save_networks

ROOT = Path(__file__).parents[1]
PLACE = Path(facegen.__file__).parents[1]  # of the packages, installed or not
PACKAGES = (facegen, dnnlib, torch_utils)
# Slow to import, and not needed by most of the package.
HEAVY = ("torchvision", "facenet_pytorch", "matplotlib", "torch_fidelity", "torchmetrics", "huggingface_hub")
# What the first word of a help text may be. A new command may bring a new verb.
VERBS = {
    *("Age", "Apply", "Blend", "Change", "Convert", "Crop", "Cut", "Draw", "Find", "Join", "Label", "Make", "Measure"),
    *("Mix", "Move", "Open", "Pack", "Project", "Show", "Train", "Turn", "Walk", "Write"),
}


def python(*arguments: str) -> subprocess.CompletedProcess:
    """Run Python in a fresh process."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


def first_word(text: str) -> str:
    return text.split()[0]


# --- Importing ------------------------------------------------------------------------------------------------------


def test_import_is_fast_and_light():
    code = (
        "import time; start = time.perf_counter(); import facegen; took = time.perf_counter() - start\n"
        f"import json, sys; print(json.dumps([took, [name for name in {HEAVY} if name in sys.modules]]))"
    )
    took, heavy = json.loads(python("-c", code).stdout)
    assert took < 2
    assert heavy == []


def test_pictures_and_figures_need_no_torch():
    code = f"import sys, facegen.faces.find, facegen.figures.grids; print({{'torch', *{HEAVY}}} & set(sys.modules))"
    assert python("-c", code).stdout == "set()\n"


def test_modules_import_neither_posix_nor_heavy_packages():
    """`None` in `sys.modules` makes an import fail. Our dependencies bring their own ways; they are imported before."""
    # One process for all of them: torch alone takes seconds.
    modules = [info.name for p in PACKAGES for info in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    assert len(modules) > 20
    modules.remove("facegen.__main__")
    # It is all about facenet-pytorch; `facegen.faces.find` imports it when it looks for faces.
    modules.remove("facegen.faces.mtcnn")
    # The page is all about gradio, an extra; what serves it and works on photos is not.
    plain = {f"facegen.app.{name}" for name in ("outline", "serve", "session", "space", "upload")}
    modules = [name for name in modules if not name.startswith("facegen.app.") or name in plain]
    code = (
        "import importlib, os, sys, filelock, psutil, torch\n"
        "sys.modules.update(fcntl=None, resource=None)\n"
        "for name in ('fork', 'register_at_fork', 'pwrite', 'sched_getaffinity', 'geteuid', 'uname', 'kill'):\n"
        "    if hasattr(os, name): delattr(os, name)\n"
        f"for module in {modules}:\n"
        "    importlib.import_module(module)\n"
        f"    heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "    assert not heavy, (module, heavy)\n"
        "import facegen.faces.mtcnn\n"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr


def test_lazy_names():
    assert facegen.AgeGroups is AgeGroups
    assert set(facegen.__all__) <= set(dir(facegen))
    for name in facegen.__all__:
        assert getattr(facegen, name).__doc__, name
    with pytest.raises(AttributeError, match="module 'facegen' has no attribute 'AgeTransfers'"):
        _ = facegen.AgeTransfers


def test_the_docs_list_the_public_names():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"`([A-Za-z_]\w*)`(?=[^|]*\|[^|]+\|$)", text, re.MULTILINE)
    assert sorted([*listed, "FacegenError", "__version__"]) == sorted(facegen.__all__)
    assert "`FacegenError`" in text


def code_in_docs() -> list[tuple[str, str]]:
    """Python in the notebooks and between the fences of the docs, with the file that it stands in.

    What IPython alone understands, such as `%pip`, is left as `pass`.
    """
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        found += [(path.name, block) for block in blocks]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        found += [(path.name, re.sub(r"^(\s*)%.*", r"\1pass", source, flags=re.MULTILINE)) for source in sources]
    return found


def test_docs_and_notebooks_use_public_names_alone():
    code = code_in_docs()
    imported = set()
    for name, text in code:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "facegen":
                assert node.module == "facegen", f"{name}: {ast.unparse(node)}"
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.startswith("facegen.")], name
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "facegen":
                imported.add(node.attr)
    assert imported
    assert imported <= set(facegen.__all__)


def test_torch_utils_and_dnnlib_know_nothing_of_facegen():
    files = [path for folder in ("torch_utils", "dnnlib") for path in (PLACE / folder).rglob("*.py")]
    assert len(files) > 5
    assert [path for path in files if re.search(r"^\s*(from|import) facegen", path.read_text(), re.MULTILINE)] == []


# --- The command line -----------------------------------------------------------------------------------------------


def test_help_lists_every_command():
    result = python("-m", "facegen", "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for name, (_, text) in COMMANDS.items():
        assert re.search(rf"^  {name} ", result.stdout, re.MULTILINE), name
        assert first_word(text) in VERBS, name
    assert "Example:" in result.stdout


def test_help_and_version_do_not_import_torch():
    """Those of all commands in one process: it shows the first that imports too much."""
    lines = [["--version"], ["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)]
    code = (
        "import sys; from facegen.cli import main\n"
        f"for line in {lines}:\n"
        "    main(line, standalone_mode=False)\n"
        f"    assert not {{'torch', *{HEAVY}}} & set(sys.modules), line\n"
        "    assert len(line) > 1 or 'numpy' not in sys.modules, line\n"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    assert facegen.__version__ in result.stdout.splitlines()[0]


def test_loading_a_generator_does_not_import_the_compiler(tmp_path):
    """torch._dynamo takes seconds, and some arithmetic on the meta device, where networks are built, imports it."""
    save_networks(
        tmp_path / "g.safetensors", {"G": small_generator(2), "D": Discriminator(2, 16, 3, channel_base=64)}, {}
    )
    code = (
        "import sys; from facegen.weights.load import read_networks\n"
        f"read_networks({str(tmp_path / 'g.safetensors')!r})\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr


def test_version_is_that_of_the_installed_package():
    try:
        installed = importlib.metadata.version("facegen")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("run from a checkout that is not installed")
    assert installed == facegen.__version__


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    usage, text = result.output.split("\n\n", 1)
    assert usage.startswith("Usage:")
    assert name in usage
    assert first_word(text) in VERBS
    assert re.search(rf"Example:\n(.*\n)*\s+facegen {name}\b", text)
    # The example must survive as it is written, a command a line.
    assert max(map(len, result.output.splitlines())) <= 100


def test_no_command_shows_the_help():
    result = CliRunner().invoke(main, [])
    assert "Commands" in result.output
    assert "transfer" in result.output


@pytest.mark.parametrize("name", ["trian", "Train", "facegen", "train.encoder"])
def test_unknown_command(name):
    result = CliRunner().invoke(main, [name])
    assert result.exit_code == 2
    assert name in result.stderr


def test_unknown_option():
    result = CliRunner().invoke(main, ["label", "--color", "red"])
    assert result.exit_code == 2
    assert "No such option" in result.output
    assert "--color" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "nowhere", "out.zip", "--source", "utkface", "--resolution", "64"],
        ["label", "nowhere"],
        ["train", "--data", "nowhere"],
        ["train", "--resume", "nowhere"],
        ["train-encoder", "--generator", "nowhere"],
        ["transfer", "nowhere", "--generator", "nowhere", "--encoder", "nowhere"],
        ["merge", "nowhere", "out.zip"],
        ["inspect", "nowhere"],
        ["info", "nowhere"],
        ["convert", "nowhere", "out.pkl"],
        ["metrics", "--network", "nowhere", "--data", "nowhere"],
    ],
    ids=" ".join,
)
def test_path_that_is_not_there(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)  # nothing that would be printed as a traceback
    (error,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert "nowhere" in error
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_library_become_one_line(monkeypatch):
    for error in (FacegenError("faces.zip: too small"), FileNotFoundError("faces.zip: too small")):

        @click.command()
        def command(error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(label, "command", command)
        result = CliRunner().invoke(main, ["label"])
        assert (result.exit_code, result.output) == (1, "Error: faces.zip: too small\n")


def test_bugs_keep_their_traceback(monkeypatch):
    # Only what a user can put right may lose its traceback.
    @click.command()
    def command() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(label, "command", command)
    result = CliRunner().invoke(main, ["label"])
    assert isinstance(result.exception, ZeroDivisionError)
