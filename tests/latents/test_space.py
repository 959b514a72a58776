import numpy as np
import pytest
import torch
from golden_numbers import FOLDER
from helpers import small_generator

from facegen.errors import FacegenError
from facegen.images import to_uint8
from facegen.latents.options import DrawingOptions, TruncationOptions, parse_size
from facegen.latents.space import LatentSpace
from facegen.weights.load import load_generator


def test_pictures_are_those_of_the_ancestors():
    """The reference implementation's pictures of the same z and classes: at most one level of 255 apart."""
    expected = np.load(FOLDER / "legacy_tiny_expected.npz")
    space = LatentSpace(*load_generator(FOLDER / "legacy_tiny.pkl"), device="cpu")
    drawn = np.stack(list(space.draw(space.from_z(*(torch.from_numpy(expected[name]).float() for name in ("z", "c"))))))
    levels = to_uint8(torch.from_numpy(expected["img"])).permute(0, 2, 3, 1).numpy()
    assert np.abs(drawn.astype(int) - levels).max() <= 1
    assert np.abs(drawn.astype(int) - levels[::-1]).mean() > 10


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("c_dim", [0, 3])
def test_every_kind_of_network_is_drawn(channels, c_dim):
    space = LatentSpace(small_generator(c_dim, channels=channels))
    for label in space.classes.choose():
        pictures = list(space.draw(space.from_seeds([1, 2], label)))
        assert [picture.shape for picture in pictures] == [(16, 16, channels)] * 2
        assert not np.array_equal(*pictures)


@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_a_picture_does_not_depend_on_the_batch(noise_mode):
    generator = small_generator(0)
    for name, parameter in generator.synthesis.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.ones_(parameter)
    before = torch.random.get_rng_state()
    drawn = []
    for batch in (1, 2, 5):
        space = LatentSpace(generator, drawing=DrawingOptions(noise_mode=noise_mode, noise_seed=3, batch=batch))
        drawn.append(np.stack(list(space.draw(space.from_seeds(range(5), space.classes.choose()[0])))).astype(int))
    assert np.abs(drawn[0] - drawn[1]).max() <= 1
    assert np.abs(drawn[0] - drawn[2]).max() <= 1
    assert torch.equal(before, torch.random.get_rng_state())


def test_noise_that_is_drawn_follows_its_seed():
    generator = small_generator(0)
    for name, parameter in generator.synthesis.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.ones_(parameter)
    pictures = []
    for seed in (0, 0, 1):
        space = LatentSpace(generator, drawing=DrawingOptions(noise_mode="random", noise_seed=seed))
        pictures.append(next(space.draw(space.from_seeds([1], space.classes.choose()[0]))))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_latents_of_files_are_truncated_toward_their_label_or_all():
    generator = small_generator(3)
    generator.mapping.w_avg.fill_(5)
    space, ws = LatentSpace(generator, truncation=TruncationOptions(trunc=0.0)), torch.randn(2, 6, 8)
    assert torch.all(space.truncate(ws) == 5)
    label = space.classes.choose("1")[0]
    assert torch.allclose(
        space.truncate(ws, label), space.truncation.centers(label.weights[None])[:, None].expand_as(ws)
    )


def test_pictures_of_any_size():
    space = LatentSpace(small_generator(0), drawing=DrawingOptions(size=parse_size("46-18"), scale_type="symm"))
    ws = space.from_seeds([1, 2], space.classes.choose()[0])
    assert [picture.shape for picture in space.draw(ws)] == [(18, 46, 3)] * 2
    with pytest.raises(FacegenError, match="14x16"):
        LatentSpace(small_generator(0), drawing=DrawingOptions(size=(14, 16)))


def test_a_size_is_a_width_and_a_height():
    assert parse_size("1920-1080") == parse_size(" 1920x1080 ") == parse_size("1920X1080") == (1920, 1080)
    for text in ("1920", "-1920-1080", "19.5-10", "1920-1080-3", "", "wide-high"):
        with pytest.raises(FacegenError):
            parse_size(text)
