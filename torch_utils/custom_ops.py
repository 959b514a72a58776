"""Build the CUDA operations on first use, and say why where that cannot be.

The sources are in ops/cuda. One build serves one version of PyTorch, of CUDA and of the sources, for the
GPUs of this machine; it stays in PyTorch's folder for extensions (`TORCH_EXTENSIONS_DIR`). Without it everything works
in plain PyTorch, more slowly. The environment variable `TORCH_UTILS_OPS=off` asks for that.

From top to bottom: what callers ask (`ready`, `build_state`), loading and building, what a build needs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import torch

from .ops import library  # noqa: F401  declares the operations, which what is built implements

SOURCES = Path(__file__).parent / "ops" / "cuda"
SWITCH = "TORCH_UTILS_OPS"
MAX_WAIT = 1800  # seconds: a build that takes longer has probably hung, and what waits for it continues without
# In the folder of a build:
BUILT = "torch_utils_ops.so"
COMPLETE = "complete"  # a file that says that the library is whole

_lock = threading.Lock()
_ready: bool | None = None  # None: not tried in this process


@dataclass(frozen=True)
class BuildState:
    """The state of the compiled operations on this machine."""

    state: str  # "built", "not built yet" (the first use builds them) or "cannot be built"
    reason: str = ""  # why they cannot be built
    fix: str = ""  # what to do about that
    folder: Path | None = None  # the folder of the build, where one is possible


class CannotBuildError(RuntimeError):
    """There are no compiled operations: why, and what to do about it."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def ready() -> bool:
    """Tell whether the compiled operations are loaded; the first call of a process loads them, or builds them.

    Where that fails, one warning says why.
    """
    global _ready
    if _ready is None:
        with _lock:
            if _ready is None:
                _ready = _try_to_load()
    return _ready


# torch.compile calls it once and takes the answer for a constant. This is all that the decorator
# torch.compiler.assume_constant_result does, without its two seconds of imports.
ready._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _try_to_load() -> bool:
    try:
        load()
    except CannotBuildError as error:
        warnings.warn(
            f"the CUDA operations are not compiled: {error.reason}. To change that: {error.fix}. Until then plain "
            "PyTorch computes the same, more slowly.",
            RuntimeWarning,
            stacklevel=5,
        )
        return False
    return True


def build_state() -> BuildState:
    """Return the state of the compiled operations, without building anything."""
    try:
        folder = build_folder()
        if (folder / COMPLETE).exists():
            return BuildState("built", folder=folder)
        check_tools()
    except CannotBuildError as error:
        return BuildState("cannot be built", error.reason, error.fix)
    return BuildState("not built yet", folder=folder)


# --- Loading and building -------------------------------------------------------------------------------------------


def load() -> None:
    """Load the compiled operations, and build them before that where there is no build.

    Raises:
        CannotBuildError: whatever goes wrong, for there is another way to the same numbers.
    """
    try:
        folder = build_folder()
        if not (folder / COMPLETE).exists():
            toolkit = check_tools()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The system releases it when its holder dies; other processes of this machine wait here for the build.
            with filelock.FileLock(folder / "building.lock", timeout=MAX_WAIT):
                if not (folder / COMPLETE).exists():
                    _build(folder, toolkit)
        _check_owner(folder)
        torch.ops.load_library(str(folder / BUILT))
    except CannotBuildError:
        raise
    except Exception as error:
        raise CannotBuildError(_first_line(error), "see what `facegen doctor` says") from error


def build_folder() -> Path:
    """Return the folder for the build of these sources, for this PyTorch and these GPUs.

    Raises:
        CannotBuildError: switched off, no GPU, no sources, or the folder is not the user's own.
    """
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no", "false"):
        raise CannotBuildError(f"switched off by {SWITCH}={os.environ[SWITCH]}", f"unset {SWITCH}")
    if torch.version.cuda is None:
        raise CannotBuildError(
            f"PyTorch {torch.__version__} is built without CUDA", "install PyTorch for CUDA: https://pytorch.org"
        )
    if not torch.cuda.is_available():
        raise CannotBuildError("PyTorch finds no CUDA GPU", "check that `nvidia-smi` lists the GPU and a driver")
    if not source_files():
        raise CannotBuildError(
            f"the sources of the CUDA operations in {SOURCES} are missing", "install the package again"
        )
    folder = _name_folder()
    _check_owner(folder)
    return folder


def _name_folder() -> Path:
    fingerprint = hashlib.sha256(b"".join(path.read_bytes() for path in source_files()))
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
    parts = [f"torch{torch.__version__}", f"cuda{torch.version.cuda}", *architectures(), fingerprint.hexdigest()[:12]]
    return Path(root) / "torch_utils_ops" / re.sub(r"[^\w.-]", "_", "-".join(parts))


def _check_owner(folder: Path) -> None:
    """Raise a CannotBuildError if somebody else could have put a library of theirs there: loading it runs it.

    `TORCH_EXTENSIONS_DIR` may be in /tmp, or be shared by a laboratory.
    """
    if not hasattr(os, "geteuid"):  # Windows
        return
    for path in (folder, folder / BUILT):
        if not os.path.lexists(path):
            continue
        found = path.lstat()
        if found.st_uid not in {os.geteuid(), 0} or found.st_mode & stat.S_IWOTH or stat.S_ISLNK(found.st_mode):
            raise CannotBuildError(
                f"{path} is a link, belongs to another user, or anybody may write to it, so it may be anybody's code",
                "set TORCH_EXTENSIONS_DIR to a folder of your own",
            )


