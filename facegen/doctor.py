"""What this machine has for facegen, and how to get more: what `facegen doctor` prints."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass

import torch

import facegen
from facegen.device import cpu_has_bfloat16
from torch_utils import custom_ops


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    value: str
    good: bool | None = None  # None: neither, it is only told
    fix: str = ""  # what to do where it is not good


def examine() -> list[Finding]:
    """Look at everything that decides how fast facegen runs here. Builds nothing, changes nothing."""
    return [
        Finding("facegen", f"{facegen.__version__}, Python {platform.python_version()}, {platform.platform()}"),
        Finding("PyTorch", f"{torch.__version__}, built {cuda_of_pytorch()}"),
        processor(),
        *driver(),
        *gpus(),
        *tools(),
        operations(),
    ]


def build() -> Finding:
    """Build the CUDA operations, or tell why that cannot be."""
    try:
        custom_ops.load()
    except custom_ops.CannotBuildError as error:
        return Finding("the build", error.reason, False, error.fix)
    return Finding("the build", "done", True)


def summary(findings: list[Finding]) -> dict:
    """Return the findings as `--json` prints them."""
    state = custom_ops.build_state()
    return {
        "facegen": facegen.__version__,
        "torch": str(torch.__version__),
        "cuda_of_torch": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "operations": {
            "state": state.state,
            "reason": state.reason,
            "fix": state.fix,
            "folder": None if state.folder is None else str(state.folder),
        },
        "fallback": state.state == "cannot be built",
        "findings": [
            {"name": entry.name, "value": entry.value, "good": entry.good, "fix": entry.fix} for entry in findings
        ],
    }


def cuda_of_pytorch() -> str:
    return "without CUDA" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"


def processor() -> Finding:
    """Whether the processor multiplies bfloat16 numbers, in which training on it is faster."""
    if cpu_has_bfloat16():
        return Finding("processor", "has bfloat16: training on the CPU computes in it where it pays")
    return Finding("processor", "has no instructions for bfloat16: training on the CPU computes in float32")


def driver() -> list[Finding]:
    """The GPU driver, as nvidia-smi knows it; nothing where there is no nvidia-smi."""
    version = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    if version is None:
        if shutil.which("nvidia-smi") is None:
            return [Finding("driver", "none (there is no nvidia-smi)")]
        return [Finding("driver", "does not answer", False, "run `nvidia-smi` and do what it says")]
    return [Finding("driver", version.splitlines()[0].strip() if version else "no GPU")]


def gpus() -> list[Finding]:
    """Every GPU that PyTorch sees, and whether it has code for it."""
    if not torch.cuda.is_available():
        if _output("nvidia-smi", "--list-gpus"):
            fix = (
                "install PyTorch with CUDA: https://pytorch.org"
                if torch.version.cuda is None
                else f"install a driver for CUDA {torch.version.cuda} or newer, and look at CUDA_VISIBLE_DEVICES"
            )
            return [Finding("GPU", "there is one, but PyTorch cannot use it", False, fix)]
        return [Finding("GPU", "none: facegen runs on the CPU; to train at more than 64 x 64 takes a GPU")]
    findings = []
    known = torch.cuda.get_arch_list()
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        number = about.major * 10 + about.minor
        # Code for one architecture runs on the later ones of its generation.
        runs = any(name.startswith("sm_") and about.major * 10 <= _number(name) <= number for name in known)
        runs = runs or any(name.startswith("compute_") and _number(name) <= number for name in known)
        fix = "" if runs else f"install a PyTorch with code for sm_{number}; this one has {', '.join(known)}"
        memory = about.total_memory / 2**30
        findings.append(Finding("GPU", f"{about.name}, {memory:.0f} GiB, sm_{number}", runs, fix))
    return findings


def tools() -> list[Finding]:
    """The programs that build the CUDA operations; only of interest where there is a GPU."""
    toolkit, compiler = custom_ops.find_toolkit(), custom_ops.find_compiler()
    nvcc = "none" if toolkit is None else f"CUDA {custom_ops.nvcc_version(toolkit) or '?'} in {toolkit}"
    version = _output(compiler, "--version") if compiler else None
    described = f"{compiler}: {version.splitlines()[0]}" if version else "none"
    return [Finding("nvcc", nvcc), Finding("C++ compiler", described)]


def operations() -> Finding:
    """The compiled operations: there, to be built, or replaced by plain PyTorch."""
    state = custom_ops.build_state()
    if state.state == "built":
        return Finding("CUDA operations", f"built, in {state.folder}", True)
    if state.state == "not built yet":
        return Finding("CUDA operations", "not built yet: the first use builds them, in about a minute", True)
    value = f"plain PyTorch instead, the same numbers: {state.reason}"
    # Without a GPU there is nothing that they would make faster.
    if not torch.cuda.is_available():
        return Finding("CUDA operations", value)
    return Finding("CUDA operations", value, False, state.fix)


def _number(architecture: str) -> int:
    digits = "".join(letter for letter in architecture.split("_")[1] if letter.isdigit())
    return int(digits or 0)


def _output(*command: str) -> str | None:
    """What a program prints; None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
