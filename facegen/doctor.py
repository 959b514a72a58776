"""What facegen can use on this machine, and how to get more: the findings of `facegen doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

import facegen
from facegen.beside import custom_ops
from facegen.device import cpu_has_bfloat16
from facegen.weights.cache import cache_folder
from facegen.weights.locate import NOT_ALWAYS_SHIPPED, PRETRAINED, SHIPPED

# What `pip install "facegen[extra]"` adds: the modules to look for, and what they are for.
EXTRAS = {
    "app": (("gradio",), "facegen app: a page in the browser"),
    "evaluate": (("dlib", "face_recognition_models", "torchmetrics"), "facegen evaluate: identities and SSIM"),
    "heic": (("pi_heif",), "photos of iPhones"),
    "metrics": (("torch_fidelity",), "facegen metrics"),
    "onnx": (("onnx", "onnxscript", "onnxruntime"), "facegen convert to ONNX"),
    "video": (("imageio_ffmpeg", "av"), "videos of facegen transfer, in and out"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    value: str
    good: bool | None = None  # None: neither good nor bad
    fix: str = ""  # what to do where it is not good


def examine() -> list[Finding]:
    """Look at everything that decides what facegen does here, and how fast. Builds nothing, changes nothing."""
    cuda = "without CUDA" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
    return [
        Finding("facegen", f"{facegen.__version__}, Python {platform.python_version()}, {platform.platform()}"),
        Finding("PyTorch", f"{torch.__version__}, built {cuda}"),
        processor(),
        *driver(),
        *gpus(),
        *tools(),
        operations(),
        memory(),
        disk(),
        weights(),
        cache(),
        *extras(),
        jupyter(),
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
        return Finding("processor", "supports bfloat16: training on the CPU uses it where it is faster")
    return Finding("processor", "does not support bfloat16: training on the CPU uses float32")


def driver() -> list[Finding]:
    """The version of the GPU driver, as nvidia-smi tells it."""
    version = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    if version is None:
        if shutil.which("nvidia-smi") is None:
            return [Finding("driver", "none (nvidia-smi not found)")]
        return [Finding("driver", "does not answer", False, "run `nvidia-smi` and follow its advice")]
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
            return [Finding("GPU", "found, but PyTorch cannot use it", False, fix)]
        return [Finding("GPU", "none: facegen runs on the CPU; training at more than 64 x 64 needs a GPU")]
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
        return Finding("CUDA operations", "not built yet: the first use builds them in about a minute", True)
    value = f"not available, plain PyTorch computes the same: {state.reason}"
    # Without a GPU there is nothing that they would make faster.
    if not torch.cuda.is_available():
        return Finding("CUDA operations", value)
    return Finding("CUDA operations", value, False, state.fix)


def memory() -> Finding:
    """The memory of the machine."""
    found = psutil.virtual_memory()
    return Finding("memory", f"{_size(found.total)}, {_size(found.available)} of it free")


def disk() -> Finding:
    """The free space where commands write by default."""
    here = Path.cwd()
    return Finding("disk", f"{_size(shutil.disk_usage(here).free)} free in {here}")


def weights() -> Finding:
    """The weights that come with the package."""
    there = {name: PRETRAINED / f"{name}.safetensors" for name in SHIPPED}
    sizes = [f"{name} {_size(path.stat().st_size)}" for name, path in there.items() if path.is_file()]
    missing = [name for name, path in there.items() if not path.is_file() and name not in NOT_ALWAYS_SHIPPED]
    if missing:
        options = ", ".join(option for name in missing if (option := SHIPPED[name]))
        fix = "install facegen again" + (f", or name others with {options}" if options else "")
        return Finding("weights", f"{', '.join(missing)} not in {PRETRAINED}", False, fix)
    return Finding("weights", f"{', '.join(sizes)}, in {PRETRAINED}", True)


def cache() -> Finding:
    """Where downloads are kept, and how large they are."""
    folder = cache_folder()
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    return Finding("cache", f"{_size(size) if size else 'nothing yet'}, in {folder} (FACEGEN_CACHE names another)")


def extras() -> list[Finding]:
    """What may be installed beside facegen: there, or the line that gets it."""
    findings = []
    for extra, (modules, purpose) in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        line = f"pip install 'facegen[{extra}]'"
        found = f"no {', '.join(missing)}: {line}" if missing else "installed"
        findings.append(Finding(extra, f"{found} ({purpose})", True if not missing else None))
    return findings


def jupyter() -> Finding:
    """Whether the notebooks can be opened."""
    for package in ("jupyterlab", "notebook"):
        try:
            return Finding("Jupyter", f"{package} {importlib.metadata.version(package)}", True)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding("Jupyter", "neither jupyterlab nor notebook: pip install jupyter (for notebooks/)")


def _size(count: int) -> str:
    """A number of bytes for people."""
    unit, size = ("GiB", 2**30) if count >= 2**30 else ("MiB", 2**20) if count >= 2**20 else ("KiB", 2**10)
    return f"{count / size:.1f} {unit}"


def _output(*command: str) -> str | None:
    """What a program prints; None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
