import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from facegen import doctor
from facegen.cli import main

OTHERS = ("memory", "disk", "weights", "cache", "onnx", "metrics", "video", "heic", "evaluate", "Jupyter")


def findings() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine()}


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU that PyTorch can use, where the CUDA operations are switched off."""
    about = SimpleNamespace(name="NVIDIA Test", major=9, minor=0, total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: about)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: about.name)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setenv("TORCH_UTILS_OPS", "off")


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """A function that puts an nvidia-smi of the given shell commands first in PATH, and takes GPUs from PyTorch."""

    def install(commands: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{commands}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    return install


def test_this_machine():
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0, done.output
    for name in (
        "facegen",
        "PyTorch",
        "processor",
        "driver",
        "GPU",
        "nvcc",
        "C++ compiler",
        "CUDA operations",
        *OTHERS,
    ):
        assert f"  {name} " in done.stdout or f"! {name} " in done.stdout or f"+ {name} " in done.stdout
    assert torch.__version__ in done.stdout


@pytest.mark.parametrize(("answer", "told"), [("1", "supports bfloat16"), ("0", "does not support bfloat16")])
def test_the_processor(monkeypatch, answer, told):
    monkeypatch.setenv("FACEGEN_BFLOAT16", answer)
    assert doctor.processor().value.startswith(told)


def test_no_gpu_is_no_fault(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", "/nowhere")
    found = findings()
    assert found["GPU"].value.startswith("none")
    assert found["CUDA operations"].value.startswith("not available, plain PyTorch computes the same")
    assert found["nvcc"].value  # from a folder or "none"
    assert found["C++ compiler"].value == "none"
    assert not any(finding.fix for finding in found.values())


def test_a_gpu_whose_operations_are_switched_off(gpu):
    assert findings()["GPU"].good
    output = CliRunner().invoke(main, ["doctor", "--build"]).output
    assert "+ GPU              NVIDIA Test, 80 GiB, sm_90" in output
    assert "! CUDA operations  not available, plain PyTorch computes the same" in output
    assert "To fix CUDA operations: unset TORCH_UTILS_OPS." in output
    assert "To fix the build: unset TORCH_UTILS_OPS." in output


def test_json(gpu):
    about = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).output)
    assert about["gpus"] == ["NVIDIA Test"]
    assert about["fallback"] is True
    assert about["operations"]["state"] == "cannot be built"
    assert about["operations"]["folder"] is None
    assert [entry["name"] for entry in about["findings"]] == list(findings())


@pytest.mark.parametrize(
    ("number", "runs"), [(70, False), (80, True), (89, True), (90, True), (100, False), (120, True), (121, True)]
)
def test_which_gpus_pytorch_has_code_for(number, runs):
    assert doctor.has_code_for(number, ["sm_80", "sm_90a", "compute_120"]) is runs


@pytest.mark.skipif(sys.platform == "win32", reason="nvidia-smi is a shell script here")
@pytest.mark.parametrize(("cuda", "fix"), [("13.0", "a driver for CUDA 13.0 or newer"), (None, "PyTorch with CUDA")])
def test_a_gpu_that_pytorch_does_not_see(nvidia_smi, monkeypatch, cuda, fix):
    nvidia_smi('case "$1" in --list-gpus) echo "GPU 0: NVIDIA Test";; *) echo 390.10;; esac')
    monkeypatch.setattr(torch.version, "cuda", cuda)
    found = findings()
    assert found["driver"].value == "390.10"
    assert not found["GPU"].good
    assert fix in found["GPU"].fix


@pytest.mark.skipif(sys.platform == "win32", reason="nvidia-smi is a shell script here")
def test_a_driver_that_does_not_answer(nvidia_smi):
    nvidia_smi("exit 9")
    assert doctor.driver()[0].good is False


def test_a_build_that_is_there(gpu, monkeypatch, tmp_path):
    from facegen.beside.torch_utils import custom_ops

    monkeypatch.setattr(custom_ops, "build_state", lambda: custom_ops.BuildState("built", folder=tmp_path))
    assert doctor.operations() == doctor.Finding("CUDA operations", f"built, in {Path(tmp_path)}", True)


def test_extras_are_those_of_the_package():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    lines = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0].splitlines()
    assert {line.split(" = ")[0] for line in lines if " = [" in line} == {
        *doctor.EXTRAS,
        "dev",
        "docs",
        "fuzz",
    }  # the last three are for developers


def test_an_extra_that_is_missing_names_the_line_that_gets_it(monkeypatch):
    monkeypatch.setitem(doctor.EXTRAS, "onnx", (("json", "no_such_module"), "graphs"))
    monkeypatch.setitem(doctor.EXTRAS, "video", (("json",), "films"))
    found = findings()
    assert found["onnx"].value.startswith("no no_such_module: pip install 'facegen[onnx]'")
    assert found["onnx"].good is None
    assert (found["video"].value, found["video"].good) == ("installed (films)", True)


def test_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    assert findings()["cache"].value.startswith(f"nothing yet, in {tmp_path / 'cache'}")
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    (tmp_path / "cache" / "downloads" / "x").write_bytes(bytes(3 * 2**20))
    assert findings()["cache"].value.startswith("3.0 MiB, in")


def test_weights_that_are_there(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "PRETRAINED", tmp_path)
    for name in ("generator", "encoder", "age", "age_judge", "sex", "sex_judge", "features"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"x")
    finding = findings()["weights"]
    assert finding.good
    assert "sex_judge" in finding.value
    assert "editor" not in finding.value  # a version of the package may come without
    (tmp_path / "editor.safetensors").write_bytes(b"x")
    assert "editor" in findings()["weights"].value
    (tmp_path / "sex.safetensors").unlink()
    finding = findings()["weights"]
    assert (finding.good, finding.fix) == (False, "install facegen again")  # no option names another


def test_weights_that_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "PRETRAINED", tmp_path)
    (tmp_path / "generator.safetensors").write_bytes(b"x")
    finding = findings()["weights"]
    assert finding.good is False
    assert finding.value.startswith("encoder, age")
    assert "--encoder" in finding.fix
    assert "--network" not in finding.fix
