import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facegen.beside.torch_utils.ops import upfirdn2d as ops
from golden_numbers import assert_golden, golden
from golden_ops import (
    FILTER_CASES,
    assert_every_golden_case_is_tested,
    assert_filter_is_golden,
    golden_cases,
    golden_filter,
)


def by_hand(x, f, up, down, padding, flip_filter, gain) -> torch.Tensor:
    """The definition, one output sample after the other, in float64 of numpy."""
    x, f = x.double().numpy(), f.double().numpy()
    if f.ndim == 1:
        f = np.outer(f, f)
    if not flip_filter:
        f = f[::-1, ::-1]
    (up_x, up_y), (down_x, down_y), (x0, x1, y0, y1) = up, down, padding
    batch, channels, height, width = x.shape
    stuffed = np.zeros([batch, channels, height * up_y, width * up_x])
    stuffed[:, :, ::up_y, ::up_x] = x
    canvas = np.pad(stuffed, [(0, 0), (0, 0), (max(y0, 0), max(y1, 0)), (max(x0, 0), max(x1, 0))])
    canvas = canvas[:, :, max(-y0, 0) : canvas.shape[2] - max(-y1, 0), max(-x0, 0) : canvas.shape[3] - max(-x1, 0)]
    rows = range(0, canvas.shape[2] - f.shape[0] + 1, down_y)
    columns = range(0, canvas.shape[3] - f.shape[1] + 1, down_x)
    y = np.zeros([batch, channels, len(rows), len(columns)])
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = canvas[:, :, row : row + f.shape[0], column : column + f.shape[1]]
            y[:, :, i, j] = (window * f).sum(axis=(2, 3)) * gain
    return torch.from_numpy(y)


# --- Golden numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["upfirdn2d", "resample2d"])
def test_every_golden_case_is_tested(kind):
    assert_every_golden_case_is_tested(kind)


@pytest.mark.parametrize(("name", "about"), golden_cases("setup_filter"))
def test_golden_filter(name, about):
    f = golden_filter(name, about["name"])
    assert f.dtype == torch.float32
    assert_golden(f, golden(name)[f"setup_filter/{about['name']}"], tolerance=1e-6)


@pytest.mark.parametrize("impl", ["ref", "cuda"])
@pytest.mark.parametrize(("name", "case"), FILTER_CASES)
def test_golden(name, case, impl):
    assert_filter_is_golden(name, case, impl=impl)


# --- Against the definition -----------------------------------------------------------------------------------------

GEOMETRIES = [
    # up, down, padding (x before, x after, y before, y after)
    ((1, 1), (1, 1), (0, 0, 0, 0)),
    ((2, 3), (1, 1), (3, 1, 2, 4)),
    ((1, 1), (3, 2), (2, 2, 1, 3)),
    ((3, 2), (2, 3), (5, -1, -2, 6)),
    ((3, 1), (1, 3), (-2, 3, 4, -1)),
    ((5, 5), (3, 3), (1, 4, 0, 7)),
    ((1, 2), (5, 7), (6, 9, 8, 2)),  # steps longer than the filter: some samples are never read
]
FILTERS = {
    "separable": ops.setup_filter([1, 4, 2, -1, 0.5], separable=True),
    "outer": ops.setup_filter([1, 3, 3, 1]),
    "asymmetric": ops.setup_filter([[1.0, 2, 0, -1], [0.5, 3, 1, 0], [0, 1, 2, 4]]),
    "row": ops.setup_filter([[1.0, 2, 4]]),
    "column": ops.setup_filter([[3.0], [1]]),
    "single": ops.setup_filter(1),
}


@pytest.mark.parametrize("flip_filter", [False, True])
@pytest.mark.parametrize("filter_name", FILTERS)
@pytest.mark.parametrize(("up", "down", "padding"), GEOMETRIES)
def test_is_what_the_definition_says(up, down, padding, filter_name, flip_filter):
    x, f = torch.randn(2, 2, 7, 6, dtype=torch.float64), FILTERS[filter_name]
    arguments = {"up": up, "down": down, "padding": padding, "flip_filter": flip_filter, "gain": 1.7}
    expected = by_hand(x, f, **arguments)
    actual = ops.upfirdn2d(x, f, **arguments)
    # The taps are float32 numbers, but what is made of them is not rounded to such.
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)


