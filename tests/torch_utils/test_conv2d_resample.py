import pytest
import torch
import torch.nn.functional as F
from facegen.beside.torch_utils.ops.conv2d_resample import conv2d_resample
from facegen.beside.torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d
from golden_numbers import assert_all_golden, golden

CASES = golden("ops").about["conv2d_resample"]
BINOMIAL = setup_filter([1, 3, 3, 1])
ASYMMETRIC = setup_filter([[1.0, 2, 0, -1], [0.5, 3, 1, 0], [0, 1, 2, 4]])


def in_three_steps(x, w, f, up, down, padding, groups, flip_weight, flip_filter) -> torch.Tensor:
    """The definition: upsample with the filter, convolve with all zeros in place, downsample with the filter."""
    taps_y, taps_x = (1, 1) if f is None else (f.shape[0], f.shape[-1])
    pads = []
    for taps, before, after in ((taps_x, *padding[:2]), (taps_y, *padding[2:])):
        if up > 1:
            before, after = before + (taps + up - 1) // 2, after + (taps - up) // 2
        if down > 1:
            before, after = before + (taps - down + 1) // 2, after + (taps - down) // 2
        pads += [before, after]
    x = upfirdn2d(x, f if up > 1 else None, up=up, padding=pads, gain=up**2, flip_filter=flip_filter)
    x = F.conv2d(x, w if flip_weight else w.flip([2, 3]), groups=groups)
    return upfirdn2d(x, f, down=down, flip_filter=flip_filter) if down > 1 else x


# --- Golden numbers -------------------------------------------------------------------------------------------------


def test_every_golden_case_is_tested():
    assert {case["name"] for case in CASES} == golden("ops").names_under("conv2d_resample")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden(case, layout):
    file = golden("ops")
    expected = file.under(f"conv2d_resample/{case['name']}")
    w, cotangent = expected.pop("w"), expected.pop("cotangent")
    x = file["conv2d_resample/x"].requires_grad_()
    f = None if case["filter"] is None else file[f"setup_filter/{case['filter']}"]
    options = {key: value for key, value in case.items() if key not in ("name", "filter")}
    y = conv2d_resample(x.to(memory_format=layout), w.to(memory_format=layout), f, **options)
    (grad_x,) = torch.autograd.grad(y, x, cotangent)
    assert_all_golden({"y": y, "grad_x": grad_x}, expected)


# --- Against the definition -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [(True, False), (False, True)], ids=["correlate", "convolve"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (3, 2), (2, 3)])
def test_is_what_the_definition_says(up, down, kernel, groups, flip):
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    w = torch.randn(6, 4 // groups, *kernel, dtype=torch.float64)
    flip_weight, flip_filter = flip
    for f, padding in ((BINOMIAL, (1, 1, 1, 1)), (ASYMMETRIC, (2, 0, 1, 3)), (None, (1, 2, 2, 0))):
        options = {"up": up, "down": down, "padding": padding, "groups": groups}
        options |= {"flip_weight": flip_weight, "flip_filter": flip_filter}
        # Pictures in float64, but the taps are float32.
        expected = in_three_steps(x, w, f, **options)
        torch.testing.assert_close(conv2d_resample(x, w, f, **options), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_bias(up, down, kernel):
    x, w, b = torch.randn(2, 4, 8, 8), torch.randn(6, 4, kernel, kernel), torch.randn(6, requires_grad=True)
    options = {"up": up, "down": down, "padding": kernel // 2}
    expected = conv2d_resample(x, w, BINOMIAL, **options) + b[:, None, None]
    actual = conv2d_resample(x, w, BINOMIAL, b=b, **options)
    torch.testing.assert_close(actual, expected)
    (gradient,) = torch.autograd.grad(actual.sum(), b)
    assert gradient.tolist() == pytest.approx([actual[:, 0].numel()] * 6)


@pytest.mark.parametrize("kernel", [1, 3])
def test_half_the_kernel_as_padding_keeps_the_size(kernel):
    x, w = torch.zeros(1, 2, 8, 6), torch.zeros(3, 2, kernel, kernel)
    for up, down, size in ((1, 1, (8, 6)), (2, 1, (16, 12)), (1, 2, (4, 3)), (2, 2, (8, 6))):
        y = conv2d_resample(x, w, BINOMIAL, up=up, down=down, padding=kernel // 2)
        assert y.shape == (1, 3, *size)


# --- Derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("up", "down", "groups"), [(1, 1, 1), (3, 1, 1), (1, 3, 1), (3, 2, 1), (2, 1, 2), (1, 2, 2)])
def test_twice_differentiable(up, down, groups, kernel):
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 2 // groups, kernel, kernel, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        options = {"up": up, "down": down, "groups": groups, "padding": kernel // 2, "flip_weight": False}
        return conv2d_resample(x, w, BINOMIAL, b=b, **options)

    # One random direction instead of every pair of elements: milliseconds instead of seconds.
    assert torch.autograd.gradcheck(function, [x, w, b], fast_mode=True)
    assert torch.autograd.gradgradcheck(function, [x, w, b], fast_mode=True)


def test_keeps_the_type():
    x, w = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    for up, down in ((1, 1), (2, 1), (1, 2)):
        y = conv2d_resample(x.half(), w.half(), BINOMIAL, up=up, down=down, padding=1)
        assert y.dtype == torch.float16
        # 36 products, each rounded to 2^-11 of sums up to about 20.
        torch.testing.assert_close(
            y.float(), conv2d_resample(x, w, BINOMIAL, up=up, down=down, padding=1), atol=0.05, rtol=0
        )


# --- Mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [[1], [1, 2, 3], [0] * 5])
def test_padding_of_another_length(padding):
    with pytest.raises(ValueError, match="padding is one, two or four numbers"):
        conv2d_resample(torch.zeros(1, 2, 8, 8), torch.zeros(2, 2, 3, 3), padding=padding)


def test_channels_that_do_not_fit():
    with pytest.raises(RuntimeError, match="channels"):
        conv2d_resample(torch.zeros(1, 3, 8, 8), torch.zeros(2, 2, 3, 3))
