"""The modules of torch_utils and dnnlib that facegen calls: `from facegen.beside import bias_act, download`.

Both packages lie next to facegen and belong to it. Other StyleGAN programs have packages with the same names and other
content, and `import torch_utils` gives whichever Python finds first: `python -m facegen`, notebooks and `python -c`
look in the current folder before all others. A notebook may need both: facegen, and the other program's code to load a
pickle.

So facegen never imports these names. It loads the folders next to its own as `facegen.beside.torch_utils` and
`facegen.beside.dnnlib`. `torch_utils` and `dnnlib` stay free for other programs, before facegen or after it. If another
import loads these very files, they exist twice, which they allow: they import each other with relative names, and
declare their operations to PyTorch once.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same modules, by the names that mypy and editors can follow
    from dnnlib import disk, download
    from torch_utils import custom_ops
    from torch_utils.ops import bias_act, conv2d_resample, convolution, scaled_sum, upfirdn2d

__all__ = [
    "bias_act",
    "conv2d_resample",
    "convolution",
    "custom_ops",
    "disk",
    "download",
    "scaled_sum",
    "upfirdn2d",
]

_PACKAGE_OF = {"disk": "dnnlib", "download": "dnnlib", "custom_ops": "torch_utils"}  # the others are operations


def __getattr__(name: str) -> ModuleType:
    """Import a module when it is asked for: dnnlib is used where torch need not be imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{_PACKAGE_OF.get(name, 'torch_utils.ops')}.{name}")


def _add(package: str) -> None:
    """Make `facegen.beside.PACKAGE` importable, and with it the modules below it."""
    folder = Path(__file__).resolve().parents[1] / package
    spec = spec_from_file_location(
        f"{__name__}.{package}", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = globals()[package] = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)


_add("dnnlib")
_add("torch_utils")
