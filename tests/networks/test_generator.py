import math

import pytest
import torch
import torch.nn.functional as F
from facegen.beside.torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d
from golden_networks import CONFIGS, generator, inputs
from golden_numbers import assert_golden, golden

from facegen.networks.generator import Generator, SynthesisNetwork, modulated_conv2d

EXTRA = golden("networks_extra")


def tiny(**synthesis_kwargs) -> Generator:
    kwargs = {"channel_base": 128, "channel_max": 16, **synthesis_kwargs}
    return Generator(8, 3, 12, 16, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=kwargs).eval()


def latents(G: Generator, number: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(number, G.z_dim), torch.eye(G.c_dim)[torch.arange(number) % G.c_dim]


# --- Golden numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS)
def test_names_of_parameters_and_buffers(config):
    about, G = golden(f"networks_{config}").about, generator(config)  # which loads with strict=True
    assert G.num_ws == about["num_ws"]
    assert {name for name, _ in G.named_buffers()} == set(about["G_frozen"])
    # A file may be read by position: the order counts.
    assert list(G.state_dict()) == list(golden(f"networks_{config}").under("G"))


@pytest.mark.parametrize("config", CONFIGS)
def test_mapping(config):
    file, G = golden(f"networks_{config}"), generator(config)
    z, c = inputs(config, "z", "c")
    assert_golden(G.mapping(z, c), file["ws"])
    assert_golden(G.mapping(z, c, truncation_psi=0.5), file["ws_psi05"])
    assert_golden(G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=3), file["ws_psi05_cutoff3"])


@pytest.mark.parametrize("config", CONFIGS)
def test_average_of_w_after_one_training_batch(config):
    file, G = golden(f"networks_{config}"), generator(config).train()
    G.mapping(*inputs(config, "z", "c"))
    assert_golden(G.mapping.w_avg, file["w_avg_after_one_training_batch"])


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("fused", [None, False, True])
def test_synthesis(config, fused):
    file, G = golden(f"networks_{config}"), generator(config)
    (ws,) = inputs(config, "ws")
    stored = "img_const_fused" if fused else "img_const"
    with torch.no_grad():
        assert_golden(G.synthesis(ws, noise_mode="const", fused_modconv=fused), file[stored])
        assert_golden(G.synthesis(ws, noise_mode="none", fused_modconv=fused), file["img_none"])


@pytest.mark.parametrize("config", CONFIGS)
def test_synthesis_in_training_mode(config):
    G = generator(config).train()
    assert_golden(G.synthesis(*inputs(config, "ws"), noise_mode="const"), golden(f"networks_{config}")["img_const"])


@pytest.mark.parametrize("config", CONFIGS)
def test_whole_generator(config):
    G = generator(config)
    with torch.no_grad():
        assert_golden(G(*inputs(config, "z", "c"), noise_mode="const"), golden(f"networks_{config}")["img_const"])


@pytest.mark.parametrize("config", EXTRA.about)
def test_synthesis_without_noise_fused(config):
    with torch.no_grad():
        images = generator(config).synthesis(*inputs(config, "ws"), noise_mode="none", fused_modconv=True)
    assert_golden(images, EXTRA[f"{config}/img_none_fused"])


@pytest.mark.parametrize("config", EXTRA.about)
def test_random_noise_is_drawn_as_the_reference_draws_it(config):
    G = generator(config)
    torch.manual_seed(123)
    with torch.no_grad():
        images = G.synthesis(*inputs(config, "ws"), noise_mode="random")
    assert_golden(images, EXTRA[f"{config}/img_random_seed123"])


@pytest.mark.parametrize("config", EXTRA.about)
def test_clamp_that_acts(config):
    about, stored = EXTRA.about[config], EXTRA[f"{config}/clamp0.3/img_const"]
    with torch.no_grad():
        images = generator(config, conv_clamp=about["clamp"]).synthesis(*inputs(config, "ws"), noise_mode="const")
    assert_golden(images, stored)
    change = (images - golden(f"networks_{config}")["img_const"]).abs().max()
    assert float(change) == pytest.approx(about["clamp_changes_img"], rel=1e-4)


# --- Modulated convolution ------------------------------------------------------------------------------------------


