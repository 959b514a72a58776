import numpy as np
import pytest
import torch
from helpers import generator_of_groups, small_generator

from facegen.ages import AgeGroups
from facegen.errors import FacegenError
from facegen.latents.labels import Classes
from facegen.latents.options import TruncationOptions
from facegen.latents.seeds import latents_of_seeds
from facegen.latents.space import LatentSpace
from facegen.latents.walks.loops import circle, circle_diameter, noise_circle
from facegen.latents.walks.paths import (
    between,
    labels_between,
    places_between,
    psi_steps,
    slerp,
    staying,
    ws_between,
    ws_of_labels,
    ws_of_z,
)
from facegen.weights.header import Header

GROUPS = AgeGroups.parse("0-20,21-40,41-60")


@pytest.mark.parametrize("frames", [2, 24, 120, 240, 480, 720])
def test_an_open_walk_has_exactly_its_frames_and_shows_every_key(frames):
    places = places_between(3, frames)
    assert len(places) == 2 * frames
    where = places.start + places.amount
    assert where[[0, frames, -1]].tolist() == [0, 1, 2]
    assert (where.diff() > 0).all()


@pytest.mark.parametrize("frames", [24, 120, 240, 480, 720])
def test_a_loop_ends_one_frame_before_its_first_key(frames):
    places = places_between(3, frames, loop=True)
    assert len(places) == 3 * frames
    assert places.end[-1] == 0
    steps = (places.start + places.amount).diff()
    assert steps.tolist() == pytest.approx([1 / frames] * (3 * frames - 1), abs=1e-5)
    assert 1 - float(places.amount[-1]) == pytest.approx(1 / frames, abs=1e-5)


def test_easing_goes_from_key_to_key():
    places = places_between(3, 4, easing="easeInOutQuad")
    assert places.amount[:4].tolist() == [0, 0.125, 0.5, 0.875]
    assert places.amount[4:].tolist() == pytest.approx([0, 2 / 9, 7 / 9, 1])


@pytest.mark.parametrize(("keys", "frames"), [(1, 24), (3, 1), (3, 100_000)])
def test_too_few_and_too_many_frames(keys, frames):
    with pytest.raises(FacegenError):
        places_between(keys, frames)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [((0, 1, 0.01), 101), ((-0.8, 2.8, 0.02), 181), ((0.5, 1, 0.05), 11), ((-1, 2, 0.5), 7), ((1, 1, 0.1), 1)],
)
def test_truncation_arrives(arguments, count):
    psi = psi_steps(*arguments)
    assert len(psi) == count
    assert [float(psi[0]), float(psi[-1])] == pytest.approx(arguments[:2])


def test_truncation_goes_down_where_stop_lies_below():
    assert psi_steps(1, 0, 0.25).tolist() == psi_steps(1, 0, -0.25).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert psi_steps(0, 1, 0.4).tolist() == pytest.approx([0, 0.4, 0.8])


@pytest.mark.parametrize("arguments", [(0, 1, 0), (0, 1, 1e-9), (0, float("inf"), 1), (float("nan"), 1, 1)])
def test_truncation_that_never_arrives(arguments):
    with pytest.raises(FacegenError):
        psi_steps(*arguments)


def test_slerp_turns_at_one_speed_and_lengths_go_straight():
    start, end = torch.randn(2, 5, 3, 8)
    way = torch.stack([slerp(start, end, torch.tensor(amount)) for amount in np.linspace(0, 1, 9)])
    torch.testing.assert_close(way[[0, -1]], torch.stack([start, end]))
    lengths = way.norm(dim=-1)
    torch.testing.assert_close(lengths[4], (lengths[0] + lengths[-1]) / 2)
    angles = torch.nn.functional.cosine_similarity(way[1:], way[:-1], dim=-1).acos()
    torch.testing.assert_close(angles, angles[:1].expand(8, -1, -1), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, 0.0])
def test_slerp_of_vectors_on_one_line_is_straight(factor):
    start = torch.randn(4, 8)
    middle = slerp(start, factor * start, torch.tensor(0.5))
    torch.testing.assert_close(middle.norm(dim=-1), (1 + factor) / 2 * start.norm(dim=-1), rtol=1e-3, atol=1e-3)


