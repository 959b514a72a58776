from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from facegen.beside.torch_utils.ops import convolution, winograd
from facegen.beside.torch_utils.ops.conv2d_resample import conv2d_resample
from facegen.beside.torch_utils.ops.convolution import (
    conv2d,
    conv_transpose2d,
    first_derivatives,
    takes_first_derivatives,
)
from facegen.beside.torch_utils.ops.upfirdn2d import setup_filter


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_(True)


def second_derivatives(f, x: torch.Tensor, *weights: torch.Tensor) -> list[torch.Tensor]:
    """Result, gradients, and the gradients of a penalty on the gradient of `x`: what R1 takes."""
    y = f(x, *weights)
    (gradient,) = torch.autograd.grad(y.square().sum() / 2, x, create_graph=True)
    second = torch.autograd.grad(gradient.square().sum(), [x, weights[0]])
    return [y, gradient, *second]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "padding"), [(1, (1, 1)), (1, (0, 2)), (2, (0, 1)), (2, (1, 0)), (3, (1, 1))])
def test_convolution_is_pytorchs_and_so_are_its_derivatives(stride, padding, groups):
    x, w, b = random(2, 4, 7, 8), random(6, 4 // groups, 3, 3), random(6)
    ours = second_derivatives(lambda *a: conv2d(*a, stride, padding, groups), x, w, b)
    theirs = second_derivatives(lambda *a: F.conv2d(*a, stride, padding, groups=groups), x, w, b)
    for a, e in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolution_is_pytorchs_and_so_are_its_derivatives(stride, groups):
    x, w = random(2, 4, 5, 6), random(4, 6 // groups, 3, 3)
    ours = second_derivatives(lambda *a: conv_transpose2d(*a, stride, groups), x, w)
    theirs = second_derivatives(lambda *a: F.conv_transpose2d(*a, stride=stride, groups=groups), x, w)
    for a, e in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_transposed_convolution_as_a_gradient(stride, groups, monkeypatch):
    x, w = random(2, 4, 5, 6), random(4, 6 // groups, 3, 3)
    expected = second_derivatives(lambda *a: F.conv_transpose2d(*a, stride=stride, groups=groups), x, w)
    monkeypatch.setattr(convolution, "is_bfloat16_on_cpu", lambda x: True)
    ours = second_derivatives(lambda *a: conv_transpose2d(*a, stride, groups), x, w)
    for a, e in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_upsampling_in_bfloat16_on_the_cpu(layout):
    x, w = (random(*shape, dtype=torch.float32) for shape in ((2, 16, 8, 8), (16, 24, 3, 3)))
    halves = [a.detach().bfloat16().contiguous(memory_format=layout).requires_grad_() for a in (x, w)]
    exact = [a.detach().double().requires_grad_() for a in halves]
    y, expected = conv_transpose2d(*halves, stride=2), F.conv_transpose2d(*exact, stride=2)
    assert y.is_contiguous(memory_format=layout)
    grad = torch.randn(y.shape).bfloat16().contiguous(memory_format=layout)
    found = [y, *torch.autograd.grad(y, halves, grad)]
    right = [expected, *torch.autograd.grad(expected, exact, grad.double())]
    for a, e in zip(found, right, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a.double() - e).norm() < 2**-8 * e.norm()  # rounded once, by up to 2^-9


@pytest.mark.parametrize(("stride", "padding", "fast"), [(1, (1, 1), False), (2, (0, 1), False), (1, (1, 1), True)])
def test_numerical_derivatives(stride, padding, fast, monkeypatch):
    if fast:
        monkeypatch.setattr(convolution, "_winograd_pays", lambda *arguments: True)
    inputs = random(2, 2, 4, 8), random(3, 2, 3, 3), random(3)
    assert torch.autograd.gradcheck(lambda *a: conv2d(*a, stride, padding), inputs)
    # One random direction instead of every pair of elements: a tenth of the time.
    assert torch.autograd.gradgradcheck(lambda *a: conv2d(*a, stride, padding), inputs, fast_mode=True)


# --- Winograd -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (3, 5, 8, 12), (2, 4, 16, 4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("tiles_at_a_time", [1, 5, 128])
def test_winograd_is_exact_but_for_rounding(shape, layout, tiles_at_a_time, monkeypatch):
    monkeypatch.setattr(winograd, "TILES_AT_A_TIME", tiles_at_a_time)
    x, w = random(*shape).contiguous(memory_format=layout), random(6, shape[1], 3, 3)
    grad = random(shape[0], 6, *shape[2:], seed=1).contiguous(memory_format=layout)
    y = F.conv2d(x, w, padding=1)
    grad_x, grad_w = torch.autograd.grad(y, [x, w], grad)
    torch.testing.assert_close(winograd.convolve(x, w), y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(winograd.convolve(grad, w, transposed=True), grad_x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(winograd.weight_gradient(x, grad), grad_w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [8, 16])
def test_many_channels_agree_with_direct_convolution_in_float64(size):
    x, w = random(16, 128, size, size, dtype=torch.float32), random(144, 128, 3, 3, dtype=torch.float32)
    assert winograd.pays(x, 128, 144)
    exact = second_derivatives(lambda x, w: F.conv2d(x, w, padding=1), x.double(), w.double())
    ours = second_derivatives(lambda x, w: conv2d_resample(x, w, padding=1), x, w)
    plain = second_derivatives(lambda x, w: F.conv2d(x, w, padding=1), x, w)
    for a, p, e in zip(ours, plain, exact, strict=True):
        # F(4x4, 3x3) loses a digit: 1e-5 of the largest value for one convolution; here up to three follow each other.
        assert (a.double() - e).abs().max() < 5e-5 * e.abs().max()
        assert a.shape == p.shape
        assert a.dtype == torch.float32


def test_bias_and_layout_survive():
    x = random(4, 128, 16, 16, dtype=torch.float32).detach().contiguous(memory_format=torch.channels_last)
    w, b = random(128, 128, 3, 3, dtype=torch.float32).detach(), random(128, dtype=torch.float32).detach()
    assert winograd.pays(x, 128, 128)
    y = conv2d_resample(x, w, padding=1, b=b)
    expected = F.conv2d(x, w, b, padding=1)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert (y - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("shape", "out_channels", "dtype"),
    [
        ((16, 32, 16, 16), 128, torch.float32),  # few channels
        ((16, 128, 16, 16), 3, torch.float32),
        ((16, 128, 16, 18), 128, torch.float32),  # no whole tiles
        ((1, 128, 16, 16), 128, torch.float32),  # few tiles
        ((1, 128, 256, 256), 128, torch.float32),  # beyond the cache
        ((16, 128, 16, 16), 128, torch.float64),
        ((16, 128, 16, 16), 128, torch.float16),
    ],
)
def test_where_winograd_does_not_pay(shape, out_channels, dtype):
    assert winograd.pays(torch.empty(16, 128, 16, 16), 128, 128)
    assert not winograd.pays(torch.empty(shape, dtype=dtype), shape[1], out_channels)


def test_first_derivatives_are_the_same_and_the_context_ends():
    x, w = torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(4, 4, 3, 3, requires_grad=True)
    f = setup_filter([1, 3, 3, 1])

    def derivatives() -> tuple[torch.Tensor, ...]:
        y = conv2d_resample(conv2d(x, w, padding=(1, 1)), w, f, up=2, padding=1)
        assert ("_Filter" in str(y.grad_fn)) != takes_first_derivatives()
        return y, *torch.autograd.grad(y.square().sum(), [x, w])

    expected = derivatives()
    with first_derivatives():
        with first_derivatives():
            pass
        torch.testing.assert_close(derivatives(), expected, rtol=1e-4, atol=1e-2)
    assert not takes_first_derivatives()