def one_picture_at_a_time(x, weight, styles, demodulate, up, padding, resample_filter) -> torch.Tensor:
    """Equations 1 to 3 of StyleGAN2, one picture after the other, upsampling before the convolution."""
    results = []
    for picture, style in zip(x, styles, strict=True):
        w = weight * style[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum(dim=[1, 2, 3], keepdim=True) + 1e-8).sqrt()
        picture = picture[None]
        if up > 1:
            taps = resample_filter.shape[0]
            before, after = padding + (taps + up - 1) // 2, padding + (taps - up) // 2
            pads = [before, after, before, after]
            picture = upfirdn2d(picture, resample_filter, up=up, padding=pads, gain=up**2)
            results.append(F.conv2d(picture, w.flip([2, 3])))  # with up > 1 the weights are flipped
        else:
            results.append(F.conv2d(picture, w, padding=padding))
    return torch.cat(results)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_modulated_convolution_is_what_the_paper_says(kernel, up, demodulate, fused):
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64)
    weight = torch.randn(5, 4, kernel, kernel, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    shared = {"demodulate": demodulate, "up": up, "padding": kernel // 2, "resample_filter": setup_filter([1, 3, 3, 1])}
    actual = modulated_conv2d(x, weight, styles, fused_modconv=fused, **shared)
    expected = one_picture_at_a_time(x, weight, styles, **shared)
    close = {"atol": 1e-9, "rtol": 0}
    torch.testing.assert_close(actual, expected, **close)
    cotangent = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(actual, [weight, styles], cotangent),
        torch.autograd.grad(expected, [weight, styles], cotangent),
        strict=True,
    ):
        torch.testing.assert_close(a, b, **close)


@pytest.mark.parametrize("fused", [False, True])
def test_modulated_convolution_is_twice_differentiable(fused):
    tensors = [torch.randn(2, 3, 4, 4), torch.randn(2, 3, 3, 3), torch.randn(2, 3)]
    tensors = [tensor.double().requires_grad_() for tensor in tensors]

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        f = setup_filter([1, 3, 3, 1])
        return modulated_conv2d(*tensors, up=2, padding=1, resample_filter=f, fused_modconv=fused)

    assert torch.autograd.gradcheck(function, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_demodulation_keeps_float16_from_overflowing(alike, fused):
    # 512 channels, weights and styles of 300: the sum of squares is 4e13, float16 ends at 65504.
    x, weight, styles = torch.randn(1, 512, 4, 4), torch.randn(8, 512, 3, 3), torch.randn(1, 512)
    if alike:  # 4608 products that all add up, of features at their clamp: 1e6 even for weights and styles of 1
        x, weight, styles = torch.full_like(x, 256), torch.ones_like(weight), torch.ones_like(styles)
    weight, styles = weight * 300, styles * 300
    actual = modulated_conv2d(x.half(), weight, styles, padding=1, fused_modconv=fused)
    assert actual.dtype == torch.float16
    expected = modulated_conv2d(x, weight, styles, padding=1)
    # Unit variance, or 17000 of them alike, rounded to 2^-11 a few times.
    torch.testing.assert_close(actual.float(), expected, atol=0.02, rtol=2**-8)


# --- What it does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_shapes(architecture, resolution):
    network = SynthesisNetwork(12, resolution, 3, channel_base=64, channel_max=8, architecture=architecture)
    assert network.num_ws == 2 * int(math.log2(resolution)) - 2
    images = network(torch.randn(2, network.num_ws, 12))
    assert images.shape == (2, 3, resolution, resolution)
    assert images.dtype == torch.float32


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_which_layer_takes_which_w(architecture):
    # Where all w but one are 0, only layers that take that one get a gradient for the weights that multiply it.
    order = {"b4.conv1": 0, "b8.conv0": 1, "b8.conv1": 2, "b16.conv0": 3, "b16.conv1": 4, "b16.torgb": 5}
    if architecture == "skip":  # a ToRGB shares the w of the layer that follows
        order |= {"b4.torgb": 1, "b8.torgb": 3}
    G = tiny(architecture=architecture)
    affine = {
        name.removesuffix(".affine.weight"): p for name, p in G.synthesis.named_parameters() if "affine.w" in name
    }
    assert set(affine) == set(order)
    for i in range(G.num_ws):
        ws = torch.zeros(2, G.num_ws, 12)
        ws[:, i] = torch.randn(2, 12)
        for fused in (False, True):
            images = G.synthesis(ws, noise_mode="const", fused_modconv=fused)
            gradients = torch.autograd.grad(images.square().sum(), list(affine.values()))
            took = {name for name, gradient in zip(affine, gradients, strict=True) if gradient.abs().max() > 0}
            assert took == {name for name in order if order[name] == i}


def test_noise_modes():
    G = tiny()
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.5)
    z, c = latents(G)
    with torch.no_grad():
        assert torch.equal(G(z, c, noise_mode="const"), G(z, c, noise_mode="const"))
        assert torch.equal(G(z, c, noise_mode="none"), G(z, c, noise_mode="none"))
        assert not torch.allclose(G(z, c), G(z, c))
        assert not torch.allclose(G(z, c, noise_mode="const"), G(z, c, noise_mode="none"))
        same = G(z[:1].expand(2, -1), c[:1].expand(2, -1))
    assert not torch.allclose(same[0], same[1])  # every picture has noise of its own


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_leaves_inputs_and_weights_alone(architecture):
    G = tiny(architecture=architecture, conv_clamp=0.3)
    ws = torch.randn(2, G.num_ws, 12)
    before, state = ws.clone(), {name: tensor.clone() for name, tensor in G.state_dict().items()}
    with torch.no_grad():
        first = G.synthesis(ws, noise_mode="const")
        kept = first.clone()
        assert torch.equal(G.synthesis(ws, noise_mode="const"), kept)
    assert torch.equal(first, kept)
    assert torch.equal(ws, before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in G.state_dict().items())


def test_truncation_reaches_the_picture():
    G = tiny()
    z, c = latents(G)
    with torch.no_grad():
        average = G(z, c, truncation_psi=0, noise_mode="const")
        cut = G(z, c, truncation_psi=0, truncation_cutoff=2, noise_mode="const")
    torch.testing.assert_close(average[0], average[1])
    assert not torch.allclose(cut[0], cut[1])


def test_each_picture_depends_on_its_own_latent():
    # In evaluation mode nothing may leak between the pictures of a batch.
    G = tiny()
    z, c = latents(G, 3)
    with torch.no_grad():
        together = G(z, c, noise_mode="const")
        alone = torch.cat([G(z[i : i + 1], c[i : i + 1], noise_mode="const") for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)  # other order of sums


def test_fused_and_shared_convolutions_have_the_same_gradients():
    G = tiny()
    ws = torch.randn(2, G.num_ws, 12, requires_grad=True)
    gradients = []
    for fused in (False, True):
        images = G.synthesis(ws, noise_mode="const", fused_modconv=fused)
        gradients.append(torch.autograd.grad(images.square().sum(), [ws, *G.synthesis.parameters()]))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3 * max(1, float(a.abs().max())), rtol=0)  # float32 over 16 layers


def test_every_parameter_learns():
    G = tiny(architecture="skip").train()
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    G(*latents(G)).square().sum().backward()
    assert [name for name, p in G.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


@pytest.mark.parametrize("number", [0, 1])
def test_batches_of_none_and_one(number):
    G = tiny()
    assert G(*latents(G, number)).shape == (number, 3, 16, 16)


def test_constructor_arguments_are_kept_for_weight_files():
    G = tiny(architecture="orig")
    again = Generator(**G.init_kwargs).eval()
    again.load_state_dict(G.state_dict(), strict=True)
    z, c = latents(G)
    assert torch.equal(again(z, c, noise_mode="const"), G(z, c, noise_mode="const"))


# --- Half precision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_float16_is_near_float32(architecture, fused):
    G = tiny(architecture=architecture, num_fp16_res=2, conv_clamp=256)
    ws = torch.randn(2, G.num_ws, 12)
    types = []
    for name, module in G.synthesis.named_children():
        module.register_forward_hook(lambda _, args, out, name=name: types.append((name, out[0].dtype)))
    with torch.no_grad():
        half = G.synthesis(ws, noise_mode="const", force_fp32=False, fused_modconv=fused)
        assert types == [("b4", torch.float32), ("b8", torch.float16), ("b16", torch.float16)]
        single = G.synthesis(ws, noise_mode="const", force_fp32=True, fused_modconv=fused)
        default = G.synthesis(ws, noise_mode="const", fused_modconv=fused)
    assert half.dtype == torch.float32
    assert half.isfinite().all()
    # Four layers in float16, each rounded to 2^-11: measured 0.001 to 0.0025 of the brightest pixel.
    torch.testing.assert_close(half, single, atol=0.01 * float(single.abs().max()), rtol=0)
    assert not torch.equal(half, single)
    assert torch.equal(default, single)  # the CPU gains nothing from float16


def test_float16_training_has_finite_gradients():
    G = tiny(num_fp16_res=2, conv_clamp=256).train()
    z, c = latents(G)
    G(z, c, force_fp32=False).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in G.parameters())


# --- Mistakes -------------------------------------------------------------------------------------------------------


def test_unknown_noise_mode():
    G = tiny()
    with pytest.raises(ValueError, match="unknown noise mode 'zero': choose one of random, const, none"):
        G(*latents(G), noise_mode="zero")


@pytest.mark.parametrize("shape", [(2, 12), (2, 5, 12), (2, 6, 13), (2, 6)])
def test_ws_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"ws must have the shape \[N, 6, 12\], got"):
        tiny().synthesis(torch.zeros(shape))


@pytest.mark.parametrize(("z", "c", "name"), [((2, 9), (2, 3), "z"), ((2, 8), (2, 4), "c"), ((8,), (2, 3), "z")])
def test_z_and_c_of_another_shape(z, c, name):
    with pytest.raises(ValueError, match=rf"{name} must have the shape \[N, \d\], got"):
        tiny()(torch.zeros(z), torch.zeros(c))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("config", CONFIGS)
def test_gpu(config, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    file, G = golden(f"networks_{config}"), generator(config).cuda()
    z, c = (tensor.cuda() for tensor in inputs(config, "z", "c"))
    with torch.no_grad():
        assert_golden(G(z, c, noise_mode="const", force_fp32=True), file["img_const"])
