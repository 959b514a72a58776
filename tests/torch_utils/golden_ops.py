"""The golden numbers of the operations, computed on any device."""

from __future__ import annotations

import pytest
import torch
from facegen.beside.torch_utils.ops import upfirdn2d
from facegen.beside.torch_utils.ops.bias_act import bias_act
from golden_numbers import assert_all_golden, golden

FILES = ("ops", "ops_extra")


def golden_cases(kind: str) -> list:
    """Every golden case of both files, as pytest parameters `(file name, case)`."""
    return [
        pytest.param(name, case, id=f"{name}-{case['name']}") for name in FILES for case in golden(name).about[kind]
    ]


BIAS_ACT_CASES = golden_cases("bias_act")
FILTER_CASES = golden_cases("upfirdn2d") + golden_cases("resample2d")


def assert_every_golden_case_is_tested(kind: str) -> None:
    """Assert that the description lists every case whose numbers are stored."""
    for name in FILES:
        assert {case["name"] for case in golden(name).about[kind]} == golden(name).names_under(kind)


def assert_bias_act_is_golden(name: str, case: dict, device: str = "cpu", impl: str = "cuda") -> None:
    """Compare a case's result and each derivative that is stored."""
    file = golden(name)
    x, cotangent = file["bias_act/x"].to(device).requires_grad_(), file["bias_act/cotangent"].to(device)
    dim, inputs = case.get("dim", 1), [x]
    if dim is not None:
        inputs.append(file["bias_act/b" if name == "ops" else f"bias_act/b{dim}"].to(device).requires_grad_())
    options = {key: case[key] for key in ("act", "alpha", "gain", "clamp") if key in case}
    y = bias_act(*inputs, dim=dim or 0, impl=impl, **options)
    expected = file.under(f"bias_act/{case['name']}")
    grad_x, *grad_b = torch.autograd.grad((y * cotangent).sum(), inputs, create_graph=True)
    actual = {"y": y, "grad_x": grad_x}
    if "grad_b" in expected:
        actual["grad_b"] = grad_b[0]
    if case.get("second_order"):
        actual["grad2_x"] = _second_derivative(grad_x, x)
    assert_all_golden(actual, expected)


def _second_derivative(grad_x: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Derivative of sum(grad_x^2), 0 where nothing depends on x any more."""
    result = None
    if grad_x.requires_grad:
        (result,) = torch.autograd.grad(grad_x.square().sum(), x, allow_unused=True)
    return torch.zeros_like(x) if result is None else result


def golden_filter(name: str, filter_name: str | None, device: str = "cpu") -> torch.Tensor | None:
    """Build the filter that a golden case names, from its description."""
    if filter_name in (None, "(no filter)"):
        return None
    (about,) = [entry for entry in golden(name).about["setup_filter"] if entry["name"] == filter_name]
    return upfirdn2d.setup_filter(**{key: value for key, value in about.items() if key != "name"}, device=device)


def assert_filter_is_golden(name: str, case: dict, device: str = "cpu", **impl: str) -> None:
    """Compare what a filter's case gives, and the gradient where a cotangent is stored."""
    x = golden(name)["upfirdn2d/x"].to(device).requires_grad_()
    options = {key: value for key, value in case.items() if key not in ("name", "filter", "function")}
    function = getattr(upfirdn2d, case.get("function", "upfirdn2d"))
    y = function(x, golden_filter(name, case["filter"], device), **options, **impl)
    kind = "resample2d" if "function" in case else "upfirdn2d"
    expected, actual = golden(name).under(f"{kind}/{case['name']}"), {"y": y}
    cotangent = expected.pop("cotangent", None)
    if cotangent is not None:
        (actual["grad_x"],) = torch.autograd.grad(y, x, cotangent.to(device))
    assert_all_golden(actual, expected)
