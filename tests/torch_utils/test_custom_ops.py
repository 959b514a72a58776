"""Building the CUDA operations: that nvcc can, what is said where it cannot. No GPU is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from facegen.beside.torch_utils import custom_ops

TOOLKIT = custom_ops.find_toolkit()
needs_nvcc = pytest.mark.skipif(TOOLKIT is None, reason="no CUDA toolkit here: nvcc and its headers")


@pytest.fixture
def machine(monkeypatch, tmp_path) -> pytest.MonkeyPatch:
    """Pretend that this machine has a GPU and all that a build needs, with a fake nvcc; tests take one thing away."""
    monkeypatch.setattr(custom_ops, "_ready", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", torch.version.cuda or "13.0")
    monkeypatch.setattr(custom_ops, "architectures", lambda: ["sm_90"])
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_HOME", fake_toolkit(tmp_path / "cuda", torch.version.cuda))
    monkeypatch.delenv(custom_ops.SWITCH, raising=False)
    return monkeypatch


def fake_toolkit(folder: Path, version: str, build: str = "exit 0") -> str:
    """Make a CUDA toolkit that answers with that version, and whose compiler does what `build` says."""
    (folder / "bin").mkdir(parents=True)
    (folder / "include").mkdir()
    (folder / "include" / "cuda_runtime_api.h").touch()
    nvcc = folder / "bin" / "nvcc"
    answer = f"Cuda compilation tools, release {version}, V{version}.88"
    nvcc.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{answer}"; exit 0; fi\n{build}\n')
    nvcc.chmod(0o755)
    return str(folder)


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bias_act", "upfirdn2d"])
def test_nvcc_compiles_for_every_target(name, tmp_path):
    source = next(path for path in custom_ops.source_files() if path.name == f"{name}.cu")
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in (80, 90)]
    options = ["-std=c++17", "-Werror=all-warnings", "-Xptxas=-O1"]  # hardly optimized: only half a minute
    command = [TOOLKIT / "bin" / "nvcc", *options, *targets, "-c", source, "-o", tmp_path / "kernels.o"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kernels.o").stat().st_size > 10_000


@needs_nvcc
@pytest.mark.slow
def test_the_whole_build(machine, capfd):
    # As on a GPU of each kind, up to loading the library; two minutes on one slow core.
    machine.setattr(custom_ops, "architectures", lambda: ["sm_80", "sm_90"])
    machine.setenv("CUDA_HOME", str(TOOLKIT))
    custom_ops.load()
    assert custom_ops.build_state().state == "built"
    assert "Building the CUDA operations for sm_80, sm_90: once" in capfd.readouterr().err
    for name in ("bias_act", "bias_act_grad", "upfirdn2d"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"torch_utils::{name}", "CUDA")


def test_every_source_is_there():
    files = custom_ops.source_files()
    assert all(path.is_file() for path in files)
    folder = files[0].parent
    assert folder.name == "cuda"
    assert files == sorted(folder.iterdir())
    assert {path.suffix for path in files} == {".h", ".cpp", ".cu"}


def test_every_source_is_in_the_package():
    config = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'torch_utils = ["ops/cuda/*"]' in config


# --- Where it cannot be built ---------------------------------------------------------------------------------------


def take_compiler_away(machine: pytest.MonkeyPatch, folder: Path) -> None:
    machine.delenv("CXX", raising=False)
    machine.setenv("PATH", "/nowhere")


def take_ninja_away(machine: pytest.MonkeyPatch, folder: Path) -> None:
    machine.setenv("CXX", custom_ops.find_compiler() or pytest.skip("needs c++"))
    machine.setenv("PATH", "/nowhere")
    machine.setattr(sys, "executable", str(folder / "python"))


@pytest.mark.parametrize(
    ("spoil", "reason", "fix"),
    [
        (lambda machine, _: machine.setenv("TORCH_UTILS_OPS", "off"), "switched off", "unset TORCH_UTILS_OPS"),
        (lambda machine, _: machine.setattr(torch.cuda, "is_available", lambda: False), "no CUDA GPU", "nvidia-smi"),
        (lambda machine, _: machine.setattr(torch.version, "cuda", None), "without CUDA", "install PyTorch for CUDA"),
        (lambda machine, folder: machine.setattr(custom_ops, "SOURCES", folder), "missing", "install the package"),
        (
            lambda machine, folder: machine.setenv("CUDA_HOME", fake_toolkit(folder / "old", "9.2")),
            "version 9.2",
            "install CUDA toolkit ",
        ),
        (
            lambda _, folder: (folder / "cuda" / "bin" / "nvcc").write_text("#!/no/such/shell\n"),
            "nvcc does not run",
            "CUDA_HOME",
        ),
        (take_compiler_away, "no C++ compiler", "g++"),
        (take_ninja_away, "ninja", "pip install ninja"),
    ],
)
def test_where_it_cannot_be_built_one_warning_says_why_and_what_to_do(machine, tmp_path, spoil, reason, fix):
    spoil(machine, tmp_path)
    with pytest.warns(RuntimeWarning, match="the CUDA operations are not compiled") as caught:
        assert not custom_ops.ready()
    assert len(caught) == 1
    state = custom_ops.build_state()
    assert state.state == "cannot be built"
    for text in (str(caught[0].message), state.reason + state.fix):
        assert reason in text
        assert fix in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not custom_ops.ready()  # the second time, silently


@pytest.mark.skipif(shutil.which("ninja") is None or custom_ops.find_compiler() is None, reason="needs ninja and c++")
def test_the_compiler_fails(machine, tmp_path):
    compiler = tmp_path / "c++"  # PyTorch asks which it is, then hands it the sources
    fails = 'case "$*" in *-c*) echo "ops.cpp(7): error: expected a ;" >&2; exit 1;; esac'
    compiler.write_text(f'#!/bin/sh\n{fails}\nexec {custom_ops.find_compiler()} "$@"\n')
    compiler.chmod(0o755)
    machine.setenv("CXX", str(compiler))
    machine.setenv("CUDA_HOME", fake_toolkit(tmp_path / "failing", torch.version.cuda, "exit 1"))
    machine.setenv("MAX_JOBS", "1")
    path = os.environ["PATH"]
    with pytest.warns(RuntimeWarning, match=r"the build failed .*: read .*build\.log"):
        assert not custom_ops.ready()
    assert os.environ["PATH"] == path
    assert custom_ops.build_state().state == "not built yet", "the next process tries again"
    assert "error: expected a ;" in next((tmp_path / "cache").rglob("build.log")).read_text()


# --- Where it can be ------------------------------------------------------------------------------------------------


def test_one_of_several_builds_even_after_a_killed_build(machine):
    from torch.utils import cpp_extension

    builds = []
    machine.setattr(custom_ops, "check_tools", Path)
    machine.setattr(cpp_extension, "load", lambda **options: builds.append(options) or time.sleep(0.3))
    machine.setattr(torch.ops, "load_library", lambda path: None)
    folder = custom_ops.build_folder()
    folder.mkdir(parents=True)
    (folder / "torch_utils_ops.so").write_bytes(b"half")  # what a killed linker leaves
    (folder / "lock").touch()  # what a killed PyTorch leaves, and then waits for
    # Threads stand for processes: the file lock treats both alike.
    threads = [threading.Thread(target=work) for work in (custom_ops.load, custom_ops.load, custom_ops.ready) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert builds[0]["extra_cuda_cflags"][-1] == "-gencode=arch=compute_90,code=sm_90"
    assert {Path(name).suffix for name in builds[0]["sources"]} == {".cpp", ".cu"}
    assert not (folder / "lock").exists()
    assert custom_ops.build_state().state == "built"
    assert custom_ops.ready()


def test_another_pytorch_gpu_or_source_is_another_build(machine, tmp_path):
    folders = {custom_ops.build_folder()}
    machine.setattr(custom_ops, "architectures", lambda: ["sm_80"])
    folders.add(custom_ops.build_folder())
    machine.setattr(torch.version, "cuda", "12.9")
    folders.add(custom_ops.build_folder())
    (tmp_path / "other.cu").touch()
    machine.setattr(custom_ops, "SOURCES", tmp_path)
    folders.add(custom_ops.build_folder())
    assert len(folders) == 4
    assert all(folder.is_relative_to(tmp_path / "cache") for folder in folders)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners")
@pytest.mark.parametrize("planted", ["anybody may write", "a link", "another user's", "a library of another user's"])
def test_a_library_that_somebody_may_have_planted_is_not_loaded(machine, tmp_path, planted):
    folder = custom_ops.build_folder()
    folder.mkdir(parents=True)
    (folder / custom_ops.COMPLETE).touch()
    (folder / custom_ops.BUILT).touch()
    assert custom_ops.build_state().state == "built"
    if planted == "anybody may write":
        folder.chmod(0o777)
    elif planted == "a link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        owned = folder / custom_ops.BUILT if "library" in planted else folder
        real = Path.lstat

        def of_a_stranger(self):
            found = list(real(self))
            return os.stat_result([*found[:4], 4711, *found[5:]]) if self == owned else real(self)

        machine.setattr(Path, "lstat", of_a_stranger)
    machine.setattr(torch.ops, "load_library", lambda path: pytest.fail(f"{path} is loaded"))
    with pytest.raises(custom_ops.CannotBuildError, match="anybody's code"):
        custom_ops.load()
    assert custom_ops.build_state().state == "cannot be built"
