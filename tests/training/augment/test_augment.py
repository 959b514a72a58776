from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_numbers import assert_golden, golden

from facegen.errors import FacegenError
from facegen.training.augment.filterbank import amplify_bands, band_filters
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.augment.strengths import AUGPIPE_PRESETS, Strengths
from facegen.training.augment.warp import SYM6, reflection_margins, warp
from facegen.training.draws import BatchRandom

PLAIN, EXTRA = golden("augment"), golden("augment_extra")


def case_id(case: dict) -> str:
    return f"{case['name']}-{case['percentile']}"


def enabled(preset: str, p: float = 1.0, **strengths: float) -> AugmentPipe:
    pipe = AugmentPipe(replace(AUGPIPE_PRESETS[preset], **strengths))
    pipe.p.fill_(p)
    return pipe


def seeded(seed: int) -> BatchRandom:
    """Draws from a generator of its own."""
    random = BatchRandom()
    random.split(torch.device("cpu"))
    random.generator().manual_seed(seed)
    return random


def random_images(*shape: int, seed: int = 0, **options) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), **options) * 2 - 1


# --- Golden numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", PLAIN.about["cases"], ids=case_id)
def test_golden(case):
    result = AugmentPipe(Strengths(**case["kwargs"]))(PLAIN["x"], debug_percentile=case["percentile"])
    assert_golden(result, PLAIN[f"{case['name']}/{case['percentile']}"])


@pytest.mark.parametrize("dense", [True, False], ids=["matrices", "convolution"])
@pytest.mark.parametrize("case", EXTRA.about["cases"], ids=case_id)
def test_golden_with_gradient(case, dense, monkeypatch):
    monkeypatch.setattr("facegen.training.augment.warp.DENSE_LIMIT", 256 if dense else 0)
    key = f"{case['name']}/{case['percentile']}"
    images = PLAIN["x"] if case["input"] == "augment.npz:x" else EXTRA[case["input"]]
    images.requires_grad_()
    result = AugmentPipe(Strengths(**case["kwargs"]))(images, debug_percentile=case["percentile"])
    assert_golden(result, EXTRA[f"{key}/y"])
    if case.get("grad"):
        (gradient,) = torch.autograd.grad(result, images, EXTRA["cotangent"])
        assert_golden(gradient, EXTRA[f"{key}/grad_x"])


def test_presets_and_defaults_are_the_known_ones():
    def expand(value: str | list[str]) -> list[str]:
        if isinstance(value, list):
            return value
        return [name for part in value.split("+") for name in expand(PLAIN.about["presets"].get(part, part))]

    presets = {**PLAIN.about["presets"], "bg": "blit+geom"}
    assert set(AUGPIPE_PRESETS) == set(presets)
    for name, value in presets.items():
        assert AUGPIPE_PRESETS[name] == Strengths(**dict.fromkeys(expand(value), 1))
    for name, value in PLAIN.about["defaults"].items():
        default = getattr(Strengths(), name)
        assert (list(default) if isinstance(value, list) else default) == value
    assert all(value == 0 for name, value in asdict(Strengths()).items() if name not in PLAIN.about["defaults"])


