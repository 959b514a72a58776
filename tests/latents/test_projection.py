from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import small_generator
from torch.nn import functional

from facegen.errors import FacegenError
from facegen.latents.projection.project import Likeness, learning_rate, mean_w, project, self_likeness
from facegen.latents.projection.targets import PIXELS, open_judge
from facegen.latents.space import LatentSpace
from facegen.metrics.perceptual import BLOCK_CHANNELS, PerceptualDistance
from facegen.training.perceptual_loss import PerceptualLoss


def noisy_generator(c_dim: int = 0, channels: int = 3):
    """A narrow generator in whose pictures noise is seen."""
    generator = small_generator(c_dim, channels=channels).requires_grad_(False)
    for name, parameter in generator.synthesis.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.1)
    return generator


def squares(targets: torch.Tensor):
    """A loss: the mean squared distance of pixels."""
    return lambda pictures: (pictures - targets).square().mean(dim=(1, 2, 3))


def last_of(generator, loss, start, **how):
    spread = torch.full([len(start)], 1.0)
    *_, last = project(generator, loss, start, spread, **how)
    return last


@pytest.fixture(scope="module")
def random_lpips() -> PerceptualDistance:
    """LPIPS with random weights: those that were published cannot be had in a test."""
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes = {name: value.shape for name, value in vgg16(weights=None).features.state_dict().items()}
    random = torch.Generator().manual_seed(0)
    vgg = {f"features.{name}": torch.randn(shape, generator=random) * 0.05 for name, shape in shapes.items()}
    heads = {f"lin{i}.model.1.weight": torch.rand([1, c, 1, 1], generator=random) for i, c in enumerate(BLOCK_CHANNELS)}
    return PerceptualDistance(vgg, heads)


def test_a_picture_of_the_generator_is_found_again():
    generator = noisy_generator()
    ws = LatentSpace(generator).from_seeds([1, 2], LatentSpace(generator).classes.choose()[0])
    targets = generator.synthesis(ws, noise_mode="const")
    start = mean_w(generator, torch.zeros([0])).center.expand(2, 1, -1)
    losses = [x.losses for x in project(generator, squares(targets), start, torch.ones([2]), steps=40)]
    assert (losses[-1] < losses[0] / 4).all()


@pytest.mark.parametrize("layers", [1, 6])
def test_one_w_for_all_layers_or_one_each(layers):
    generator = noisy_generator()
    found = last_of(generator, squares(torch.zeros([2, 3, 16, 16])), torch.zeros([2, layers, 8]), steps=25).ws
    assert found.shape == (2, 6, 8)
    assert torch.equal(found, found[:, :1].expand(-1, 6, -1)) == (layers == 1)


def test_targets_do_not_see_each_other():
    generator, targets = noisy_generator(), torch.randn([3, 3, 16, 16])
    together = last_of(generator, squares(targets), torch.zeros([3, 1, 8]), steps=10)
    alone = last_of(generator, squares(targets[1:2]), torch.zeros([1, 1, 8]), steps=10)
    assert torch.allclose(together.ws[1], alone.ws[0], atol=1e-4)
    assert all(torch.allclose(x[1], alone.noise[name][0], atol=1e-3) for name, x in together.noise.items())


def test_the_generator_and_the_random_state_stay_and_a_second_call_is_the_same():
    generator = noisy_generator()
    before = {name: x.clone() for name, x in generator.state_dict().items()}
    state = torch.random.get_rng_state()
    one, two = (
        last_of(generator, squares(torch.ones([1, 3, 16, 16])), torch.zeros([1, 1, 8]), steps=8) for _ in range(2)
    )
    other = last_of(generator, squares(torch.ones([1, 3, 16, 16])), torch.zeros([1, 1, 8]), steps=8, seed=1)
    assert torch.equal(one.ws, two.ws)
    assert not torch.equal(one.ws, other.ws)
    assert torch.equal(state, torch.random.get_rng_state())
    after = generator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(x.requires_grad for x in generator.buffers())


def test_noise_is_optimized_and_stays_normal():
    generator = noisy_generator()
    last = last_of(generator, squares(torch.randn([1, 3, 16, 16])), torch.zeros([1, 1, 8]), steps=8)
    stored = {name for name, _ in generator.synthesis.named_buffers() if name.endswith("noise_const")}
    assert set(last.noise) == stored
    for noise in last.noise.values():
        assert float(noise.mean()) == pytest.approx(0, abs=1e-5)
        assert float(noise.square().mean()) == pytest.approx(1, abs=1e-4)


