"""The CUDA kernels' own code, run on the CPU against the definitions: what can be known of them without a GPU.

A C++ compiler builds the headers that nvcc makes kernels of; a small driver walks through blocks and threads. What this
cannot see: races between threads, and how the launch and the GPU's arithmetic behave.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from facegen.beside.torch_utils import custom_ops
from facegen.beside.torch_utils.ops import upfirdn2d as upfirdn2d_op
from facegen.beside.torch_utils.ops.bias_act import activation_funcs, bias_act
from golden_numbers import assert_golden, golden
from random_filters import random_call

ACTIVATIONS = list(activation_funcs)
TYPES = {torch.float16: 0, torch.float32: 2, torch.float64: 3}
# Of results up to about 10: one rounding of float16 (2^-11), and the roundings of sums in float32 and in float64.
TOLERANCES = {torch.float16: 1e-2, torch.float32: 2e-5, torch.float64: 1e-12}
compiler = shutil.which("g++") or shutil.which("c++")
pytestmark = pytest.mark.skipif(compiler is None, reason="no C++ compiler here to build the kernels for the host")


class BiasAct(ctypes.Structure):
    """`struct BiasAct` of bias_act.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "b", "g", "y")),
        *((name, ctypes.c_int64) for name in ("count", "bias_step", "bias_size")),
        *((name, ctypes.c_int) for name in ("type", "act", "order")),
        ("from_output", ctypes.c_bool),
        *((name, ctypes.c_double) for name in ("alpha", "gain", "clamp")),
    )