# --- Derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["bg", "color", "filter", "bgcfnc"])
def test_twice_differentiable(preset):
    images = random_images(1, 3, 5, 6, dtype=torch.float64).requires_grad_()
    pipe = enabled(preset)

    def augment(x: torch.Tensor) -> torch.Tensor:
        return pipe(x, seeded(3))

    # One random direction instead of every pair of pixels: seconds instead of a minute.
    assert torch.autograd.gradcheck(augment, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(augment, images, fast_mode=True)


def test_r1_through_the_augmentations_has_a_gradient():
    images = random_images(4, 3, 16, 16).requires_grad_()
    weight = random_images(2, 3, 3, 3, seed=1).requires_grad_()
    logits = F.conv2d(enabled("bgc", p=0.8)(images, seeded(0)), weight).square().sum()
    (gradient,) = torch.autograd.grad(logits, images, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad.isfinite().all()
    assert weight.grad.abs().max() > 0


def test_inference_mode_leaves_nothing_behind_that_breaks_training():
    pipe = enabled("bgcf")
    with torch.inference_mode():
        pipe(random_images(2, 3, 12, 12))
    images = random_images(2, 3, 12, 12).requires_grad_()
    pipe(images).sum().backward()
    assert images.grad.isfinite().all()


# --- Probability and randomness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", AUGPIPE_PRESETS)
def test_p_0_changes_nothing(preset):
    images = random_images(3, 3, 16, 16)
    assert torch.equal(enabled(preset, p=0)(images), images)


def test_without_multipliers_nothing_is_enabled():
    images = random_images(3, 3, 16, 16)
    assert AugmentPipe(Strengths())(images) is images


@pytest.mark.parametrize(("p", "expected"), [(1.0, 0.5), (0.5, 0.25)])
def test_share_of_flipped_images(p, expected):
    # A flip that passes its gate happens half the time: at p = 0.5 a quarter of the images are mirrored.
    images = torch.full([2000, 1, 4, 8], -1.0)
    images[..., 4:] = 1
    flipped = AugmentPipe(Strengths(xflip=1))
    flipped.p.fill_(p)
    result = flipped(images, seeded(0))
    share = (result[..., :4].mean(dim=(1, 2, 3)) > 0).double().mean()
    assert abs(share - expected) < 0.05  # more than four standard deviations


def test_multiplier_scales_the_probability():
    pipe = AugmentPipe(Strengths(brightness=0.5))
    pipe.p.fill_(0.4)
    images = torch.zeros(4000, 1, 2, 2)
    changed = (pipe(images, seeded(0)) != 0).any(dim=(1, 2, 3)).double().mean()
    assert abs(changed - 0.2) < 0.03


def test_two_rotations_have_the_probability_of_one():
    pipe = AugmentPipe(Strengths(rotate=1))
    pipe.p.fill_(0.5)
    images = random_images(1, 1, 4, 4).repeat(3000, 1, 1, 1)
    changed = ((pipe(images, seeded(0)) - images).abs() > 1e-3).any(dim=3).any(dim=2).double().mean()
    assert abs(changed - 0.5) < 0.04


@pytest.mark.parametrize("preset", ["bgc", "bgcfnc"])
def test_same_seed_same_result(preset):
    images, pipe = random_images(4, 3, 16, 16), enabled(preset, p=0.6)
    first = pipe(images, seeded(5))
    torch.rand(3)  # the global source plays no part
    assert torch.equal(first, pipe(images, seeded(5)))
    assert not torch.equal(first, pipe(images, seeded(6)))


def test_the_global_seed_is_used_by_default():
    images, pipe = random_images(4, 3, 16, 16), enabled("bgcfnc", p=0.6)
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(pipe(images))
    assert torch.equal(*results)
    assert not torch.equal(results[0], pipe(images))


def test_number_of_draws_does_not_depend_on_p():
    images = random_images(2, 3, 8, 8)
    draws = seeded(0), seeded(0)
    for p, random in zip((0.0, 1.0), draws, strict=True):
        enabled("bgcfnc", p)(images, random)
    assert torch.equal(draws[0].position()["cpu"], draws[1].position()["cpu"])


def test_p_is_saved_and_followed():
    pipe = enabled("color", p=0)
    images = random_images(8, 3, 8, 8)
    assert torch.equal(pipe(images), images)
    pipe.load_state_dict({"p": torch.tensor(1.0)})
    assert list(pipe.state_dict()) == ["p"]
    assert not torch.equal(pipe(images), images)


# --- What the augmentations do --------------------------------------------------------------------------------------


def translation(x: float, y: float) -> torch.Tensor:
    matrix = torch.eye(3, dtype=torch.float64)[None].clone()
    matrix[0, :2, 2] = torch.tensor([x, y])
    return matrix


def test_shift_by_whole_pixels_reflects_and_loses_nothing():
    images = random_images(2, 3, 12, 16)
    shifted = warp(images, translation(4, -3).repeat(2, 1, 1))  # result (x, y) = source (x + 4, y - 3)
    expected = F.pad(images, [0, 4, 3, 0], mode="reflect")[:, :, :12, 4:]
    torch.testing.assert_close(shifted, expected, atol=1e-5, rtol=0)  # float32 rounding over 144 products


@pytest.mark.parametrize("size", [(12, 16), (16, 12), (2, 2), (7, 9)])
def test_matrices_and_convolution_warp_alike(size):
    images = random_images(3, 2, *size, dtype=torch.float64)
    inverse = translation(1.3, -0.4).repeat(3, 1, 1)
    inverse[:, :2, :2] += random_images(3, 2, 2, seed=1, dtype=torch.float64)
    # upfirdn2d takes the filter in float32, hence not closer.
    torch.testing.assert_close(warp(images, inverse, dense=True), warp(images, inverse, dense=False), atol=1e-6, rtol=0)


def test_quarter_turn_turns_smooth_pictures():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    images = (x * x - 0.3 * y)[None, None]
    turned = AugmentPipe(Strengths(rotate90=1))(images, debug_percentile=0.3)  # one quarter turn
    inside = slice(4, -4)  # near the border the reflection has a crease that the filter smooths
    expected = torch.rot90(images, 1, (2, 3))
    # Up and down the filter now meets itself at a right angle, not mirrored, so it is exact only for smooth pictures.
    # A turn to the other side would be wrong by 0.4, by one pixel by 0.1.
    assert (turned - expected)[..., inside, inside].abs().max() < 0.02


def test_margins_reach_the_corners_but_not_beyond_one_reflection():
    assert reflection_margins(translation(0, 0), 32, 24) == (6, 6, 6, 6)
    assert reflection_margins(translation(10, -9.5), 32, 24) == (0, 16, 16, 0)
    batch = torch.cat([translation(10, 0), translation(-3, 0)])
    assert reflection_margins(batch, 32, 24) == (9, 6, 16, 6)
    assert reflection_margins(translation(1000, 0), 32, 24) == (0, 6, 31, 6)


def test_low_pass_is_orthogonal():
    taps = np.array(SYM6) * np.sqrt(2)
    for shift in range(0, 12, 2):
        assert np.dot(taps[shift:], taps[: 12 - shift]) == pytest.approx(float(shift == 0), abs=1e-11)


def test_bands_add_up_to_the_image():
    filters = band_filters()
    delta = torch.zeros(43, dtype=torch.float64)
    delta[21] = 1
    torch.testing.assert_close(filters.sum(dim=0), delta, atol=1e-12, rtol=0)
    images = random_images(2, 3, 10, 50)  # 10 pixels are reflected several times by 43 taps
    torch.testing.assert_close(amplify_bands(images, torch.ones(2, 4)), images, atol=1e-5, rtol=0)


def test_coarse_and_fine_bands():
    flat, stripes = torch.full([1, 1, 16, 16], 0.5), torch.ones(1, 1, 16, 16)
    stripes[..., ::2] = -1
    stripes[..., ::2, :] *= -1
    gains = torch.tensor([[2.0, 1.0, 1.0, 3.0]])
    torch.testing.assert_close(amplify_bands(flat, gains), flat * 4)  # both axes filter
    torch.testing.assert_close(amplify_bands(stripes, gains), stripes * 9)


def test_hue_and_saturation_keep_the_luma():
    images = random_images(4, 3, 8, 8)
    result = AugmentPipe(Strengths(hue=1, saturation=1))(images, seeded(0))
    torch.testing.assert_close(result.mean(dim=1), images.mean(dim=1))
    assert (result - images).abs().max() > 0.1


@pytest.mark.parametrize("preset", ["color", "bgcfnc"])
def test_gray_images_stay_gray(preset):
    images = random_images(4, 1, 8, 8)
    result = enabled(preset)(images, seeded(0))
    assert result.shape == images.shape
    assert result.isfinite().all()
    if preset == "color":  # the mean of the colors that the same gray in three channels becomes
        colors = enabled(preset)(images.expand(-1, 3, -1, -1), seeded(0))
        torch.testing.assert_close(result, colors.mean(dim=1, keepdim=True))


@pytest.mark.parametrize("preset", AUGPIPE_PRESETS)
def test_images_that_are_not_square(preset):
    images = random_images(3, 3, 8, 20)
    result = enabled(preset)(images, seeded(1))
    assert result.shape == images.shape
    assert result.isfinite().all()
    assert not torch.equal(result, images)


def test_channels_last_images_give_the_same():
    images, pipe = random_images(2, 3, 16, 16), enabled("bgcfnc")
    torch.testing.assert_close(pipe(images.to(memory_format=torch.channels_last), seeded(2)), pipe(images, seeded(2)))


def test_noise_has_the_right_strength():
    images = torch.zeros(3000, 1, 8, 8)
    result = AugmentPipe(Strengths(noise=1))(images, seeded(0))
    assert result.square().mean().sqrt() == pytest.approx(0.1, rel=0.05)  # sigma^2 averages to noise_std^2
    fixed = AugmentPipe(Strengths(noise=1))(images, seeded(0), debug_percentile=0.9)
    assert fixed.std() == pytest.approx(0.1 * torch.tensor(0.9).erfinv().item(), rel=0.01)


def test_cutout_removes_a_quarter_at_most():
    images = torch.ones(500, 1, 16, 16)
    removed = (AugmentPipe(Strengths(cutout=1))(images, seeded(0)) == 0).double().mean(dim=(1, 2, 3))
    assert removed.max() == 0.25
    assert 0 < removed.min() < 0.1  # centers near a corner


# --- Mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 8, 8)])
def test_images_of_another_shape(shape):
    with pytest.raises(FacegenError, match="AugmentPipe takes images"):
        enabled("bgc")(torch.zeros(shape))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_draws_the_same_augmentations():
    images, pipe = random_images(4, 3, 16, 16), enabled("bgcfnc", p=0.7)
    expected = pipe(images, seeded(0))
    actual = pipe.cuda()(images.cuda(), seeded(0)).cpu()
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=0)  # matrix products may run in TF32
    pipe.p.zero_()
    assert torch.equal(pipe(images.cuda()).cpu(), images)