def test_a_generator_without_noise():
    from facegen.networks.generator import Generator

    narrow = {"channel_base": 256, "channel_max": 16, "use_noise": False}
    generator = Generator(8, 0, 8, 16, 3, synthesis_kwargs=narrow).eval()
    last = last_of(generator, squares(torch.zeros([1, 3, 16, 16])), torch.zeros([1, 1, 8]), steps=3)
    assert last.noise == {}
    assert all(parameter.grad is None for parameter in generator.parameters())


@pytest.mark.parametrize("steps", [1, 2, 19])
def test_few_steps(steps):
    last = last_of(noisy_generator(), squares(torch.zeros([1, 3, 16, 16])), torch.zeros([1, 1, 8]), steps=steps)
    assert last.step == steps
    assert last.ws.isfinite().all()


def test_the_schedule_that_was_published():
    assert [learning_rate(done) for done in (0, 0.025, 0.05, 0.5, 0.75)] == pytest.approx([0, 0.5, 1, 1, 1])
    assert learning_rate(0.875) == pytest.approx(0.5)
    assert learning_rate(0.999) == pytest.approx(0.5 - 0.5 * math.cos(math.pi * 0.004))


def test_the_mean_is_that_of_the_published_latents():
    generator = small_generator(3).requires_grad_(False)
    label = torch.eye(3)[1]
    zs = torch.from_numpy(np.random.RandomState(123).randn(10_000, 8)).float()
    ws = generator.mapping(zs, label.expand(10_000, -1))[:, 0]
    found = mean_w(generator, label)
    assert torch.allclose(found.center, ws.mean(dim=0), atol=1e-5)
    assert found.spread == pytest.approx(float(ws.var(dim=0, unbiased=False).sum().sqrt()), rel=1e-3)


def test_noise_is_compared_with_itself_at_every_scale():
    def alone(noise: torch.Tensor) -> float:
        price = 0.0
        while True:
            for side in (2, 3):
                price += float((noise * noise.roll(1, dims=side)).mean()) ** 2
            if noise.shape[2] <= 8:
                return price
            noise = functional.avg_pool2d(noise, 2)

    sizes = [torch.randn([1, layers, side, side]) for layers, side in ((2, 32), (2, 16), (2, 8), (1, 4))]
    expected = sum(alone(noise[:, layer : layer + 1]) for noise in sizes for layer in range(noise.shape[1]))
    assert float(self_likeness(sizes)) == pytest.approx(expected, rel=1e-4)
    checkered = torch.ones([1, 1, 8, 8])
    assert float(self_likeness([checkered])) == pytest.approx(2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_it_stops_at_a_loss_that_is_no_number(value):
    def loss(pictures: torch.Tensor) -> torch.Tensor:
        return pictures.sum(dim=(1, 2, 3)) * value

    with pytest.raises(FacegenError, match="step 1 of 5"):
        last_of(noisy_generator(), loss, torch.zeros([1, 1, 8]), steps=5)


def test_what_a_judge_sees_in_the_targets_is_computed_once(random_lpips):
    targets = torch.rand([2, 3, 32, 32]) * 2 - 1
    seen = []
    features = random_lpips.features
    random_lpips.features = lambda images: seen.append(len(images)) or features(images)
    likeness = Likeness(random_lpips, targets)
    assert likeness(targets).tolist() == [0, 0]
    assert (likeness(-targets) > 0).all()
    assert seen == [2, 2, 2]
    del random_lpips.features


def test_distances_to_features_are_those_of_pictures(random_lpips):
    one, other = torch.rand([2, 2, 3, 32, 32]) * 2 - 1
    for judge in (random_lpips, PerceptualLoss()):
        found = judge.between(judge.features(one), judge.features(other))
        assert found.shape == (2,)
        assert float(found.mean()) == pytest.approx(float(judge(one, other).mean()), rel=1e-4)


@pytest.mark.parametrize(("side", "seen"), [(16, 96), (128, 128), (256, 256), (512, 256)])
def test_at_which_size_pictures_are_compared(side, seen):
    class Judge:
        def features(self, images):
            return [images]

        def between(self, first, second):
            assert first[0].shape == second[0].shape == (1, 3, seen, seen)
            return (first[0] - second[0]).square().mean(dim=(1, 2, 3))

    pictures = torch.rand([1, 1, side, side])
    assert float(Likeness(Judge(), pictures.expand(-1, 3, -1, -1))(pictures)) == 0


def test_lite_sees_colors():
    judge = open_judge("lite", torch.device("cpu"))
    picture = torch.rand([1, 3, 64, 64])
    redder = picture + torch.tensor([0.3, 0, 0])[:, None, None]
    assert float(Likeness(judge, picture)(picture)) == 0
    assert float(Likeness(judge, picture)(redder)) > PIXELS * 0.03
