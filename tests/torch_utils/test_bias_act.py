import math

import pytest
import torch
from golden_numbers import assert_all_golden, assert_golden, golden

from torch_utils.ops.bias_act import activation_funcs, bias_act

ACTIVATIONS = list(activation_funcs)
OPTIONS = ("act", "alpha", "gain", "clamp")


def by_name(case: dict) -> str:
    return case["name"]


# --- Golden numbers -------------------------------------------------------------------------------------------------


def test_every_golden_case_is_tested():
    for file in (golden("ops"), golden("ops_extra")):
        assert {case["name"] for case in file.about["bias_act"]} == file.names_under("bias_act")


@pytest.mark.parametrize("impl", ["ref", "cuda"])
@pytest.mark.parametrize("case", golden("ops").about["bias_act"], ids=by_name)
def test_golden(case, impl):
    file = golden("ops")
    x = file["bias_act/x"].requires_grad_()
    b = file["bias_act/b"].requires_grad_()
    options = {key: case[key] for key in OPTIONS if key in case}
    y = bias_act(x, b, impl=impl, **options)
    grad_x, grad_b = torch.autograd.grad((y * file["bias_act/cotangent"]).sum(), [x, b], create_graph=True)
    actual = {"y": y, "grad_x": grad_x, "grad_b": grad_b}
    if case.get("second_order"):
        actual["grad2_x"] = second_derivative(grad_x, x)
    assert_all_golden(actual, file.under(f"bias_act/{case['name']}"))


@pytest.mark.parametrize("case", golden("ops_extra").about["bias_act"], ids=by_name)
def test_golden_along_other_dimensions(case):
    file = golden("ops_extra")
    x = file["bias_act/x"].requires_grad_()
    options = {key: case[key] for key in OPTIONS if key in case}
    if case["dim"] is None:
        y = bias_act(x, None, **options)
    else:
        y = bias_act(x, file[f"bias_act/b{case['dim']}"], dim=case["dim"], **options)
    (grad_x,) = torch.autograd.grad(y, x, file["bias_act/cotangent"])
    assert_all_golden({"y": y, "grad_x": grad_x}, file.under(f"bias_act/{case['name']}"))


def second_derivative(grad_x: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Derivative of sum(grad_x^2), 0 where nothing depends on x any more."""
    result = None
    if grad_x.requires_grad:
        (result,) = torch.autograd.grad(grad_x.square().sum(), x, allow_unused=True)
    return torch.zeros_like(x) if result is None else result


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


@pytest.mark.parametrize("act", ["tanh", "swish", "softplus"])
def test_three_times_differentiable(act):
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)

    def second(x: torch.Tensor) -> torch.Tensor:
        y = bias_act(x, dim=0, act=act)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return torch.autograd.grad(first.sum(), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(second, [x])


def test_clamped_elements_have_no_gradient():
    x = torch.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    bias_act(x, clamp=1.0).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]


# --- What it computes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["relu", "lrelu", "swish"])
def test_rectifiers_have_a_gain_of_sqrt_2_by_default(act):
    x = torch.randn(4, 3)
    assert_golden(bias_act(x, act=act), bias_act(x, act=act, gain=1) * math.sqrt(2), tolerance=1e-6)


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


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_leaves_its_input_alone(act, bias):
    x, b = torch.randn(2, 3), torch.randn(3)
    before = x.clone(), b.clone()
    bias_act(x, b if bias else None, act=act, gain=3, clamp=0.1)
    bias_act(x, torch.zeros(3), act=act)
    assert torch.equal(x, before[0])
    assert torch.equal(b, before[1])


def test_keeps_channels_last():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    y = bias_act(x, torch.randn(3), act="lrelu", clamp=1)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_empty_batch():
    assert bias_act(torch.zeros(0, 3, 4, 4), torch.zeros(3), act="lrelu").shape == (0, 3, 4, 4)


# --- Mistakes -------------------------------------------------------------------------------------------------------


def test_unknown_activation():
    with pytest.raises(ValueError, match=r"unknown activation 'gelu': choose one of linear, relu, .*, swish"):
        bias_act(torch.zeros(1, 3), act="gelu")


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'triton'"):
        bias_act(torch.zeros(1, 3), impl="triton")


def test_negative_clamp():
    with pytest.raises(ValueError, match="clamp must not be negative, got -1"):
        bias_act(torch.zeros(1, 3), clamp=-1)


@pytest.mark.parametrize(("shape", "dim"), [([4], 1), ([1], 1), ([2], 1), ([3, 1], 1), ([3], 0)])
def test_bias_that_does_not_fit(shape, dim):
    with pytest.raises(ValueError, match=f"does not fit dimension {dim} of"):
        bias_act(torch.zeros(2, 3), torch.zeros(shape), dim=dim)
