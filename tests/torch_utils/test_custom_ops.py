"""Building the CUDA operations: that nvcc can, what is said where it cannot. No GPU is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch

from torch_utils import custom_ops

TOOLKIT = custom_ops.find_toolkit()
needs_nvcc = pytest.mark.skipif(TOOLKIT is None, reason="no CUDA toolkit here: nvcc and its headers")


@needs_nvcc
@pytest.mark.parametrize("name", ["bias_act", "upfirdn2d"])
def test_nvcc_compiles_for_every_target(name, tmp_path):
    source = next(path for path in custom_ops.source_files() if path.name == f"{name}.cu")
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in (80, 90)]
    options = ["-std=c++17", "-Werror=all-warnings", "-Xptxas=-O1"]  # hardly optimised: only half a minute
    done = subprocess.run(
        [TOOLKIT / "bin" / "nvcc", *options, *targets, "-c", source, "-o", tmp_path / "kernels.o"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kernels.o").stat().st_size > 10_000


@needs_nvcc
@pytest.mark.slow
def test_the_whole_build(tmp_path, monkeypatch, capfd):
    # As on a GPU of each kind, up to loading the library; two minutes on one slow core.
    pretend_a_gpu(monkeypatch, tmp_path, ["sm_80", "sm_90"])
    custom_ops.load()
    assert custom_ops.build_state().state == "built"
    assert "Building the CUDA operations for sm_80, sm_90: once" in capfd.readouterr().err
    for name in ("bias_act", "bias_act_grad", "upfirdn2d"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"torch_utils::{name}", "CUDA")


def test_every_source_is_there():
    files = custom_ops.source_files()
    assert all(path.is_file() for path in files)
    folder = files[0].parent
    assert set(files) == {path for path in folder.iterdir() if path.suffix in (".h", ".cpp", ".cu")}


def test_every_source_is_in_the_package():
    config = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for suffix in (".h", ".cpp", ".cu"):
        assert f'"ops/*{suffix}"' in config


# --- Where it cannot be built ---------------------------------------------------------------------------------------


def pretend_a_gpu(monkeypatch, folder: Path, names: list[str] | None = None) -> None:
    monkeypatch.setattr(custom_ops, "_ready", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", torch.version.cuda or "13.0")
    monkeypatch.setattr(custom_ops, "architectures", lambda: names or ["sm_90"])
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
    monkeypatch.delenv(custom_ops.SWITCH, raising=False)


def fake_toolkit(folder: Path, version: str, build: str = "exit 0") -> Path:
    """A CUDA toolkit that answers with that version, and whose compiler does what `build` says."""
    (folder / "bin").mkdir(parents=True)
    (folder / "include").mkdir()
    (folder / "include" / "cuda_runtime_api.h").touch()
    nvcc = folder / "bin" / "nvcc"
    answer = f"Cuda compilation tools, release {version}, V{version}.88"
    nvcc.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{answer}"; exit 0; fi\n{build}\n')
    nvcc.chmod(0o755)
    return folder


def refuses(reason: str, fix: str) -> None:
    """Nothing is built, one warning tells why, and the state tells the same."""
    with pytest.warns(RuntimeWarning, match="the CUDA operations are not compiled: ") as caught:
        assert not custom_ops.ready()
    assert len(caught) == 1
    assert reason in str(caught[0].message)
    assert fix in str(caught[0].message)
    assert "plain PyTorch computes the same" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not custom_ops.ready()  # the second time, silently


def refuses_beforehand(reason: str, fix: str) -> None:
    refuses(reason, fix)
    state = custom_ops.build_state()
    assert state.state == "cannot be built"
    assert reason in state.reason
    assert fix in state.fix


def test_switched_off(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    monkeypatch.setenv("TORCH_UTILS_OPS", "off")
    refuses_beforehand("switched off by TORCH_UTILS_OPS=off", "unset TORCH_UTILS_OPS")


def test_no_gpu(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuses_beforehand("PyTorch finds no CUDA GPU", "nvidia-smi")


def test_pytorch_without_cuda(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    monkeypatch.setattr(torch.version, "cuda", None)
    refuses_beforehand("is built without CUDA", "install PyTorch for CUDA")


def test_no_toolkit(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    monkeypatch.setattr(custom_ops, "find_toolkit", lambda: None)
    refuses_beforehand("no CUDA toolkit", f"install CUDA toolkit {torch.version.cuda}")


def test_toolkit_of_another_version(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(fake_toolkit(tmp_path / "cuda", "9.2")))
    refuses_beforehand("is version 9.2, PyTorch was built with", f"install CUDA toolkit {torch.version.cuda}")


def test_toolkit_that_does_not_run(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    toolkit = fake_toolkit(tmp_path / "cuda", "13.0")
    (toolkit / "bin" / "nvcc").write_text("#!/no/such/shell\n")
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    refuses_beforehand("nvcc does not run", "set CUDA_HOME")


def test_no_compiler(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(fake_toolkit(tmp_path / "cuda", torch.version.cuda)))
    monkeypatch.setattr(custom_ops, "find_compiler", lambda: None)
    refuses_beforehand("no C++ compiler is found", "install g++")


def test_no_ninja(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(fake_toolkit(tmp_path / "cuda", torch.version.cuda)))
    monkeypatch.setattr(custom_ops, "find_compiler", lambda: "/usr/bin/c++")
    monkeypatch.setattr(custom_ops.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    refuses_beforehand("ninja, which runs the compilers, is not found", "pip install ninja")


def test_a_source_is_missing(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    monkeypatch.setattr(custom_ops, "HEADERS", ("none.h",))
    refuses_beforehand("none.h is missing", "install the package again")


def test_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    pretend_a_gpu(monkeypatch, tmp_path / "file")
    monkeypatch.setattr(custom_ops, "check_tools", lambda: tmp_path)
    refuses("Not a directory", "facegen doctor")


@pytest.mark.skipif(shutil.which("ninja") is None or custom_ops.find_compiler() is None, reason="needs ninja and c++")
def test_the_compiler_fails(monkeypatch, tmp_path, capfd):
    pretend_a_gpu(monkeypatch, tmp_path / "cache")
    failing = 'echo "kernels.cu(7): error: expected a ;" >&2; exit 1'
    monkeypatch.setenv("CUDA_HOME", str(fake_toolkit(tmp_path / "cuda", torch.version.cuda, failing)))
    compiler = tmp_path / "c++"  # PyTorch asks which it is, then hands it the sources
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *-c*) exit 1;; esac\nexec {custom_ops.find_compiler()} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("MAX_JOBS", "1")
    path = os.environ["PATH"]
    refuses("the build failed", "build.log")
    assert os.environ["PATH"] == path
    assert custom_ops.build_state().state == "not built yet", "the next process tries again"
    assert "FAILED" in next((tmp_path / "cache").rglob("build.log")).read_text()
    assert "Building the CUDA operations for sm_90: once, about a minute" in capfd.readouterr().err


def test_the_first_error_is_shown():
    log = "Error building extension\n[1/4] nvcc ...\nkernels.cu(7): error: expected a ;\nninja: build stopped\n"
    assert custom_ops._first_line(RuntimeError(log)) == "kernels.cu(7): error: expected a ;"
    assert custom_ops._first_line(RuntimeError("only this")) == "only this"
    assert custom_ops._first_line(RuntimeError()) == "RuntimeError"


# --- Where it can be ------------------------------------------------------------------------------------------------


def pretend_to_build(monkeypatch, tmp_path, loads) -> None:
    from torch.utils import cpp_extension

    pretend_a_gpu(monkeypatch, tmp_path)
    monkeypatch.setattr(custom_ops, "check_tools", lambda: tmp_path)
    monkeypatch.setattr(cpp_extension, "load", loads)
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)


def test_several_processes_build_once(monkeypatch, tmp_path):
    builds = []

    def load(**options):
        builds.append(options)
        time.sleep(0.3)

    pretend_to_build(monkeypatch, tmp_path, load)
    # Threads stand for processes: the file lock treats both alike.
    threads = [threading.Thread(target=custom_ops.load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert builds[0]["extra_cuda_cflags"][-1] == "-gencode=arch=compute_90,code=sm_90"
    assert {Path(name).suffix for name in builds[0]["sources"]} == {".cpp", ".cu"}
    assert custom_ops.build_state().state == "built"


def test_a_killed_build_is_begun_anew(monkeypatch, tmp_path):
    builds = []
    pretend_to_build(monkeypatch, tmp_path, lambda **options: builds.append(options))
    folder = custom_ops.build_folder()
    folder.mkdir(parents=True)
    (folder / "torch_utils_ops.so").write_bytes(b"half")  # what a killed linker leaves
    (folder / "lock").touch()  # what a killed PyTorch leaves, and then waits for
    custom_ops.load()
    assert len(builds) == 1
    assert not (folder / "lock").exists()
    assert (folder / "complete").exists()


def test_another_pytorch_gpu_or_source_is_another_build(monkeypatch, tmp_path):
    pretend_a_gpu(monkeypatch, tmp_path)
    folders = {custom_ops.build_folder()}
    monkeypatch.setattr(custom_ops, "architectures", lambda: ["sm_80"])
    folders.add(custom_ops.build_folder())
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    folders.add(custom_ops.build_folder())
    monkeypatch.setattr(custom_ops, "HEADERS", custom_ops.HEADERS[:-1])
    folders.add(custom_ops.build_folder())
    assert len(folders) == 4
    assert all(folder.is_relative_to(tmp_path) for folder in folders)


def test_tried_once_in_a_process(monkeypatch):
    tries = []
    monkeypatch.setattr(custom_ops, "_ready", None)
    monkeypatch.setattr(custom_ops, "_try_to_load", lambda: tries.append(time.sleep(0.1)) is None)
    threads = [threading.Thread(target=custom_ops.ready) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) == 1