class Upfirdn2d(ctypes.Structure):
    """`struct Upfirdn2d` of upfirdn2d.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "filter", "y")),
        *((name, ctypes.c_int) for name in ("batch", "channels", "in_y", "in_x", "out_y", "out_x")),
        *((name, ctypes.c_int) for name in ("taps_y", "taps_x", "up_y", "up_x", "down_y", "down_x", "pad_y", "pad_x")),
        ("type", ctypes.c_int),
        ("channels_last", ctypes.c_bool),
        ("flip", ctypes.c_bool),
        ("gain", ctypes.c_double),
    )


@pytest.fixture(scope="session")
def kernels(tmp_path_factory) -> ctypes.CDLL:
    here, library = Path(__file__).parent, tmp_path_factory.mktemp("kernels") / "kernels.so"
    # fmt: off
    subprocess.run(
        [compiler, "-std=c++17", "-O0", "-fPIC", "-shared", "-Wall", "-Wno-unknown-pragmas", f"-I{custom_ops.SOURCES}",
         here / "kernels_on_host.cpp", "-o", library],
        check=True,
    )
    # fmt: on
    loaded = ctypes.CDLL(str(library))
    loaded.bias_act_on_host.restype = loaded.upfirdn2d_on_host.restype = ctypes.c_char_p
    return loaded


class Guarded:
    """A copy of a tensor, or room for one, between numbers that nobody may read or write."""

    def __init__(self, tensor: torch.Tensor, misaligned: bool = False) -> None:
        guard = 64 + misaligned
        self.memory = torch.full([tensor.numel() + 2 * guard], torch.nan, dtype=tensor.dtype)
        self.tensor = self.memory[guard : guard + tensor.numel()].as_strided(
            tensor.shape, tensor.stride(), storage_offset=guard
        )
        self.tensor.copy_(tensor)
        self.guard = guard

    @property
    def address(self) -> int:
        return self.tensor.data_ptr()

    def untouched(self) -> bool:
        return bool(self.memory[: self.guard].isnan().all() and self.memory[-self.guard :].isnan().all())


# --- bias_act -------------------------------------------------------------------------------------------------------


def run_bias_act(kernels, x, b, dim, act, alpha, gain, clamp, g=None, order=0, from_output=False, misaligned=False):
    """Call the kernel; `x` dense, `g` in its layout."""
    inputs = [None if tensor is None else Guarded(tensor, misaligned) for tensor in (x, b, g)]
    y = Guarded(torch.empty_like(x), misaligned)
    addresses = [None if tensor is None else tensor.address for tensor in inputs]
    step = max(x.stride(dim), 1)
    limit = -1.0 if clamp is None else clamp
    parameters = BiasAct(
        *addresses, y.address, x.numel(), step, x.shape[dim], TYPES[x.dtype], ACTIVATIONS.index(act), order,
        from_output, alpha, gain, limit,
    )  # fmt: skip
    assert kernels.bias_act_on_host(ctypes.byref(parameters))
    assert y.untouched()
    return y.tensor


def derivatives(x, b, dim, act, alpha, gain, clamp, g, h):
    """The plain operation: y, g times its first derivative, g * h times its second."""
    total = x.clone().requires_grad_()
    y = bias_act(total, b, dim, act, alpha, gain, clamp, impl="ref")
    (first,) = torch.autograd.grad(y, total, g, create_graph=True)
    second = torch.zeros_like(x)
    if first.requires_grad:
        (found,) = torch.autograd.grad(first, total, h, allow_unused=True)
        second = second if found is None else found
    return y.detach(), first.detach(), second


def pairs(first: Sequence, second: Sequence, *others: Sequence) -> list[tuple]:
    """Combine every two of `first` and `second`; what the others are taken from goes round beside them."""
    return [
        (one, two, *(other[(i + j) % len(other)] for other in others))
        for i, one in enumerate(first)
        for j, two in enumerate(second)
    ]


@pytest.mark.parametrize(
    ("act", "dtype", "options"),
    pairs(ACTIVATIONS, list(TYPES), [(0.2, 1.0, None), (0.4, -1.3, 0.7), (0.2, 2.0, 0.0)]),
    ids=str,
)
def test_bias_act(kernels, act, dtype, options):
    # Sizes that fill no block and no vector; 2.5 blocks of float32.
    shape, dim = (3, 5, 13, 13), 1
    x, g, h = (torch.randn(shape, dtype=dtype) * 2 for _ in range(3))
    b = torch.randn(shape[dim], dtype=dtype)
    alpha, gain, clamp = options
    if clamp != 0:  # or 0 lies on the limit, where both sides' derivatives are right
        x[0, :, 0, 0] = -b  # where activations have kinks and steps: in float16, random numbers often add up to 0
    # The reference in float64, from what the type can hold.
    expected = derivatives(*(t.double() for t in (x, b)), dim, act, alpha, gain, clamp, g.double(), h.double())
    arguments = (kernels, x, b, dim, act, alpha, gain, clamp)
    actual = [run_bias_act(*arguments)]
    actual += [run_bias_act(*arguments, g, order=1)]
    product = (g.double() * h.double()).to(dtype)
    actual += [run_bias_act(*arguments, product, order=2)]
    tolerance = TOLERANCES[dtype]
    for name, one, other in zip(("y", "first", "second"), actual, expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=tolerance, rtol=tolerance, msg=f"{name}: {{}}".format)


@pytest.mark.parametrize(
    ("act", "gain", "dtype", "clamp"),
    pairs(["linear", "relu", "lrelu"], [1.5, -0.7], list(TYPES), [None, 0.7, 0.3])  # no limit is a number of float16
    + pairs(["lrelu", "linear", "relu"], [-0.7, 1.5], list(TYPES), [0.3, None, 0.7]),
    ids=str,
)
def test_first_derivative_from_the_result(kernels, act, gain, dtype, clamp):
    x, g = (torch.randn(4, 3, 11, 11, dtype=dtype) for _ in range(2))
    b = torch.randn(3, dtype=dtype)
    y = run_bias_act(kernels, x, b, 1, act, 0.2, gain, clamp)
    expected = run_bias_act(kernels, x, b, 1, act, 0.2, gain, clamp, g, order=1)
    actual = run_bias_act(kernels, y, None, 1, act, 0.2, gain, clamp, g, order=1, from_output=True)
    # Where float16 rounds the result onto the limit, that is a kink, and both sides are right.
    edge = y.abs() == torch.tensor(clamp or torch.inf, dtype=dtype)
    assert torch.equal(actual[~edge], expected[~edge])
    if clamp is not None:
        assert edge.any()
        assert (actual[edge] == 0).all()


LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("misaligned", [False, True])
@pytest.mark.parametrize(
    ("dim", "shape", "layout", "dtype"),
    pairs(range(4), [(2, 3, 4, 4), (1, 8, 1, 1), (2, 1, 3, 3), (3, 7, 5, 2), (1, 300, 2, 3)], LAYOUTS, list(TYPES)),
    ids=str,
)
def test_bias_along_every_dimension(kernels, dim, shape, layout, dtype, misaligned):
    x = torch.randn(shape, dtype=dtype).to(memory_format=layout)
    b = torch.randn(shape[dim], dtype=dtype)
    actual = run_bias_act(kernels, x, b, dim, "linear", 0, 1, None, misaligned=misaligned)
    expected = x + b.reshape([-1 if i == dim else 1 for i in range(4)])
    torch.testing.assert_close(actual, expected, atol=0, rtol=0)
    assert actual.stride() == x.stride()


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_not_a_number_stays_one(kernels, act):
    x = torch.full([1, 4], torch.nan)
    assert run_bias_act(kernels, x, None, 1, act, 0.2, 1, 0.5).isnan().all()


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_large_inputs(kernels, act):
    x = torch.tensor([[-1e4, -200.0, -30.0, 0.0, 19.0, 30.0, 200.0, 1e4]])
    expected = derivatives(x, None, 1, act, 0.2, 1.0, None, torch.ones_like(x), torch.ones_like(x))
    for order, other in enumerate(expected):
        g = torch.ones_like(x) if order else None
        actual = run_bias_act(kernels, x, None, 1, act, 0.2, 1.0, None, g, order=order)
        torch.testing.assert_close(actual, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("case", golden("ops").about["bias_act"], ids=lambda case: case["name"])
def test_golden_bias_act(kernels, case):
    file, activation = golden("ops"), activation_funcs[case["act"]]
    alpha, gain = (getattr(activation, name) if case.get(name) is None else case[name] for name in ("alpha", "gain"))
    arguments = (kernels, file["bias_act/x"], file["bias_act/b"], 1, case["act"], alpha, gain, case.get("clamp"))
    assert_golden(run_bias_act(*arguments), file[f"bias_act/{case['name']}/y"])
    first = run_bias_act(*arguments, file["bias_act/cotangent"], order=1)
    assert_golden(first, file[f"bias_act/{case['name']}/grad_x"])


# --- upfirdn2d ------------------------------------------------------------------------------------------------------


def run_upfirdn2d(kernels, x, f, up=(1, 1), down=(1, 1), padding=(0, 0, 0, 0), flip=False, gain=1.0):
    """Call the kernel for a 2-D filter; everything in x, y order. Returns the result and the kernel's name."""
    (up_x, up_y), (down_x, down_y), (x0, x1, y0, y1) = up, down, padding
    batch, channels, in_y, in_x = x.shape
    out_y = (in_y * up_y + y0 + y1 - f.shape[0]) // down_y + 1
    out_x = (in_x * up_x + x0 + x1 - f.shape[1]) // down_x + 1
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    y = Guarded(torch.empty([batch, channels, out_y, out_x], dtype=x.dtype).to(memory_format=layout))
    f = f.to(torch.float64 if x.dtype == torch.float64 else torch.float32).contiguous()
    source, taps = Guarded(x), Guarded(f)
    parameters = Upfirdn2d(
        source.address, taps.address, y.address, batch, channels, in_y, in_x, out_y, out_x, *f.shape,
        up_y, up_x, down_y, down_x, y0, x0, TYPES[x.dtype], last, flip, gain,
    )  # fmt: skip
    name = kernels.upfirdn2d_on_host(ctypes.byref(parameters))
    assert name, "wrote beside its shared memory"
    assert y.untouched()
    return y.tensor, re.search(r"(SmallFilter|Line|General)<.*?>", name.decode())[0]


