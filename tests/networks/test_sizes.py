"""Other sizes: the middle stays the face, and the plain path stays what it is."""

from __future__ import annotations

import pytest
import torch
from helpers import small_generator

from facegen.errors import FacegenError
from facegen.latents.options import SCALE_TYPES as OPTION
from facegen.networks.generator import Generator
from facegen.networks.sizes import SCALE_TYPES, check_size, synthesize


def drawn(generator: Generator, size: tuple[int, int] | None, scale_type: str = "pad", **options) -> torch.Tensor:
    ws = torch.randn([2, generator.num_ws, generator.w_dim], generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return synthesize(generator.synthesis, ws, size, scale_type, **options)


def strong_noise(generator: Generator) -> Generator:
    """Noise that can be seen, as it hardly can before any training."""
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.5)
    return generator.requires_grad_(False)


def test_the_options_name_what_there_is():
    assert tuple(SCALE_TYPES) == OPTION


@pytest.mark.parametrize("scale_type", SCALE_TYPES)
@pytest.mark.parametrize("size", [(16, 18), (22, 16), (46, 30), (64, 16)])
def test_pictures_have_exactly_the_size(size, scale_type):
    images = drawn(small_generator(0), size, scale_type)
    assert images.shape == (2, 3, size[1], size[0])
    assert images.isfinite().all()


@pytest.mark.parametrize(("c_dim", "channels", "resolution"), [(3, 1, 16), (0, 3, 4), (0, 3, 8)])
def test_any_network(c_dim, channels, resolution):
    generator = small_generator(c_dim, resolution, channels)
    size = (2 * resolution, resolution)
    assert drawn(generator, size).shape == (2, channels, *reversed(size))


@pytest.mark.parametrize("architecture", ["orig", "resnet"])
def test_any_architecture(architecture):
    generator = Generator(8, 0, 8, 32, 3, {"num_layers": 1}, {"channel_base": 256, "architecture": architecture})
    assert drawn(generator, (64, 32)).shape == (2, 3, 32, 64)


def test_the_networks_own_size_is_the_plain_picture():
    generator = strong_noise(small_generator(0))
    plain = drawn(generator, None)
    assert torch.equal(drawn(generator, (16, 16)), plain)
    own = generator.synthesis.b4.const.expand(2, -1, -1, -1)
    assert torch.allclose(drawn(generator, None, const=own), plain, atol=1e-6)


@pytest.mark.parametrize("scale_type", ["padside", "symmside"])
def test_far_from_the_border_at_the_side_the_picture_is_the_plain_one(scale_type):
    generator = strong_noise(small_generator(0, 64))
    plain, wide = drawn(generator, None), drawn(generator, (128, 64), scale_type)
    assert torch.allclose(wide[..., :32], plain[..., :32], atol=1e-4)
    assert not torch.allclose(wide[..., 40:64], plain[..., 40:64], atol=1e-4)


def test_repeated_and_mirrored_features_come_where_they_should():
    """Of a network that ends at 8x8, the picture itself is what is continued."""
    generator = strong_noise(small_generator(0, 8))
    plain = drawn(generator, None)
    assert torch.equal(drawn(generator, (16, 8), "padside"), torch.cat([plain, plain], dim=3))
    assert torch.equal(drawn(generator, (16, 8), "symmside"), torch.cat([plain, plain.flip(3)], dim=3))
    assert torch.equal(drawn(generator, (8, 16), "pad"), torch.cat([plain[:, :, 4:], plain, plain[:, :, :4]], dim=2))
    mirrored = torch.cat([plain[..., :4].flip(3), plain, plain[..., 4:].flip(3)], dim=3)
    assert torch.equal(drawn(generator, (16, 8), "symm"), mirrored)


def test_random_noise_is_new_everywhere_and_is_that_of_the_seed():
    generator = strong_noise(small_generator(0, 64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = (drawn(generator, (128, 64), "padside", noise_mode="random") for _ in range(2))
        torch.manual_seed(0)
        again = drawn(generator, (128, 64), "padside", noise_mode="random")
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    without, stored = (drawn(generator, (128, 64), "padside", noise_mode=mode) for mode in ("none", "const"))
    parts = [(image - without)[..., 16:40].flatten() for image in (first, stored)]
    copies = [(image - without)[..., 80:104].flatten() for image in (first, stored)]
    repeats = [torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(parts, copies, strict=True)]
    assert repeats[0] < 0.8 < repeats[1]  # blocks up to 8x8 have one noise for both


def test_the_network_stays_as_it_is():
    generator = strong_noise(small_generator(0))
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    drawn(generator, (32, 16), const=torch.zeros([2, *generator.synthesis.b4.const.shape]))
    with pytest.raises(RuntimeError):
        drawn(generator, (32, 16), const=torch.zeros([2, 1, 1, 1, 1]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


@pytest.mark.parametrize("size", [(17, 16), (16, 17), (14, 32), (0, 16), (400_000, 400_000)])
def test_sizes_that_cannot_be(size):
    with pytest.raises(FacegenError, match=f"{size[0]}x{size[1]}"):
        check_size(small_generator(0).synthesis, size)
