"""The names and arguments of the compiled operations.

Wherever this module is imported there are `torch.ops.torch_utils.bias_act`, `.bias_act_grad` and `.upfirdn2d`.
`compiled.py` says what they do on the CPU and what their derivatives are; the files in cuda/ add the CUDA kernels.
"""

from __future__ import annotations

import torch

LIBRARY = torch.library.Library("torch_utils", "DEF")
LIBRARY.define("bias_act(Tensor x, Tensor? b, int dim, str act, float alpha, float gain, float? clamp) -> Tensor")
LIBRARY.define(
    "bias_act_grad(Tensor g, Tensor x, Tensor? b, int dim, str act, float alpha, float gain, float? clamp,"
    " bool from_output, int order) -> Tensor"
)
LIBRARY.define(
    "upfirdn2d(Tensor x, Tensor f, int[2] up, int[2] down, SymInt[4] padding, bool flip, float gain) -> Tensor"
)
