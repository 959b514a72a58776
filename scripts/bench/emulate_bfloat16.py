"""Run a facegen command with bfloat16 arithmetic on a processor without the instructions, at nearly float32's speed.

PyTorch's own fallback takes many times as long and adds up in bfloat16. Here every product of matrices and every
convolution of bfloat16 numbers is computed in float32 and its result rounded, which is what the instructions do
(AVX512-BF16 and AMX multiply bfloat16 numbers and add up in float32): trainings end with what such a processor gives,
but for the order of the sums.

    .venv/bin/python scripts/bench/emulate_bfloat16.py train --data faces64.zip --cfg tiny --mirror --kimg 60
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from facegen.cli import main

aten = torch.ops.aten
PRODUCTS = {
    getattr(aten, name).default for name in ("convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm")
}


class ProductsInFloat32(TorchDispatchMode):
    """In this context products of bfloat16 tensors add up in float32."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function not in PRODUCTS or not any(_is_bfloat16(arg) for arg in args):
            return function(*args, **kwargs)
        args = tree_map(lambda arg: arg.float() if _is_bfloat16(arg) else arg, args)
        result = function(*args, **kwargs)
        return tree_map(lambda y: y.bfloat16() if isinstance(y, torch.Tensor) else y, result)


def _is_bfloat16(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16


if __name__ == "__main__":
    os.environ["FACEGEN_BFLOAT16"] = "1"
    with ProductsInFloat32():
        main()