def source_files() -> list[Path]:
    """Return every file that the build reads."""
    return sorted(path for path in SOURCES.iterdir() if path.suffix in (".cpp", ".cu", ".h"))


def architectures() -> list[str]:
    """Return the names of the GPUs' architectures: `["sm_90"]`."""
    found = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    return [f"sm_{major}{minor}" for major, minor in sorted(found)]


def _build(folder: Path, toolkit: Path) -> None:
    from torch.utils import cpp_extension  # takes a second to import

    (folder / "lock").unlink(missing_ok=True)  # PyTorch's own, left by a build that was killed, would be waited for
    names = architectures()
    targets = [f"-gencode=arch=compute_{name[3:]},code={name}" for name in names]
    cpp_extension.CUDA_HOME = str(toolkit)
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([before, str(Path(sys.executable).parent)])  # where pip puts ninja
    try:
        with _progress(f"Building the CUDA operations for {', '.join(names)}: once, about a minute"):
            cpp_extension.load(
                name=Path(BUILT).stem,
                sources=[str(path) for path in source_files() if path.suffix in (".cpp", ".cu")],
                extra_cflags=["-O2"],
                extra_cuda_cflags=["-O3", *targets],
                build_directory=str(folder),
                with_cuda=True,
                is_python_module=False,
            )
    except Exception as error:
        log = folder / "build.log"
        log.write_text(str(error), encoding="utf-8")
        raise CannotBuildError(f"the build failed ({_first_line(error)})", f"read {log}") from error
    finally:
        os.environ["PATH"] = before
    (folder / COMPLETE).touch()


def _first_line(error: Exception) -> str:
    """Return the line of a compiler's output that a person looks for."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if re.search(r"\berror:|\bfatal\b", line)), lines[0])[:300]


@contextmanager
def _progress(text: str) -> Iterator[None]:
    """Say on stderr what is going on; on a terminal also the seconds that pass."""
    done, start = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(0.5):
            print(f"\r{text} ... {time.monotonic() - start:.0f} s", end="", file=sys.stderr, flush=True)

    watched = sys.stderr.isatty()
    print(f"{text} ...", end="" if watched else "\n", file=sys.stderr, flush=True)
    thread = threading.Thread(target=watch, daemon=True)
    if watched:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if watched:
            thread.join()
            print(file=sys.stderr, flush=True)


# --- What a build needs ---------------------------------------------------------------------------------------------


def find_toolkit() -> Path | None:
    """Return the folder of the CUDA toolkit, with bin/nvcc and include/ below it; None if there is none."""
    nvcc = shutil.which("nvcc")
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    if nvcc is not None:
        candidates += [str(Path(nvcc).parent.parent), str(Path(nvcc).resolve().parent.parent)]
    for folder in map(Path, filter(None, [*candidates, "/usr/local/cuda", "/opt/cuda"])):
        # A script called nvcc may lie outside the toolkit.
        if (folder / "bin" / "nvcc").is_file() and (folder / "include" / "cuda_runtime_api.h").is_file():
            return folder
    return None


def nvcc_version(toolkit: Path) -> str | None:
    """Return the version of the toolkit's compiler, such as "13.0"; None where it does not run."""
    try:
        done = subprocess.run([toolkit / "bin" / "nvcc", "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"release (\d+\.\d+)", done.stdout)
    return found[1] if found else None


def find_compiler() -> str | None:
    """Return the path of the C++ compiler that PyTorch would call."""
    return shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++")


def check_tools() -> Path:
    """Return the CUDA toolkit's folder if everything that a build needs is installed.

    Raises:
        CannotBuildError: something is missing or does not fit.
    """
    toolkit, wanted = find_toolkit(), torch.version.cuda
    if toolkit is None:
        raise CannotBuildError(
            "no CUDA toolkit (nvcc and its headers) is found",
            f"install CUDA toolkit {wanted} (https://developer.nvidia.com/cuda-toolkit-archive), set CUDA_HOME to it",
        )
    version = nvcc_version(toolkit)
    if version is None:
        raise CannotBuildError(f"{toolkit / 'bin' / 'nvcc'} does not run", "set CUDA_HOME to a CUDA toolkit that does")
    if version.split(".")[0] != str(wanted).split(".")[0]:
        raise CannotBuildError(
            f"the CUDA toolkit in {toolkit} is version {version}, PyTorch was built with {wanted}",
            f"install CUDA toolkit {wanted} and set CUDA_HOME to it",
        )
    if find_compiler() is None:
        raise CannotBuildError("no C++ compiler is found", "install g++ (Debian, Ubuntu: apt install g++)")
    if shutil.which("ninja") is None and not (Path(sys.executable).parent / "ninja").is_file():
        raise CannotBuildError("ninja, which runs the compilers, is not found", "pip install ninja")
    return toolkit
