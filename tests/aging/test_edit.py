"""What an edit may say, and where it leads in w."""

from __future__ import annotations

import pytest
import torch
from helpers import generator_of_groups

from facegen.aging.ages_in_w import LatentAges
from facegen.aging.edit import Edit, layer_indices, parse_ages
from facegen.errors import FacegenError
from facegen.networks.age_shift import group_mean_shift, soft_labels
from facegen.networks.generator import Generator
from facegen.networks.latents import group_means

MIDDLES = [10.0, 30.0, 50.0]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return generator_of_groups()


def latent_ages(generator: Generator, target: str) -> LatentAges:
    means = group_means(generator, samples=50)
    return LatentAges(generator, target, group_mean_shift(means, generator.num_ws, MIDDLES), MIDDLES, means)


@pytest.mark.parametrize(
    ("text", "ages"),
    [
        ("5", [5]),
        ("5,25, 62.5", [5, 25, 62.5]),
        ("5:90:5", list(range(5, 91, 5))),
        ("5:22:5", [5, 10, 15, 20]),
        ("20:22", [20, 21, 22]),
        ("90:80:-5", [90, 85, 80]),
        ("0:1:0.1", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ("7,30:40:5,60", [7, 30, 35, 40, 60]),
        ("30:30:5", [30]),
    ],
)
def test_ages_as_written(text: str, ages: list[float]):
    assert parse_ages(text) == ages
    assert [type(age) for age in parse_ages(text)] == [type(age) for age in ages]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("five", "not a list of ages"),
        ("", "not a list of ages"),
        ("5,,7", "not a list of ages"),
        ("5:90:5:1", "not a list of ages"),
        ("5:..:1", "not a list of ages"),
        ("nan", "not a list of ages"),
        ("1e999", "not a list of ages"),
        ("5:90:0", "never reach their end"),
        ("5:90:-5", "never reach their end"),
        ("90:5:5", "never reach their end"),
        ("0:90:0.001", "more than 1000"),
    ],
)
def test_ages_that_are_none(text: str, reason: str):
    with pytest.raises(FacegenError, match=reason):
        parse_ages(text)


@pytest.mark.parametrize(
    ("layers", "indices"),
    [
        (None, list(range(10))),
        ("coarse", [0, 1, 2]),
        ("middle", [3, 4, 5, 6]),
        ("fine", [7, 8, 9]),
        ("0-3", [0, 1, 2, 3]),
        ("fine, 0,2-3", [0, 2, 3, 7, 8, 9]),
        ([3, 1], [1, 3]),
    ],
)
def test_layers_as_written(layers: str | list[int] | None, indices: list[int]):
    assert layer_indices(layers, 10) == indices


@pytest.mark.parametrize(
    ("layers", "num_ws", "reason"),
    [
        ("10", 10, "it has 10, 0 to 9"),
        ("8-12", 10, "no layers 8-12"),
        ("3-1", 10, "no layers 3-1"),
        ("fine", 6, "no layers fine"),
        ("rough", 10, "'rough' names no layers"),
        ("", 10, "'' names no layers"),
        ("-1", 10, "names no layers"),
        ([], 10, "no layers given"),
    ],
)
def test_layers_that_are_none(layers: str | list[int], num_ws: int, reason: str):
    with pytest.raises(FacegenError, match=reason):
        layer_indices(layers, num_ws)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"method": "morph"}, "swap, shift"),
        ({"psi": float("nan")}, "finite"),
        ({"refine": -1}, "refine must be"),
        ({"refine": 5, "refine_seconds": 0}, "above 0"),
        ({"refine_seconds": 5}, "--refine"),
    ],
)
def test_impossible_edits(arguments: dict, reason: str):
    with pytest.raises(FacegenError, match=reason):
        Edit(**arguments)


def test_labels_between_groups_are_shared():
    labels = soft_labels(torch.tensor([-5, 10, 15, 30, 40, 50, 99]), MIDDLES)
    expected = [[1, 0, 0], [1, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1], [0, 0, 1]]
    torch.testing.assert_close(labels, torch.tensor(expected, dtype=torch.float32))
    assert soft_labels(torch.tensor([5, 70]), [30]).tolist() == [[1], [1]]


def test_swap_is_the_same_z_in_another_group(generator: Generator):
    places = latent_ages(generator, "z")
    z = torch.nn.functional.normalize(torch.randn(2, 8), dim=1) * 8**0.5  # of full length: nothing is drawn to the mean
    ages = torch.tensor(MIDDLES)
    own = torch.tensor([10.0, 50.0])
    ws = places.place(z, own)[:, None] + places.steps(z, own, ages, Edit())
    for group in range(3):
        expected = generator.mapping(z, torch.eye(3)[[group, group]])
        torch.testing.assert_close(ws[:, group], expected)


