"""The compiled operations on a GPU, against the plain ones on the CPU in float64. `pytest -m gpu` runs them."""

from __future__ import annotations

import itertools

import pytest
import torch
from facegen.beside.torch_utils import custom_ops
from facegen.beside.torch_utils.ops import upfirdn2d as upfirdn2d_ops
from facegen.beside.torch_utils.ops.bias_act import activate_, activation_funcs, bias_act
from facegen.beside.torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d
from golden_ops import BIAS_ACT_CASES, FILTER_CASES, assert_bias_act_is_golden, assert_filter_is_golden
from random_filters import random_call

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICE = "cuda"
OPS = torch.ops.torch_utils
ACTIVATIONS = list(activation_funcs)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# Of results up to about 10: a few roundings of each type.
TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 1e-1, torch.float32: 2e-5, torch.float64: 1e-12}


@pytest.fixture(scope="module", autouse=True)
def built():
    state = custom_ops.build_state()
    if state.state == "cannot be built":
        pytest.skip(f"{state.reason}; {state.fix}")
    custom_ops.load()
    assert custom_ops.ready()


def close(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    tolerance = TOLERANCES[dtype]
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.detach().cpu().double(), expected.detach(), atol=tolerance, rtol=tolerance)


# --- Golden numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "case"), BIAS_ACT_CASES)
def test_golden_bias_act(name, case):
    assert_bias_act_is_golden(name, case, DEVICE)


@pytest.mark.parametrize(("name", "case"), FILTER_CASES)
def test_golden_upfirdn2d(name, case):
    assert_filter_is_golden(name, case, DEVICE)


# --- Random shapes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"alpha": 0.4, "gain": -1.3, "clamp": 0.7}], ids=["default", "explicit"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act(act, dtype, layout, options):
    for shape in [(1, 1, 1, 1), (3, 5, 13, 13), (2, 64, 9, 8), (4, 32, 32, 32)]:
        x, g, h = (torch.randn(shape, dtype=dtype).to(memory_format=layout) for _ in range(3))
        b = torch.randn(shape[1], dtype=dtype)
        results = []
        for device, target in ((DEVICE, dtype), ("cpu", torch.float64)):
            inputs = [tensor.to(device, target).requires_grad_() for tensor in (x, b)]
            y = bias_act(*inputs, act=act, **options)
            first = torch.autograd.grad(y, inputs, g.to(device, target), create_graph=True)
            second = None
            if first[0].requires_grad:
                (second,) = torch.autograd.grad(first[0], inputs[0], h.to(device, target), allow_unused=True)
            results.append((y, first[0], torch.zeros_like(inputs[0]) if second is None else second))
        y = results[1][0]
        # Where rounding puts a result onto the limit, both sides' derivatives are right.
        clear = (y.abs() - options.get("clamp", torch.inf)).abs() > 0.02
        for i, (actual, expected) in enumerate(zip(*results, strict=True)):
            mask = clear if i > 0 else torch.ones_like(clear)
            close(actual.cpu()[mask], expected[mask], dtype)
            assert actual.stride() == x.stride()


