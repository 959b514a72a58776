"""facegen in the company of other packages called torch_utils and dnnlib: ours are ours, theirs are theirs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import facegen
from facegen import beside

ROOT = Path(facegen.__file__).parents[1]  # of the packages, installed or not
THEIRS = {  # what a checkout of the StyleGAN family has under these names
    "torch_utils/__init__.py": "",
    "torch_utils/custom_ops.py": "def get_plugin(*args): raise RuntimeError('no CUDA')",
    "torch_utils/persistence.py": "class Network: owner = 'theirs'",
    "torch_utils/ops/__init__.py": "",
    "torch_utils/ops/bias_act.py": "def bias_act(x, *args, **kwargs): raise AssertionError('their bias_act')",
    "torch_utils/ops/upfirdn2d.py": "def upfirdn2d(x, f): raise AssertionError('their upfirdn2d')",
    "dnnlib/__init__.py": "from .util import EasyDict\nowner = 'theirs'",
    "dnnlib/util.py": "class EasyDict(dict): pass",
}
USE_OURS = """
import torch
from facegen.networks.layers import FullyConnectedLayer
assert FullyConnectedLayer(3, 2, activation="lrelu")(torch.ones(1, 3)).shape == (1, 2)
import facegen.files, facegen.weights.cache
"""
USE_THEIRS = """
import dnnlib, dnnlib.util
from torch_utils import persistence
from torch_utils.ops import bias_act
assert dnnlib.owner == persistence.Network.owner == "theirs"
assert not hasattr(bias_act, "activation_funcs")
"""
UNPICKLE_THEIRS = """
import pickle
assert type(pickle.loads(b"ctorch_utils.persistence\\nNetwork\\n)\\x81.")).owner == "theirs"
"""
IN_A_WORKER = """
import concurrent.futures, multiprocessing
from facegen.beside import download
def fail(): raise download.DownloadError("one line")
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            pool.submit(fail).result()
        except download.DownloadError:  # pickled in the worker, by its class's name
            pass
        else:
            raise AssertionError
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    for name, text in THEIRS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    """Run Python in `folder`, which it looks into before all others."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        USE_OURS + USE_THEIRS,
        USE_THEIRS + USE_OURS,
        "import facegen, dnnlib\n" + USE_OURS + USE_THEIRS,
        USE_OURS + UNPICKLE_THEIRS,
        UNPICKLE_THEIRS + USE_OURS + USE_THEIRS,
    ],
    ids=["ours first", "theirs first", "mixed", "a pickle after", "a pickle before"],
)
def test_each_gets_its_own(checkout, code):
    run(checkout, "-c", code)


def test_theirs_may_come_into_the_path_later(checkout, tmp_path_factory):
    code = USE_OURS + f"import sys; sys.path.insert(0, {str(checkout)!r})\n" + USE_THEIRS + USE_OURS
    run(tmp_path_factory.mktemp("elsewhere"), "-c", code)


def test_worker_processes(checkout):
    (checkout / "script.py").write_text(IN_A_WORKER + USE_OURS + USE_THEIRS, encoding="utf-8")
    run(checkout, "script.py")


def test_commands(checkout):
    from facegen.weights.locate import shipped_file

    assert "generator" in run(checkout, "-m", "facegen", "info", str(shipped_file("generator")))


@pytest.mark.parametrize("first", ["from facegen.beside import", "from torch_utils.ops import"])
def test_ours_under_both_names(tmp_path, first):
    """Where `torch_utils` is ours, it is loaded twice; PyTorch knows its operations once."""
    second = {"from facegen.beside import", "from torch_utils.ops import"} - {first}
    code = (
        f"{first} bias_act as a\n{second.pop()} bias_act as b\n"
        "import torch; x = torch.randn(2, 3)\n"
        "assert a is not b and a.__file__ == b.__file__\n"
        "for compiled in (a, b):\n"
        "    run = torch.compile(lambda x: compiled.bias_act(x, act='lrelu'), backend='eager')\n"
        "    assert torch.equal(run(x), a.bias_act(x, act='lrelu'))\n"
        "assert torch.ops.torch_utils.bias_act(x, None, 1, 'lrelu', 0.2, 1.0, None).shape == x.shape\n"
    )
    run(tmp_path, "-c", code)


def test_names_are_modules_beside_facegen():
    for name in beside.__all__:
        assert Path(getattr(beside, name).__file__).relative_to(ROOT).parts[0] in ("dnnlib", "torch_utils")
    with pytest.raises(AttributeError):
        _ = beside.persistence


def test_no_module_imports_these_names_at_run_time():
    """`facegen.beside` names them for mypy alone; the two packages import each other's modules with relative names."""
    files = [path for room in ("facegen", "dnnlib", "torch_utils") for path in (ROOT / room).rglob("*.py")]
    for path in files:
        if path.name == "beside.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(node.module)
            assert not {name.split(".")[0] for name in names} & {"dnnlib", "torch_utils"}, path