def test_what_can_be_held_is_held(generator: Generator):
    places = latent_ages(generator, "w")
    latents, own, ages = torch.randn(2, generator.num_ws, 6), torch.tensor([10.0, 40.0]), torch.tensor(MIDDLES)
    free = places.steps(latents, own, ages, Edit())
    torch.testing.assert_close(places.steps(latents, own, ages, Edit(hold=[])), free)  # there is nothing to hold yet
    normal, direction = torch.eye(6)[0], torch.ones(6)
    places.shift = places.shift.holding("sex", normal, direction)
    held = places.steps(latents, own, ages, Edit())
    torch.testing.assert_close(held, free - free[..., :1] * direction)
    torch.testing.assert_close(places.steps(latents, own, ages, Edit(hold=["sex"])), held)
    torch.testing.assert_close(places.steps(latents, own, ages, Edit(hold=[])), free)


@pytest.mark.parametrize("target", ["z", "w", "w+"])
def test_shift_adds_the_difference_of_two_places(generator: Generator, target: str):
    places = latent_ages(generator, target)
    latents = torch.randn(2, 8) if target == "z" else torch.randn(2, generator.num_ws, 6)
    own = torch.tensor([10.0, 40.0])
    steps = places.steps(latents, own, torch.tensor([10.0, 50.0]), Edit(method="shift"))
    assert steps.shape == (2, 2, generator.num_ws, 6)
    means = places.means
    expected = [[means[0] * 0, means[2] - means[0]], [means[0] - (means[1] + means[2]) / 2, (means[2] - means[1]) / 2]]
    for face, ages in zip(steps, expected, strict=True):
        for step, difference in zip(face, ages, strict=True):
            torch.testing.assert_close(step, difference.expand(generator.num_ws, -1))


def test_the_method_follows_the_encoder(generator: Generator):
    assert latent_ages(generator, "z").method(Edit()) == "swap"
    assert latent_ages(generator, "w").method(Edit()) == "shift"
    with pytest.raises(FacegenError, match="predicts w"):
        latent_ages(generator, "w").method(Edit(method="swap"))


@pytest.mark.parametrize(("target", "method"), [("z", "swap"), ("z", "shift"), ("w+", "shift")])
def test_layers_that_are_not_named_stay(generator: Generator, target: str, method: str):
    places = latent_ages(generator, target)
    latents = torch.randn(1, 8) if target == "z" else torch.randn(1, generator.num_ws, 6)
    own, ages = torch.tensor([10.0]), torch.tensor([30.0, 50.0])
    whole = places.steps(latents, own, ages, Edit(method=method))
    part = places.steps(latents, own, ages, Edit(method=method, layers="1-2"))
    torch.testing.assert_close(part[:, :, 1:3], whole[:, :, 1:3])
    assert part[:, :, [0, 3, 4, 5]].abs().max() == 0
    assert whole.abs().sum(dim=(0, 1, 3)).min() > 0


def test_psi_draws_a_w_to_the_mean_of_its_age(generator: Generator):
    places = latent_ages(generator, "w")
    w, own = torch.randn(1, generator.num_ws, 6), torch.tensor([20.0])
    mean = (places.means[0] + places.means[1]) / 2
    torch.testing.assert_close(places.place(w, own, psi=0)[0], mean.expand(generator.num_ws, -1))
    torch.testing.assert_close(places.place(w, own), w)


@pytest.mark.parametrize("method", ["swap", "shift"])
def test_years_make_even_steps(generator: Generator, method: str):
    """No jump anywhere: from one group's middle to the next, every year is the same step in w."""
    places = latent_ages(generator, "z")
    steps = places.steps(torch.randn(1, 8), torch.tensor([10.0]), torch.arange(10.0, 51), Edit(method=method))[0]
    lengths = steps.diff(dim=0).flatten(1).norm(dim=1)
    for part in lengths.split(20):
        torch.testing.assert_close(part, part.mean().expand(20), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 300 + ":0:-0." + "0" * 100 + "1",
        "0:1:1e-300",
        "1e400",
        "-1e400:1:1",
        "nan",
        "nan:1:1",
        "inf",
        "9" * 5000,
        "0:90:0.0001",
        ",".join(["0:90:0.1"] * 2),
        "1," * 2000 + "1",
        "1:" + "9" * 400,
    ],
)
def test_ages_beyond_all_bounds_are_one_line(text):
    with pytest.raises(FacegenError) as caught:
        parse_ages(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["9" * 5000, "0-" + "9" * 5000, "0-999999999", "-" * 5000])
def test_layers_beyond_all_bounds_are_one_line(text):
    with pytest.raises(FacegenError) as caught:
        layer_indices(text, 10)
    assert len(str(caught.value)) < 250
