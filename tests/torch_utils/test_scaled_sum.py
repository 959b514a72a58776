from __future__ import annotations

import pytest
import torch
from facegen.beside.torch_utils.ops.scaled_sum import scaled_sum

SHAPES = [(3, 1, 1), (2, 1, 4, 5), (4, 5)]  # bias, noise of each picture, noise of all


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_and_derivatives(shape):
    inputs = random(*shape), random(2, 3, 4, 5), random(2, 3, 1, 1)
    torch.testing.assert_close(scaled_sum(*inputs), inputs[0] + inputs[1] * inputs[2])
    assert torch.autograd.gradcheck(scaled_sum, inputs)
    assert torch.autograd.gradgradcheck(scaled_sum, inputs)


def test_type_and_layout_stay():
    x = torch.randn(2, 3, 4, 5).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    base, scale = (torch.randn(shape).bfloat16().requires_grad_() for shape in ((3, 1, 1), (2, 3, 1, 1)))
    y = scaled_sum(base, x, scale)
    y.sum().backward()
    for tensor in (y, base.grad, x.grad, scale.grad):
        assert tensor.dtype == torch.bfloat16
    for tensor in (y, x.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