@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("start", [0, 1])  # 1: no address that 16 bytes could be read from
def test_bias_along_every_dimension(dim, start):
    for dtype, shape in itertools.product(TOLERANCES, [(3, 7, 5, 2), (1, 300, 2, 3)]):
        count = torch.Size(shape).numel()
        x = torch.randn(count + start, dtype=dtype, device=DEVICE)[start:].view(shape)
        b = torch.randn(shape[dim], dtype=dtype, device=DEVICE)
        expected = bias_act(x.cpu().double(), b.cpu().double(), dim, "lrelu")
        close(bias_act(x, b, dim, "lrelu"), expected, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("seed", range(60))
def test_upfirdn2d(seed, dtype, layout):
    x, f, options = random_call(seed, dtype, layout)
    for flip in (False, True):
        results = []
        for device, target in ((DEVICE, dtype), ("cpu", torch.float64)):
            source = x.to(device, target).requires_grad_()
            y = upfirdn2d(source, f.to(device), **options, flip_filter=flip)
            (grad,) = torch.autograd.grad(y, source, torch.ones_like(y))
            results.append((y, grad))
        close(results[0][0], results[1][0], dtype)
        # Gradients are sums of up to 144 taps.
        torch.testing.assert_close(
            results[0][1].cpu().double(), results[1][1], atol=10 * TOLERANCES[dtype], rtol=10 * TOLERANCES[dtype]
        )


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("taps", [[1, 3, 3, 1], list(range(1, 13)), list(range(1, 25))], ids=len)
def test_the_shapes_of_stylegan(taps, up, down, dtype, layout):
    f = setup_filter(taps)
    for size in (1, 4, 16, 65, 130):
        x = torch.randn(2, 70, size, size, dtype=dtype).to(memory_format=layout)
        pad = len(taps) // 2
        options = {"up": up, "down": down, "padding": [pad, pad + 1, pad + 1, pad]}
        # Both take the taps as float32, the plain operation then in the picture's type.
        actual = upfirdn2d(x.to(DEVICE), f.to(DEVICE), **options)
        close(actual, upfirdn2d(x.double(), f, **options), dtype)
        if size > 1:  # one pixel is in both layouts
            assert actual.is_contiguous(memory_format=layout)


def test_what_is_not_contiguous():
    x = torch.randn(3, 17, 20, 19, device=DEVICE)[:, ::2, 1:, ::3]
    f = setup_filter([1, 3, 3, 1], device=DEVICE)
    close(upfirdn2d(x, f, up=2), upfirdn2d(x.cpu().double(), f.cpu(), up=2), torch.float32)
    b = torch.randn(34, device=DEVICE)[::4]
    close(bias_act(x, b, act="swish"), bias_act(x.cpu().double(), b.cpu().double(), act="swish"), torch.float32)


def test_empty_batch():
    x = torch.zeros(0, 3, 4, 4, device=DEVICE)
    assert bias_act(x, torch.zeros(3, device=DEVICE), act="lrelu").shape == x.shape
    assert upfirdn2d(x, setup_filter([1, 3, 3, 1], device=DEVICE), up=2, padding=2).shape == (0, 3, 9, 9)


def test_not_a_number_stays_one():
    x = torch.full([2, 3], torch.nan, device=DEVICE)
    for act in ACTIVATIONS:
        assert bias_act(x, act=act, clamp=1, gain=2).isnan().all()


def test_activate():
    x = torch.randn(4, 3, 5, 5, device=DEVICE)
    expected = bias_act(x.cpu().double(), act="lrelu", gain=2, clamp=1)
    close(activate_(x, "lrelu", gain=2, clamp=1), expected, torch.float32)


# --- Derivatives, tracing, the device -------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_derivatives_of_bias_act(act):
    x = torch.randn(2, 3, 2, dtype=torch.float64, device=DEVICE, requires_grad=True)
    b = torch.randn(3, dtype=torch.float64, device=DEVICE, requires_grad=True)
    for options in ({}, {"alpha": 0.4, "gain": -1.3, "clamp": 0.7}, {"alpha": -0.5}):

        def function(x: torch.Tensor, b: torch.Tensor, options: dict = options) -> torch.Tensor:
            return bias_act(x, b, act=act, **options)

        assert torch.autograd.gradcheck(function, [x, b])
        assert torch.autograd.gradgradcheck(function, [x, b])


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("separable", [False, True])
def test_derivatives_of_upfirdn2d(up, down, separable):
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, device=DEVICE, requires_grad=True)
    f = setup_filter([1.0, 3, 5, -1], separable=separable, device=DEVICE)

    def function(x: torch.Tensor) -> torch.Tensor:
        return upfirdn2d(x, f, up, down, [2, 1, 3, -1], gain=1.7)

    assert torch.autograd.gradcheck(function, [x])
    assert torch.autograd.gradgradcheck(function, [x])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_opcheck(layout):
    x, g = (torch.randn(2, 16, 6, 5, device=DEVICE).to(memory_format=layout).requires_grad_() for _ in range(2))
    b, f = torch.randn(16, device=DEVICE, requires_grad=True), torch.randn(4, 4, device=DEVICE)
    for act, clamp in itertools.product(["linear", "lrelu", "swish"], [None, 0.5]):
        torch.library.opcheck(OPS.bias_act.default, (x, b, 1, act, 0.2, 1.4, clamp))
        torch.library.opcheck(OPS.bias_act_grad.default, (g, x, b, 1, act, 0.2, 1.4, clamp, False, 1))
    torch.library.opcheck(OPS.upfirdn2d.default, (x, f, [2, 1], [1, 2], [1, 2, 3, 2], False, 1.5))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(backend):
    if backend == "inductor":
        pytest.importorskip("triton")
    f = setup_filter([1, 3, 3, 1], device=DEVICE)

    def network(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        x = upfirdn2d_ops.upsample2d(x, f)
        return upfirdn2d_ops.downsample2d(bias_act(x, b, act="lrelu", clamp=2), f)

    x = torch.randn(2, 3, 8, 8, device=DEVICE, requires_grad=True)
    b = torch.randn(3, device=DEVICE, requires_grad=True)
    torch.compiler.reset()
    fast = torch.compile(network, backend=backend, fullgraph=True)
    expected = torch.autograd.grad(network(x, b).square().sum(), [x, b])
    torch.testing.assert_close(torch.autograd.grad(fast(x, b).square().sum(), [x, b]), expected, atol=1e-4, rtol=1e-4)


def test_an_exported_program_needs_none_of_this():
    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return bias_act(upfirdn2d(x, torch.ones(4, 4, device=x.device), padding=2), act="lrelu")

    program = torch.export.export(Module(), (torch.randn(1, 3, 8, 8, device=DEVICE),))
    assert not [node for node in program.graph.nodes if str(node.target).startswith("torch_utils")]


def test_never_waits_for_the_gpu():
    x = torch.randn(2, 16, 32, 32, device=DEVICE, requires_grad=True)
    b = torch.randn(16, device=DEVICE, requires_grad=True)
    f = setup_filter([1, 3, 3, 1], device=DEVICE)
    try:
        torch.cuda.set_sync_debug_mode("error")
        y = bias_act(upfirdn2d_ops.upsample2d(x, f), b, act="lrelu", clamp=256)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        first.square().sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_in_a_cuda_graph():
    x, f = torch.randn(2, 16, 32, 32, device=DEVICE), setup_filter([1, 3, 3, 1], device=DEVICE)
    expected = bias_act(upfirdn2d_ops.upsample2d(x, f), act="lrelu")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = bias_act(upfirdn2d_ops.upsample2d(x, f), act="lrelu")
    y.zero_()
    graph.replay()
    torch.testing.assert_close(y, expected, atol=0, rtol=0)


def test_on_the_second_gpu():
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    x = torch.randn(2, 3, 8, 8, device="cuda:1")
    y = bias_act(upfirdn2d(x, torch.ones(4, 4, device="cuda:1")), act="lrelu")
    assert y.device == x.device
    close(y, bias_act(upfirdn2d(x.cpu().double(), torch.ones(4, 4)), act="lrelu"), torch.float32)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_more_than_2_to_the_31_elements(layout):
    shape, free = (33, 64, 1024, 1024), torch.cuda.mem_get_info()[0]
    if free < 20 * 2**30:
        pytest.skip(f"needs 20 GiB of free GPU memory, there are {free / 2**30:.0f}")
    x = torch.zeros(shape, dtype=torch.float16, device=DEVICE).to(memory_format=layout)
    assert x.numel() > 2**31
    x[-1].normal_()
    b, f = torch.randn(64, dtype=torch.float16, device=DEVICE), setup_filter([1, 3, 3, 1], device=DEVICE)
    y = bias_act(x, b, act="lrelu")
    assert torch.equal(y[-1:], bias_act(x[-1:].contiguous(memory_format=layout), b, act="lrelu"))
    del y
    last = x[-1:].contiguous(memory_format=layout)
    for filter_ in (f, torch.ones(1, 5, device=DEVICE), torch.ones(3, 3, device=DEVICE)):  # each of the three kernels
        y = upfirdn2d(x, filter_)
        assert torch.equal(y[-1:], upfirdn2d(last, filter_))
        assert not y[0].any()
        del y


def test_a_generator_makes_the_same_pictures(monkeypatch):
    from facegen.networks.generator import Generator

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    G = Generator(64, 10, 64, 64, 3, {"num_layers": 2}, {"channel_base": 2048, "channel_max": 64}).to(DEVICE).eval()
    z, c = torch.randn(4, 64, device=DEVICE), torch.eye(10, device=DEVICE)[:4]
    with torch.no_grad():
        fast = G(z, c, noise_mode="const")
        monkeypatch.setattr(custom_ops, "_ready", False)
        torch.testing.assert_close(fast, G(z, c, noise_mode="const"), atol=1e-4, rtol=1e-4)
