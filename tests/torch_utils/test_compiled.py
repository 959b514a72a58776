"""The operations as PyTorch sees them: shapes, derivatives, tracing. On the CPU, where they are plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from facegen.beside.torch_utils import custom_ops
from facegen.beside.torch_utils.ops import compiled, upfirdn2d
from facegen.beside.torch_utils.ops.bias_act import activate_, activation_funcs, bias_act
from torch._subclasses.fake_tensor import FakeTensorMode

ACTIVATIONS = list(activation_funcs)
OPS = torch.ops.torch_utils
OPTIONS = {"default": (0.2, 1.4, None), "explicit": (0.4, -1.3, 0.7), "falling": (-0.5, 1.0, 0.7)}


def by_hand(x, b, dim, act, alpha, gain, clamp):
    return bias_act(x, b, dim, act, alpha, gain, clamp, impl="ref")


@pytest.mark.parametrize("call", [OPS.bias_act, compiled.bias_act], ids=["registered", "function"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act_and_its_first_two_derivatives(act, options, call):
    x, g = (torch.randn(3, 4, 5, dtype=torch.float64) for _ in range(2))
    b = torch.randn(4, dtype=torch.float64)
    results = []
    for function in (call, by_hand):
        inputs = [tensor.clone().requires_grad_() for tensor in (x, b, g)]
        y = function(*inputs[:2], 1, act, *options)
        first = torch.autograd.grad(y, inputs[:2], inputs[2], create_graph=True)
        second = []
        for gradient in first:
            h = torch.linspace(-1, 1, gradient.numel(), dtype=torch.float64).reshape(gradient.shape)
            second += torch.autograd.grad(gradient, inputs, h, retain_graph=True, materialize_grads=True)
        results.append([y, *first, *second])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("act", ["tanh", "sigmoid", "elu", "selu", "softplus", "swish"])
def test_third_and_fourth_derivative(act):
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)

    def second(x: torch.Tensor) -> torch.Tensor:
        y = compiled.bias_act(x, None, 0, act, 0, 1.3, None)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return torch.autograd.grad(first.sum(), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(second, [x])
    assert torch.autograd.gradgradcheck(second, [x])


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_derivatives_at_0_are_those_of_pytorch(act):
    # Where activations have kinks and steps; in float16, sums of random numbers often lie there.
    results = []
    for function in (compiled.bias_act, by_hand):
        x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        derivatives, last = [], function(x, None, 0, act, 0.2, 1.3, None)
        for _ in range(3):
            if last is not None and last.requires_grad:
                (last,) = torch.autograd.grad(last.sum(), x, create_graph=True, allow_unused=True)
            else:
                last = None
            derivatives.append(torch.zeros_like(x) if last is None else last)
        results.append(derivatives)
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_the_result_is_kept_instead_of_the_input():
    # Half the memory: the layer behind keeps what this one returns.
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = compiled.bias_act(torch.randn(2, 3, requires_grad=True), torch.zeros(3), 1, "lrelu", 0.2, 1.4, 256.0)
    assert [tensor.data_ptr() for tensor in kept] == [y.data_ptr()]


@pytest.mark.parametrize("act", ["linear", "relu", "lrelu"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_was_clamped_is_known_in_every_type(act, dtype):
    x = torch.linspace(0.5, 0.9, 50, dtype=dtype).requires_grad_()
    y = OPS.bias_act(x, None, 0, act, 0.2, 1.0, 0.7)  # 0.7 is a number of neither type
    y.sum().backward()
    assert torch.equal(x.grad == 0, y >= torch.tensor(0.7, dtype=dtype))


FILTER = torch.tensor([[1.0, 2, 0, -1], [0.5, 3, 1, 0], [0, 1, 2, 4]])
GEOMETRIES = [
    ((1, 1), (1, 1), (0, 0, 0, 0)),
    ((2, 3), (1, 1), (3, 1, 2, 4)),
    ((3, 2), (2, 3), (5, -1, -2, 6)),
    ((1, 2), (5, 7), (6, 9, 8, 2)),
]


@pytest.mark.parametrize("call", [OPS.upfirdn2d, compiled.upfirdn2d], ids=["registered", "function"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("up", "down", "padding"), GEOMETRIES)
def test_derivatives_of_upfirdn2d(up, down, padding, flip, call):
    x = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor) -> torch.Tensor:
        return call(x, FILTER, up, down, padding, flip, 1.7)

    assert torch.autograd.gradcheck(function, [x])
    # One random direction instead of every pair of pixels: a tenth of the time.
    assert torch.autograd.gradgradcheck(function, [x], fast_mode=True)


# --- Tracing --------------------------------------------------------------------------------------------------------

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.mark.parametrize(
    ("act", "layout"), [("linear", "contiguous"), ("lrelu", "channels_last"), ("swish", "contiguous")]
)
def test_opcheck_bias_act(act, layout):
    x, g = (torch.randn(2, 3, 4, 5).to(memory_format=LAYOUTS[layout]).requires_grad_() for _ in range(2))
    b = torch.randn(3, requires_grad=True)
    for bias, clamp in ((None, 0.5), (b, None)):
        torch.library.opcheck(OPS.bias_act.default, (x, bias, 1, act, 0.2, 1.4, clamp))
    for order in (1, 2):
        torch.library.opcheck(OPS.bias_act_grad.default, (g, x, b, 1, act, 0.2, 1.4, 0.5, False, order))


@pytest.mark.parametrize(
    ("geometry", "layout"), list(zip(GEOMETRIES, ["contiguous", "channels_last"] * 2, strict=True)), ids=str
)
def test_opcheck_upfirdn2d(geometry, layout):
    x = torch.randn(2, 3, 6, 5).to(memory_format=LAYOUTS[layout]).requires_grad_()
    torch.library.opcheck(OPS.upfirdn2d.default, (x, FILTER, *geometry, True, 1.7))


def network(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    x = OPS.upfirdn2d(x, torch.ones(4, 4) / 16, [2, 2], [1, 1], [2, 1, 2, 1], False, 4.0)
    x = OPS.bias_act(x, b, 1, "lrelu", 0.2, 1.4, 256.0)
    return OPS.upfirdn2d(x, torch.ones(4, 4) / 16, [1, 1], [2, 2], [1, 1, 1, 1], False, 1.0)


def test_compile():
    fast = torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in (4, 6):
        x, b = torch.randn(2, 3, size, size, requires_grad=True), torch.randn(3, requires_grad=True)
        expected = torch.autograd.grad(network(x, b).square().sum(), [x, b])
        actual = torch.autograd.grad(fast(x, b).square().sum(), [x, b])
        torch.testing.assert_close(actual, expected)


def test_export():
    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return network(x, b)

    x, b = torch.randn(2, 3, 4, 4), torch.randn(3)
    program = torch.export.export(Module(), (x, b))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum(name.startswith("torch_utils.") for name in names) == 3
    torch.testing.assert_close(program.module()(x, b), network(x, b))


@pytest.mark.parametrize("there", [False, True])
def test_compile_takes_what_is_there_for_a_constant(monkeypatch, there):
    monkeypatch.setattr(custom_ops, "_ready", None)
    monkeypatch.setattr(custom_ops, "_try_to_load", lambda: there)
    torch.compiler.reset()

    @torch.compile(backend="eager", fullgraph=True)
    def function(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if custom_ops.ready() else x - 1

    assert function(torch.zeros(1)).item() == (1 if there else -1)


# --- Which is called ------------------------------------------------------------------------------------------------


def test_tensors_of_the_cpu_never_ask_for_a_build(monkeypatch):
    monkeypatch.setattr(custom_ops, "ready", lambda: pytest.fail("asked"))
    x = torch.randn(2, 3, 8, 8)
    bias_act(x, torch.zeros(3), act="lrelu")
    upfirdn2d.upsample2d(x, upfirdn2d.setup_filter([1, 3, 3, 1]))
    assert not compiled.usable(x)


def test_tensors_of_a_gpu_go_to_the_compiled_operations(monkeypatch):
    # Tensors without content: only what is called, and which shapes and layouts come out.
    monkeypatch.setattr(custom_ops, "_ready", True)
    with FakeTensorMode():
        x = torch.empty(2, 16, 8, 8, dtype=torch.float16, device="cuda", requires_grad=True)
        x = x.to(memory_format=torch.channels_last)
        b = torch.empty(16, dtype=torch.float16, device="cuda")
        y = upfirdn2d.upsample2d(x, torch.empty(4, 4, device="cuda"))
        assert y.shape == (2, 16, 16, 16)
        assert "_Upfirdn2d" in y.grad_fn.name()
        y = upfirdn2d.downsample2d(y, torch.empty(12, device="cuda"))
        assert y.shape == (2, 16, 8, 8)
        for z in (bias_act(y, b, act="lrelu", clamp=1), activate_(y, "lrelu"), bias_act(y, act="swish")):
            assert "_BiasAct" in z.grad_fn.name()
            assert z.is_contiguous(memory_format=torch.channels_last)
        # Plain PyTorch does a mere sum, unlike types, and what is asked for.
        for z in (bias_act(y, b), bias_act(y, b.float(), act="lrelu"), bias_act(y, b, act="lrelu", impl="ref")):
            assert "_BiasAct" not in z.grad_fn.name()
        assert "_Upfirdn2d" not in upfirdn2d.filter2d(y, torch.empty(4, 4, device="cuda"), impl="ref").grad_fn.name()


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("up", "down", "padding"), GEOMETRIES)
def test_compiled_upfirdn2d_is_given_the_same_filter(up, down, padding, flip, separable):
    x = torch.randn(1, 2, 7, 6, dtype=torch.float64)
    f = upfirdn2d.setup_filter([1.0, 3, 5, -1], separable=separable)
    actual = compiled.upfirdn2d(x, f, up, down, padding, flip, 1.7)
    torch.testing.assert_close(actual, upfirdn2d.upfirdn2d(x, f, up, down, padding, flip, 1.7), atol=1e-6, rtol=1e-6)


def test_compiled_upfirdn2d_refuses_small_pictures():
    with pytest.raises(ValueError, match="a picture of \\[2, 2\\] is too small for 4 x 4 taps"):
        compiled.upfirdn2d(torch.zeros(1, 1, 2, 2), torch.ones(4, 4), (1, 1), (1, 1), (0, 0, 0, 0), False, 1.0)
