"""The names and arguments of the compiled operations.

Wherever this module is imported there are `torch.ops.torch_utils.bias_act`, `.bias_act_grad` and `.upfirdn2d`.
`compiled.py` says what they do on the CPU and what their derivatives are; the files in cuda/ add the CUDA kernels.

A program may load these files twice, under two names: facegen keeps a copy of its own. PyTorch takes a declaration
once, so the second copy finds the operations there and uses them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

LIBRARY = torch.library.Library("torch_utils", "FRAGMENT")
if not hasattr(torch.ops.torch_utils, "upfirdn2d"):
    LIBRARY.define("bias_act(Tensor x, Tensor? b, int dim, str act, float alpha, float gain, float? clamp) -> Tensor")
    LIBRARY.define(
        "bias_act_grad(Tensor g, Tensor x, Tensor? b, int dim, str act, float alpha, float gain, float? clamp,"
        " bool from_output, int order) -> Tensor"
    )
    LIBRARY.define(
        "upfirdn2d(Tensor x, Tensor f, int[2] up, int[2] down, SymInt[4] padding, bool flip, float gain) -> Tensor"
    )


def register(name: str, on_cpu: Callable, fake: Callable, backward: Callable, setup: Callable) -> None:
    """Say what an operation does on the CPU and to shapes, and its derivative, unless another copy has done so."""
    full_name = f"torch_utils::{name}"
    if torch._C._dispatch_has_kernel_for_dispatch_key(full_name, "CPU"):
        return
    LIBRARY.impl(name, on_cpu, "CPU")
    torch.library.register_fake(full_name, fake, lib=LIBRARY)
    torch.library.register_autograd(full_name, backward, setup_context=setup, lib=LIBRARY)