def test_a_constant_picture_stays_constant():
    x = torch.ones(1, 1, 12, 12)
    f = ops.setup_filter([1, 3, 3, 1])
    for y in (ops.filter2d(x, f), ops.upsample2d(x, f), ops.downsample2d(x, f)):
        inside = y[..., 3:-3, 3:-3] if y.shape[2] > 6 else y[..., 2:-2, 2:-2]
        torch.testing.assert_close(inside, torch.ones_like(inside))


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
@pytest.mark.parametrize("taps", [[1, 3, 3, 1], [1, 2, 1], [1, 1]])
def test_sizes(size, taps):
    x, f = torch.zeros(1, 2, *size), ops.setup_filter(taps)
    height, width = size
    assert ops.filter2d(x, f).shape == (1, 2, height, width)
    assert ops.upsample2d(x, f).shape == (1, 2, height * 2, width * 2)
    assert ops.upsample2d(x, f, up=[3, 1]).shape == (1, 2, height, width * 3)
    if height % 2 == 0:
        assert ops.downsample2d(x, f).shape == (1, 2, height // 2, width // 2)


def test_upsampling_then_downsampling_keeps_smooth_pictures_in_place():
    # A shift by one pixel would change this ramp by 1.
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    f = ops.setup_filter([1, 3, 3, 1])
    result = ops.downsample2d(ops.upsample2d(ramp, f), f)
    torch.testing.assert_close(result[..., 4:-4, 4:-4], ramp[..., 4:-4, 4:-4])


# --- Derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter_name", ["separable", "asymmetric"])
@pytest.mark.parametrize(("up", "down", "padding"), GEOMETRIES)
def test_twice_differentiable(up, down, padding, filter_name):
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor) -> torch.Tensor:
        # A linear map has no second derivative: its square makes gradgradcheck see the gradient's own derivative.
        return ops.upfirdn2d(x, FILTERS[filter_name], up=up, down=down, padding=padding).square()

    assert torch.autograd.gradcheck(function, [x])
    # One random direction instead of every pair of pixels: a tenth of the time.
    assert torch.autograd.gradgradcheck(function, [x], fast_mode=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_of_the_gradient_does_not_matter(layout):
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    f = FILTERS["outer"]
    cotangent = torch.randn(2, 3, 12, 12)
    (expected,) = torch.autograd.grad(ops.upsample2d(x, f), x, cotangent)
    y = ops.upsample2d(x.to(memory_format=layout), f)
    (actual,) = torch.autograd.grad(y, x, cotangent.to(memory_format=layout))
    torch.testing.assert_close(actual, expected)


def test_one_channel_last_in_bfloat16():
    # Strides in which PyTorch's own convolution goes wrong on the CPU.
    x = torch.randn(2, 1, 32, 2).bfloat16().to(memory_format=torch.channels_last)
    f, geometry = torch.randn(5, 2), {"down": [2, 1], "padding": [-1, 1, 2, 5]}
    expected = ops.upfirdn2d(x.double(), f, **geometry)
    # Ten products of numbers up to about 3, rounded to 2^-9.
    torch.testing.assert_close(ops.upfirdn2d(x, f, **geometry).double(), expected, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_the_type(dtype):
    x, f = torch.randn(2, 3, 8, 8), ops.setup_filter([1, 3, 3, 1])
    for function in (ops.filter2d, ops.upsample2d, ops.downsample2d):
        y = function(x.to(dtype), f)
        assert y.dtype == dtype
        # Up to 16 taps of numbers up to about 3, rounded to 2^-9 (bfloat16, the coarsest).
        torch.testing.assert_close(y.float(), function(x, f), atol=0.05, rtol=0)


def test_what_is_slow_in_bfloat16_on_the_cpu_is_done_in_float32(monkeypatch):
    seen = []
    transposed = F.conv_transpose2d
    monkeypatch.setattr(F, "conv_transpose2d", lambda x, *a, **k: seen.append(x.dtype) or transposed(x, *a, **k))
    f = ops.setup_filter([1, 3, 3, 1])
    x = torch.randn(2, 3, 8, 8).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    exact = x.detach().double().requires_grad_()
    y, expected = ops.downsample2d(x, f), ops.downsample2d(exact, f)
    grad = torch.randn(y.shape).bfloat16().contiguous(memory_format=torch.channels_last)
    (found,) = torch.autograd.grad(y, x, grad)
    (right,) = torch.autograd.grad(expected, exact, grad.double())
    assert seen[0] == torch.float32
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), right, rtol=2**-8, atol=1e-6)  # rounded once, by up to 2^-9


# --- Mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [[], [[]], np.zeros([2, 2, 2])])
def test_not_a_filter(taps):
    with pytest.raises(ValueError, match="1 or 2 dimensions and at least one tap"):
        ops.setup_filter(taps)


def test_2d_filter_cannot_be_separable():
    with pytest.raises(ValueError, match="cannot be kept separable"):
        ops.setup_filter([[1.0, 2], [3, 4]], separable=True)


@pytest.mark.parametrize("padding", [[1], [1, 2, 3], [1, 2, 3, 4, 5], []])
@pytest.mark.parametrize("function", [ops.upfirdn2d, ops.filter2d, ops.upsample2d, ops.downsample2d])
def test_padding_of_another_length(function, padding):
    with pytest.raises(ValueError, match="padding is one, two or four numbers, got"):
        function(torch.zeros(1, 1, 8, 8), FILTERS["outer"], padding=padding)


@pytest.mark.parametrize(
    ("size", "filter_name", "options", "words"),
    [
        (8, "outer", {name: factor}, f"{name} must be at least 1")
        for name in ("up", "down")
        for factor in (0, -1, [2, 0])
    ]
    + [(2, name, {}, "too small for") for name in ("outer", "separable", "asymmetric")]
    + [(8, "outer", {"padding": -3}, "too small for"), (8, "outer", {"impl": "cudnn"}, "unknown impl 'cudnn'")],
)
def test_what_cannot_be(size, filter_name, options, words):
    with pytest.raises(ValueError, match=words):
        ops.upfirdn2d(torch.zeros(1, 1, size, size), FILTERS[filter_name], **options)
