"""Labels that fade in: what G, D and the average see of them, before, during and after."""

from __future__ import annotations

import pytest
import torch
from trainings import CPU, narrow_options, train, train_whole_and_resumed

from facegen.errors import FacegenError
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.training.generator import loop
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.state import build_state
from facegen.training.generator.step import train_step
from facegen.training.generator.transition import effective_parameters, fade_labels, label_weight
from facegen.weights.native import load_networks

SMALL = {"channel_base": 128, "channel_max": 16}
FADING = {"t_start_kimg": 0.016, "t_end_kimg": 0.048}


def networks():
    G = Generator(8, 5, 8, 16, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=SMALL)
    return G.requires_grad_(False), Discriminator(
        5, 16, 3, **SMALL, epilogue_kwargs={"mbstd_num_channels": 0}
    ).requires_grad_(False)


@pytest.mark.parametrize(
    ("images", "expected"),
    [(0, 0), (9_999, 0), (10_000, 0), (15_000, 0.25), (20_000, 0.5), (30_000, 1), (99_000, 1)],
)
def test_labels_come_in_evenly_between_the_two_moments(images, expected):
    assert label_weight(images, 10, 30) == expected


def test_without_a_transition_labels_count_from_the_start():
    assert label_weight(0, 0, None) == 1


def test_labels_of_weight_0_are_the_same_for_everybody_and_of_weight_1_untouched():
    labels = torch.eye(5)
    assert torch.equal(fade_labels(labels, 0), torch.full([5, 5], 0.2))
    assert fade_labels(labels, 1) is labels
    assert fade_labels(labels, 0.25).sum(dim=1) == pytest.approx(1)
    assert fade_labels(torch.zeros([3, 0]), 0.5).shape == (3, 0)  # an unconditional network


def test_at_weight_0_neither_network_knows_the_class():
    G, D = networks()
    z, pictures = torch.randn([1, 8]).expand(5, -1), torch.randn([1, 3, 16, 16]).expand(5, -1, -1, -1)
    for weight, differ in [(0, False), (0.5, True)]:
        labels = fade_labels(torch.eye(5), weight)
        ws, logits = G.mapping(z, labels), D(pictures, labels)
        assert bool((ws - ws[:1]).abs().max() > 1e-5) is differ
        assert bool((logits - logits[:1]).abs().max() > 1e-5) is differ


@pytest.mark.parametrize("weight", [0, 0.3, 1])
def test_the_average_makes_of_plain_labels_what_the_generator_makes_of_faded_ones(weight):
    G, _ = networks()
    G.mapping.embed.bias.normal_()
    other, _ = networks()
    for parameter, value in zip(other.parameters(), effective_parameters(G, weight).values(), strict=True):
        parameter.copy_(value)
    z, c = torch.randn([5, 8]), torch.eye(5)
    expected = G.mapping(z, fade_labels(c, weight))
    torch.testing.assert_close(other.mapping(z, c), expected, rtol=1e-5, atol=1e-6)  # sums in another order


def test_a_run_shows_one_class_at_first_and_all_of_them_in_the_end(face_archive, tmp_path):
    options = narrow_options(face_archive, **FADING)
    state = build_state(options, loop.open_archive(options), CPU)
    z, c = torch.randn([1, 16]).expand(3, -1), torch.eye(3)
    spread = []
    for _ in range(16):
        train_step(state, options, CPU)
        ws = state.G_ema.mapping(z, c)
        spread.append(float((ws - ws.mean(dim=0)).abs().mean()))
    # In these four steps labels have no weight yet; the average holds but a rest of the weights that it began with.
    assert spread[3] < 0.05 * spread[-1]
    assert spread[3] < spread[7] < spread[-1]
    state.batches.close()


def test_a_run_that_was_stopped_on_the_way_goes_on_as_if_it_had_not_been(face_archive, tmp_path):
    whole, _ = train_whole_and_resumed(face_archive, tmp_path, kimg=0.064, tick=0.016, **FADING)
    assert whole.name.endswith("-ada-t0.016to0.048")


def test_a_new_run_from_a_snapshot_on_the_way_starts_with_what_its_networks_do(face_archive, tmp_path):
    run = train(face_archive, tmp_path, **FADING)
    assert "labels count      50% yet, in full from 0.048 kimg on" in (run / "log.txt").read_text()
    snapshot = run / "network-snapshot-000000_032.safetensors"
    was, _ = load_networks(snapshot)
    new = narrow_options(face_archive, resume=str(snapshot), nkimg=0)
    state = build_state(new, loop.open_archive(new), CPU)
    state.batches.close()
    z, c, pictures = torch.randn(3, 16), torch.eye(3), torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        ws = was["G"].mapping(z, fade_labels(c, 0.5), skip_w_avg_update=True)
        torch.testing.assert_close(state.G.mapping(z, c, skip_w_avg_update=True), ws, rtol=1e-4, atol=1e-5)
        logits = was["D"](pictures, fade_labels(c, 0.5))
        torch.testing.assert_close(state.D(pictures, c), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ({"t_start_kimg": 1}, "t-start-kimg needs t-end-kimg"),
        ({"t_start_kimg": 2, "t_end_kimg": 1}, r"above t-start-kimg \(2\), got 1"),
        ({"t_start_kimg": -1, "t_end_kimg": 1}, "at least 0"),
        ({"t_start_kimg": 9, "t_end_kimg": 10}, r"below kimg \(5\), got 9"),
        ({"t_end_kimg": float("inf")}, "must be a finite number"),
        ({"t_end_kimg": 1, "cond": False}, "leave out t-end-kimg or --cond=0"),
    ],
)
def test_impossible_transitions_are_refused(chosen, complaint):
    with pytest.raises(FacegenError, match=complaint):
        TrainOptions("x", "tiny", 5, **chosen).decide(16)