def test_between_ages_the_way_leads_through_the_years():
    classes = Classes(3, Header({"groups": GROUPS.labels}))
    ages = classes.choose(ages=[10, 50])
    path = labels_between(classes, ages, places_between(2, 5))
    expected = torch.stack([classes.of_age(age).weights for age in (10, 20, 30, 40, 50)])
    torch.testing.assert_close(path, expected)
    first, last = classes.choose("0,2")
    straight = labels_between(classes, [first, last], places_between(2, 3))
    assert straight.tolist() == [[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]


@pytest.mark.parametrize("slerps", [False, True])
@pytest.mark.parametrize("psi", [1.0, 0.5])
def test_walks_in_z_and_w_show_the_faces_of_their_keys(slerps, psi):
    generator = generator_of_groups()
    space = LatentSpace(generator, truncation=TruncationOptions(trunc=psi, trunc_cutoff=3), device="cpu")
    (label,) = space.classes.choose("1")
    seeds, places = [3, 8], places_between(2, 5)
    z = torch.from_numpy(latents_of_seeds(seeds, generator.z_dim))
    expected = space.from_seeds(seeds, label)
    in_z = torch.stack(list(ws_of_z(space, between(z, places, slerps=slerps), label.weights.expand(5, -1))))
    keys = generator.mapping(z, label.weights.expand(2, -1))
    in_w = torch.stack(list(ws_between(space, keys, [label, label], places, slerps=slerps)))
    for way in (in_z, in_w):
        torch.testing.assert_close(way[[0, -1]], expected, rtol=1e-4, atol=1e-5)
    if not slerps:
        torch.testing.assert_close(in_w[2], (expected[0] + expected[1]) / 2)
    assert not torch.allclose(in_z[2], in_w[2])


def test_psi_of_each_frame():
    space = LatentSpace(generator_of_groups(), device="cpu")
    (label,) = space.classes.choose("2")
    psi = psi_steps(-1, 1, 1)
    keys = space.from_seeds([5], label)
    opposite, mean, face = ws_between(space, keys, [label], staying(3), psi=psi)
    torch.testing.assert_close(face, keys[0])
    torch.testing.assert_close(mean, space.means([label]).expand_as(mean))
    torch.testing.assert_close((opposite + face) / 2, mean)
    z = torch.from_numpy(latents_of_seeds([5], space.generator.z_dim)).expand(3, -1)
    for one, other in zip(ws_of_z(space, z, label.weights.expand(3, -1), psi), (opposite, mean, face), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("psi", [None, torch.linspace(0, 1, 6)])
def test_one_face_through_classes_is_the_face_of_each(psi):
    space = LatentSpace(generator_of_groups(), truncation=TruncationOptions(trunc=0.7), device="cpu")
    labels = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.25, 0.75], [0, 0, 1], [-0.5, 0, 1.5]])
    z = torch.from_numpy(latents_of_seeds([5], space.generator.z_dim))
    way = torch.stack(list(ws_of_labels(space, z, labels, psi)))
    torch.testing.assert_close(way, torch.stack(list(ws_of_z(space, z.expand(6, -1), labels, psi))))


def test_a_latent_of_no_class_is_truncated_toward_the_mean_of_all():
    space = LatentSpace(small_generator(3), device="cpu")
    (label,) = space.classes.choose("0")
    of_all, of_class = space.means([None, label])
    torch.testing.assert_close(of_all, space.generator.mapping.w_avg)
    assert not torch.allclose(of_all, of_class)


@pytest.mark.parametrize("frames", [24, 120, 240, 480, 720])
@pytest.mark.parametrize("z_dim", [8, 512])
def test_a_circle_is_round_and_closes(frames, z_dim):
    latents = np.random.RandomState(0).randn(3, z_dim)
    z = circle(latents, circle_diameter(z_dim), frames)
    assert z.shape == (frames, z_dim)
    radius = np.linalg.norm(z - latents[0], axis=1)
    assert radius == pytest.approx(np.full(frames, z_dim**0.5), rel=1e-4)
    steps = np.linalg.norm(z - np.roll(z, 1, axis=0), axis=1)  # the last one to the first, too
    assert steps == pytest.approx(np.full(frames, 2 * z_dim**0.5 * np.sin(np.pi / frames)), rel=1e-3)


def test_a_circle_needs_a_plane():
    one, other = np.random.RandomState(0).randn(2, 8)
    for latents in ([one, other, other], [one, one, other], [one, other, 2 * other - one]):
        with pytest.raises(FacegenError):
            circle(np.stack(latents), 1, 24)


@pytest.mark.parametrize("diameter", [0.9, 5])
def test_a_noise_loop_is_smooth_and_closes(diameter):
    z = noise_circle(0, 512, diameter, 120)
    steps = np.linalg.norm(z - np.roll(z, 1, axis=0), axis=1)
    assert steps.max() < 1.3 * steps.min()
    assert 0.9 < z.std() < 1.1
    assert abs(np.corrcoef(z[0], z[60])[0, 1]) < 0.4  # the face opposite is another one
    assert abs(np.corrcoef(z[0], noise_circle(1, 512, diameter, 120)[0])[0, 1]) < 0.2
    np.testing.assert_array_equal(z, noise_circle(0, 512, diameter, 120))
