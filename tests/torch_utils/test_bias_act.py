import math

import pytest
import torch
from facegen.beside.torch_utils.ops.bias_act import activation_funcs, bias_act
from golden_numbers import assert_golden
from golden_ops import BIAS_ACT_CASES, assert_bias_act_is_golden, assert_every_golden_case_is_tested

ACTIVATIONS = list(activation_funcs)


# --- Golden numbers -------------------------------------------------------------------------------------------------


def test_every_golden_case_is_tested():
    assert_every_golden_case_is_tested("bias_act")


@pytest.mark.parametrize("impl", ["ref", "cuda"])
@pytest.mark.parametrize(("name", "case"), BIAS_ACT_CASES)
def test_golden(name, case, impl):
    assert_bias_act_is_golden(name, case, impl=impl)


# --- Derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"alpha": 0.4, "gain": -1.3, "clamp": 0.7}], ids=["default", "explicit"])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_twice_differentiable(act, options):
    # 14 random numbers: none within 1e-6, the step of the numerical derivative, of a kink of the activation or clamp.
    x = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    b = torch.randn(7, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return bias_act(x, b, act=act, **options)

    assert torch.autograd.gradcheck(function, [x, b])
    assert torch.autograd.gradgradcheck(function, [x, b])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("alpha", [0.0, -0.5, 1.0, 3.0])
def test_lrelu_with_any_slope(alpha, bias):
    # With a slope of 0 or less, the result no longer tells the sign of the input.
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    b = torch.randn(5, dtype=torch.float64, requires_grad=True) if bias else None
    total = (x + b if bias else x).detach()
    assert torch.equal(bias_act(x, b, act="lrelu", alpha=alpha, gain=1), torch.where(total > 0, total, total * alpha))
    inputs = [tensor for tensor in (x, b) if tensor is not None]

    def function(x: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        return bias_act(x, b, act="lrelu", alpha=alpha)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_clamped_elements_have_no_gradient():
    x = torch.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    bias_act(x, clamp=1.0).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]


# --- What it computes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["relu", "lrelu", "swish"])
def test_rectifiers_have_a_gain_of_sqrt_2_by_default(act):
    x = torch.randn(4, 3)
    assert_golden(bias_act(x, act=act), bias_act(x, act=act, gain=1) * math.sqrt(2), tolerance=1e-6)


def test_a_clamp_that_nothing_reaches_costs_no_derivative():
    x = torch.tensor([-2.0, 0.5, 3.0], requires_grad=True)
    within, beyond = bias_act(2 * x, clamp=6.0), bias_act(2 * x, clamp=5.9)
    assert torch.equal(within, 2 * x)
    assert "Clamp" not in type(within.grad_fn).__name__
    assert torch.autograd.grad(beyond.sum(), x)[0].tolist() == [2, 2, 0]
    assert bias_act(torch.tensor([float("nan"), 7.0], requires_grad=True), clamp=6.0)[1] == 6


def test_order_is_bias_activation_gain_clamp():
    x, b = torch.tensor([[-3.0, 1.0, 2.0]]), torch.tensor([1.0, -2.0, 3.0])
    y = bias_act(x, b, act="lrelu", alpha=0.5, gain=2, clamp=3)
    assert y.tolist() == [[-2.0, -1.0, 3.0]]


def test_clamp_of_zero_is_a_clamp():
    assert bias_act(torch.randn(3, 4), clamp=0).abs().max() == 0


def test_negative_dimension():
    x, b = torch.randn(2, 3, 4), torch.randn(4)
    assert torch.equal(bias_act(x, b, dim=-1), bias_act(x, b, dim=2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_keeps_the_type(act, dtype):
    x, b = torch.randn(2, 3, 4), torch.randn(3)
    y = bias_act(x.to(dtype), b.to(dtype), act=act)
    assert y.dtype == dtype
    # A few roundings of 2^-9 (bfloat16, the coarsest) of numbers up to about 5.
    torch.testing.assert_close(y.to(torch.float32), bias_act(x, b, act=act), atol=0.05, rtol=0)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_leaves_its_input_alone(act):
    x, b = torch.randn(2, 3), torch.randn(3)
    before = x.clone(), b.clone()
    for bias, options in ((b, {"gain": 3, "clamp": 0.1}), (None, {"gain": 3, "clamp": 0.1}), (torch.zeros(3), {})):
        bias_act(x, bias, act=act, **options)
    assert torch.equal(x, before[0])
    assert torch.equal(b, before[1])


def test_keeps_channels_last():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    y = bias_act(x, torch.randn(3), act="lrelu", clamp=1)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_empty_batch():
    assert bias_act(torch.zeros(0, 3, 4, 4), torch.zeros(3), act="lrelu").shape == (0, 3, 4, 4)


# --- Mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [({"act": "gelu"}, "linear, relu, .*, swish"), ({"impl": "triton"}, "triton"), ({"clamp": -1}, "clamp .* -1")],
)
def test_what_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        bias_act(torch.zeros(1, 3), **options)


@pytest.mark.parametrize(("shape", "dim"), [([4], 1), ([1], 1), ([2], 1), ([3, 1], 1), ([3], 0)])
def test_bias_that_does_not_fit(shape, dim):
    with pytest.raises(ValueError, match=f"does not fit dimension {dim} of"):
        bias_act(torch.zeros(2, 3), torch.zeros(shape), dim=dim)
