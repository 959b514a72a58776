"""What this machine offers facegen, and how to improve it: what `facegen doctor` prints."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass

import torch

import facegen
from facegen.beside import custom_ops
from facegen.device import cpu_has_bfloat16


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    value: str
    good: bool | None = None  # None: neither good nor bad
    fix: str = ""  # what to do where it is not good


def examine() -> list[Finding]:
    """Look at everything that decides how fast facegen runs here. Builds nothing, changes nothing."""
    cuda = "without CUDA" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
    return [
        Finding("facegen", f"{facegen.__version__}, Python {platform.python_version()}, {platform.platform()}"),
        Finding("PyTorch", f"{torch.__version__}, built {cuda}"),
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
        "operations": {**asdict(state), "folder": None if state.folder is None else str(state.folder)},
        "fallback": state.state == "cannot be built",
        "findings": [asdict(finding) for finding in findings],
    }


def processor() -> Finding:
    """Whether the processor multiplies bfloat16 numbers, which makes training on it faster."""
    if cpu_has_bfloat16():
        return Finding("processor", "has bfloat16: training on the CPU computes in it where it pays")
    return Finding("processor", "has no instructions for bfloat16: training on the CPU computes in float32")


def driver() -> list[Finding]:
    """The version of the GPU driver, as nvidia-smi tells it."""
    version = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    if version is None:
        if shutil.which("nvidia-smi") is None:
            return [Finding("driver", "none (there is no nvidia-smi)")]
        return [Finding("driver", "does not answer", False, "run `nvidia-smi` and do what it says")]
    return [Finding("driver", version.splitlines()[0].strip() if version else "no GPU")]


def gpus() -> list[Finding]:
    """Every GPU that PyTorch sees, and whether PyTorch has code for it."""
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
        runs = has_code_for(number, known)
        fix = "" if runs else f"install a PyTorch with code for sm_{number}; this one has {', '.join(known)}"
        memory = about.total_memory / 2**30
        findings.append(Finding("GPU", f"{about.name}, {memory:.0f} GiB, sm_{number}", runs, fix))
    return findings


def has_code_for(number: int, known: list[str]) -> bool:
    """Whether a GPU of architecture `number` (90 for sm_90) runs code for the `known` ones: sm_80, compute_120, ...

    Code for one architecture (sm) runs on the later ones of its generation; PTX (compute) on every later one.
    """
    oldest = {"sm": number // 10 * 10, "compute": 0}
    found = [re.fullmatch(r"(sm|compute)_(\d+)\w*", name) for name in known]
    return any(match and oldest[match[1]] <= int(match[2]) <= number for match in found)


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


def _output(*command: str) -> str | None:
    """What a program prints; None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