def check_upfirdn2d(kernels, x, f, **options) -> str:
    """Compare with the plain operation in float64; returns the kernel's name."""
    actual, name = run_upfirdn2d(kernels, x, f, **options)
    options["flip_filter"] = options.pop("flip", False)
    expected = upfirdn2d_op.upfirdn2d(x.double(), f, impl="ref", **options)
    tolerance = TOLERANCES[x.dtype]
    torch.testing.assert_close(actual.double(), expected, atol=tolerance, rtol=tolerance, msg=f"{name}: {{}}".format)
    return name


# The tiles of the 4 x 4 kernels are 32 x 64, 16 x 16 and 16 x 8 outputs: less, exactly and more than one.
SIZES = [(1, 1), (5, 3), (16, 8), (17, 33), (33, 65)]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_4_x_4_taps(kernels, up, down, layout, dtype):
    names = set()
    paddings = itertools.cycle([(3, 3, 3, 3), (2, 1, 1, 2), (5, 0, 4, 7), (-1, 4, 6, -3), (4, 3, 3, 4)])
    for flip, (height, width) in zip(itertools.cycle([False, True]), [*SIZES, *SIZES[1:]]):
        # Tiles hold 64 channels of float16, 32 of float32, 16 of float64 where channels are last.
        x = torch.randn(1, 70 if layout is torch.channels_last else 35, height, width, dtype=dtype)
        padding = next(paddings)
        if min(height, width) < 4:
            padding = (3, 3, 3, 3)  # of the others some leave less than the filter
        names.add(
            check_upfirdn2d(
                kernels, x.to(memory_format=layout), torch.randn(4, 4), up=(up, up), down=(down, down),
                padding=padding, flip=flip, gain=1.5,
            )
        )  # fmt: skip
    assert {name.split("<")[0] for name in names} == {"SmallFilter"}
    if layout is torch.contiguous_format:
        assert len(names) == 2, "tiles for large and for small pictures"


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("axis", ["x", "y"])
def test_filters_along_one_axis(kernels, axis, layout, dtype):
    names = set()
    rates = [(1, 1, False), (2, 1, True), (1, 2, False), (2, 1, False), (3, 2, True), (5, 1, False)]
    sizes = [(3, 5), (35, 70), (18, 17)]
    first = 2 * LAYOUTS.index(layout) + list(TYPES).index(dtype)  # so that each filter meets many rates
    for i, taps in enumerate([4, 5, 8, 12, 17, 24]):
        up, down, flip = rates[(first + i) % len(rates)]
        height, width = sizes[(first + i // 2) % len(sizes)]
        before, after = taps // 2 + up % 2, taps // 2 + 1
        x = torch.randn(2, 35 if layout is torch.channels_last else 3, height, width, dtype=dtype)
        f = torch.randn(taps) / taps**0.5
        names.add(
            check_upfirdn2d(
                kernels,
                x.to(memory_format=layout),
                f[None, :] if axis == "x" else f[:, None],
                up=(up, 1) if axis == "x" else (1, up),
                down=(down, 1) if axis == "x" else (1, down),
                padding=(before, after, 0, 0) if axis == "x" else (0, 0, before, after),
                flip=flip,
            )
        )
    kinds = {name.split("<")[0] for name in names}
    assert kinds <= {"Line", "General"}
    # Twice as large, samples of float64 leave little room in shared memory.
    assert dtype == torch.float64 or kinds == {"Line"}


@pytest.mark.parametrize("seed", range(60))
def test_random_configurations(kernels, seed):
    dtype, layout = list(TYPES)[seed % 3], LAYOUTS[seed // 3 % 2]
    x, f, options = random_call(seed, dtype, layout)
    check_upfirdn2d(kernels, x, f, **options, flip=seed // 6 % 2 == 0)


def test_filters_too_long_for_shared_memory(kernels):
    name = check_upfirdn2d(kernels, torch.randn(1, 2, 3, 4000), torch.randn(1, 1500) / 40, padding=(700, 700, 0, 0))
    assert name.startswith("General")


@pytest.mark.parametrize(("channels", "dtype"), [(3, torch.float32), (35, torch.float16)])
def test_channels_last_that_fit_no_tile(kernels, channels, dtype):
    x = torch.randn(2, channels, 16, 16, dtype=dtype).to(memory_format=torch.channels_last)
    assert check_upfirdn2d(kernels, x, torch.randn(4, 4)).startswith("General")


def test_what_is_not_a_number_spreads_no_further_than_the_filter(kernels):
    x = torch.zeros(1, 1, 40, 80)
    x[0, 0, 20, 40] = torch.nan
    for f, options in [
        (torch.ones(4, 4), {}),
        (torch.ones(4, 4), {"up": (2, 2)}),
        (torch.ones(4, 4), {"down": (2, 2)}),
        (torch.ones(1, 5), {}),
        (torch.ones(7, 1), {"up": (1, 2)}),
        (torch.ones(3, 3), {}),
    ]:
        actual, _ = run_upfirdn2d(kernels, x, f, **options)
        (up_x, up_y), (down_x, down_y) = options.get("up", (1, 1)), options.get("down", (1, 1))
        rows = [o for o in range(actual.shape[2]) if 0 <= 20 * up_y - o * down_y < f.shape[0]]
        columns = [o for o in range(actual.shape[3]) if 0 <= 40 * up_x - o * down_x < f.shape[1]]
        expected = torch.zeros_like(actual, dtype=torch.bool)
        expected[0, 0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert torch.equal(actual.isnan(), expected)
