import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from facegen import doctor
from facegen.cli import main
from torch_utils import custom_ops
from torch_utils.custom_ops import BuildState


def findings() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine()}


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU of the year, as PyTorch tells of it; returns what can be changed about it."""
    about = SimpleNamespace(name="NVIDIA Test", major=9, minor=0, total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: about)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: about.name)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90", "compute_120"])
    monkeypatch.setattr(custom_ops, "build_state", lambda: BuildState("not built yet", folder=Path("/cache")))
    return about


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def nvidia_smi(monkeypatch, answers: dict[str, str | None]) -> None:
    """Let nvidia-smi answer; None fails."""
    monkeypatch.setattr(doctor, "_output", lambda *command: answers.get(command[-1].split("=")[0]))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")


def test_a_real_process():
    done = subprocess.run([sys.executable, "-m", "facegen", "doctor"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("facegen", "PyTorch", "processor", "driver", "GPU", "nvcc", "C++ compiler", "CUDA operations"):
        assert f"  {name} " in done.stdout or f"! {name} " in done.stdout or f"+ {name} " in done.stdout
    assert torch.__version__ in done.stdout


@pytest.mark.parametrize(("answer", "told"), [("1", "has bfloat16: "), ("0", "has no instructions for bfloat16: ")])
def test_the_processor(monkeypatch, answer, told):
    monkeypatch.setenv("FACEGEN_BFLOAT16", answer)
    assert findings()["processor"].value.startswith(told)
    assert findings()["processor"].good is None


def test_no_gpu_is_no_fault(no_gpu, monkeypatch):
    nvidia_smi(monkeypatch, {})
    found = findings()
    assert found["GPU"].value.startswith("none: facegen runs on the CPU")
    assert found["CUDA operations"].value.startswith("plain PyTorch instead, the same numbers: ")
    assert found["GPU"].fix == found["CUDA operations"].fix == ""


def test_a_gpu_with_everything(gpu):
    found = findings()
    assert found["GPU"].value == "NVIDIA Test, 80 GiB, sm_90"
    assert found["GPU"].good
    assert found["CUDA operations"].good
    assert found["CUDA operations"].value.startswith("not built yet: the first use builds them")


def test_built(gpu, monkeypatch):
    monkeypatch.setattr(custom_ops, "build_state", lambda: BuildState("built", folder=Path("/cache")))
    assert findings()["CUDA operations"].value == f"built, in {Path('/cache')}"


def test_fallback(gpu, monkeypatch):
    monkeypatch.setattr(custom_ops, "build_state", lambda: BuildState("cannot be built", "no nvcc", "install it"))
    result = CliRunner().invoke(main, ["doctor"])
    assert "! CUDA operations" in result.output
    assert "plain PyTorch instead, the same numbers: no nvcc" in result.output
    assert "To mend CUDA operations: install it." in result.output


@pytest.mark.parametrize(
    ("version", "good"),
    [((7, 0), False), ((8, 0), True), ((8, 9), True), ((9, 0), True), ((10, 0), False), ((12, 0), True)],
)
def test_a_gpu_that_pytorch_has_no_code_for(gpu, version, good):
    gpu.major, gpu.minor = version
    finding = findings()["GPU"]
    assert finding.good is good
    assert good or finding.fix.startswith(f"install a PyTorch with code for sm_{version[0]}{version[1]}; this one has")


def test_a_gpu_that_pytorch_does_not_see(no_gpu, monkeypatch):
    nvidia_smi(monkeypatch, {"--list-gpus": "GPU 0: NVIDIA Test", "--format": "390.10"})
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = findings()
    assert found["driver"].value == "390.10"
    assert found["GPU"].value == "there is one, but PyTorch cannot use it"
    assert "install a driver for CUDA 13.0 or newer" in found["GPU"].fix
    monkeypatch.setattr(torch.version, "cuda", None)
    assert findings()["GPU"].fix == "install PyTorch with CUDA: https://pytorch.org"


def test_a_driver_that_does_not_answer(no_gpu, monkeypatch):
    nvidia_smi(monkeypatch, {})
    assert findings()["driver"].fix == "run `nvidia-smi` and do what it says"


def test_no_tools(monkeypatch):
    monkeypatch.setattr(custom_ops, "find_toolkit", lambda: None)
    monkeypatch.setattr(custom_ops, "find_compiler", lambda: None)
    found = findings()
    assert found["nvcc"].value == found["C++ compiler"].value == "none"


def test_json(gpu, monkeypatch):
    monkeypatch.setattr(custom_ops, "build_state", lambda: BuildState("cannot be built", "no nvcc", "install it"))
    about = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).output)
    assert about["gpus"] == ["NVIDIA Test"]
    assert about["fallback"] is True
    assert about["operations"] == {"state": "cannot be built", "reason": "no nvcc", "fix": "install it", "folder": None}
    assert [entry["name"] for entry in about["findings"]] == list(findings())


@pytest.mark.parametrize("fails", [True, False])
def test_build(gpu, monkeypatch, fails):
    def load():
        if fails:
            raise custom_ops.CannotBuildError("the build failed (no space)", "read build.log")

    monkeypatch.setattr(custom_ops, "load", load)
    result = CliRunner().invoke(main, ["doctor", "--build"])
    assert result.exit_code == 0
    if fails:
        assert "the build failed (no space)" in result.output
        assert "To mend the build: read build.log." in result.output
    else:
        assert "+ the build" in result.output
