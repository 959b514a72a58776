import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from facegen.beside.torch_utils.ops.bias_act import bias_act

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator, SynthesisNetwork
from facegen.networks.layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    block_resolutions,
    channels_per_resolution,
    check_architecture,
    lowest_fp16_resolution,
    normalize_2nd_moment,
    working_dtype,
)

CPU = torch.device("cpu")

# --- Sizes ----------------------------------------------------------------------------------------------------------


def test_block_resolutions():
    assert block_resolutions(4) == [4]
    assert block_resolutions(64) == [4, 8, 16, 32, 64]
    assert block_resolutions(1024)[-1] == 1024


@pytest.mark.parametrize("resolution", [0, 1, 2, 3, 6, 48, 100, 1023, -8])
def test_resolution_that_is_no_power_of_two(resolution):
    for build in (block_resolutions, lambda side: Generator(8, 0, 8, side, 3), lambda side: Discriminator(0, side, 3)):
        with pytest.raises(ValueError, match=f"power of two and at least 4, got {resolution}"):
            build(resolution)


def test_channels_per_resolution():
    assert channels_per_resolution(32, 1024, 100) == {4: 100, 8: 100, 16: 64, 32: 32}


@pytest.mark.parametrize(("num_fp16_res", "lowest"), [(0, 256), (1, 128), (3, 32), (4, 16), (5, 8), (9, 8)])
def test_lowest_resolution_in_half_precision(num_fp16_res, lowest):
    assert lowest_fp16_resolution(128, num_fp16_res) == lowest


def test_half_precision_is_for_cuda_unless_asked_for():
    cuda = torch.device("cuda")
    assert working_dtype(True, None, CPU) == torch.float32
    assert working_dtype(True, None, cuda) == torch.float16
    assert working_dtype(True, False, CPU) == torch.float16
    assert working_dtype(True, True, cuda) == torch.float32
    assert working_dtype(False, False, cuda) == torch.float32


def test_unknown_architecture():
    for build in (check_architecture, partial(SynthesisNetwork, 8, 8, 3), partial(Discriminator, 0, 8, 3)):
        with pytest.raises(ValueError, match=r"unet.*orig, skip, resnet"):
            build(architecture="unet")


# --- Layers ---------------------------------------------------------------------------------------------------------


def test_second_moment_becomes_1():
    x = normalize_2nd_moment(torch.randn(5, 64) * 7)
    torch.testing.assert_close(x.square().mean(dim=1), torch.ones(5))
    assert normalize_2nd_moment(torch.zeros(2, 8)).abs().max() == 0


@pytest.mark.parametrize("activation", ["linear", "lrelu", "tanh"])
@pytest.mark.parametrize("lr_multiplier", [1, 0.01])
def test_fully_connected(activation, lr_multiplier):
    layer = FullyConnectedLayer(24, 5, activation=activation, lr_multiplier=lr_multiplier, bias_init=1)
    x = torch.randn(3, 24)
    expected = x @ layer.weight.t() * (lr_multiplier / math.sqrt(24)) + layer.bias * lr_multiplier
    torch.testing.assert_close(layer(x), bias_act(expected, act=activation))
    assert layer.bias.tolist() == [1] * 5


@pytest.mark.parametrize("lr_multiplier", [1, 0.01])
def test_fully_connected_weights_start_large_and_act_like_a_unit_normal(lr_multiplier):
    layer = FullyConnectedLayer(400, 400, lr_multiplier=lr_multiplier)
    assert float(layer.weight.detach().std()) == pytest.approx(1 / lr_multiplier, rel=0.02)
    assert float(layer(torch.randn(50, 400)).detach().std()) == pytest.approx(1, rel=0.05)


def test_fully_connected_works_in_the_type_of_its_input():
    layer = FullyConnectedLayer(16, 8, activation="lrelu")
    x = torch.randn(4, 16)
    assert layer(x.half()).dtype == torch.float16
    torch.testing.assert_close(layer(x.half()).float(), layer(x), atol=0.02, rtol=0)  # rounded to 2^-11 of about 4


# swish has no act(gain * x) = gain * act(x): its gain cannot move onto the weights as that of lrelu can.
@pytest.mark.parametrize("activation", ["linear", "lrelu", "swish"])
@pytest.mark.parametrize("gain", [1, 0.5])
def test_convolution_layer(activation, gain):
    layer = Conv2dLayer(6, 4, 3, activation=activation, conv_clamp=0.4)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 6, 8, 8)
    y = F.conv2d(x, layer.weight / math.sqrt(6 * 9), layer.bias, padding=1)
    # The gain multiplies the clamp, too.
    y = bias_act(y, act=activation)
    expected = (y * gain).clamp(-0.4 * gain, 0.4 * gain)
    assert (expected.abs() == 0.4 * gain).any()
    torch.testing.assert_close(layer(x, gain=gain), expected)


@pytest.mark.parametrize(("up", "down", "size"), [(1, 1, 8), (2, 1, 16), (1, 2, 4)])
def test_convolution_layer_resamples(up, down, size):
    assert Conv2dLayer(3, 5, 3, up=up, down=down)(torch.zeros(1, 3, 8, 8)).shape == (1, 5, size, size)


def test_convolution_layer_that_upsamples_flips_its_weights():
    # Away from the border a constant slope survives the low-pass filter, and the weights' own slope shows its sign.
    layer = Conv2dLayer(1, 1, 3, up=2)
    layer.weight.data = torch.tensor([[[[0.0, 0, 0], [0, 0, 0], [0, 0, 3]]]])  # 1 at the lower right, scaled
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    fine = Conv2dLayer(1, 1, 1, up=2)
    fine.weight.data.fill_(1)
    same = fine(ramp)
    # A flipped kernel reads the pixel to the upper left.
    torch.testing.assert_close(layer(ramp)[..., 8:-8, 8:-8], same[..., 7:-9, 7:-9])
    assert not torch.allclose(same[..., 7:-9, 7:-9], same[..., 9:-7, 9:-7])


@pytest.mark.parametrize("activation", ["linear", "lrelu", "swish"])
@pytest.mark.parametrize(("kernel", "up", "down"), [(1, 1, 1), (1, 2, 1), (1, 1, 2), (3, 1, 1), (3, 2, 1), (3, 1, 2)])
def test_convolution_layer_leaves_its_input_alone(kernel, up, down, activation):
    x = torch.randn(1, 2, 8, 8)
    before = x.clone()
    layer = Conv2dLayer(2, 2, kernel, activation=activation, up=up, down=down, conv_clamp=0.1, bias=False)
    first = layer(x, gain=0.5)
    kept = first.clone()
    layer(x)
    assert torch.equal(x, before)
    assert torch.equal(first, kept)


def test_convolution_layer_that_is_not_trained_keeps_its_names():
    trained, frozen = Conv2dLayer(3, 5, 1), Conv2dLayer(3, 5, 1, trainable=False)
    assert set(trained.state_dict()) == set(frozen.state_dict()) == {"weight", "bias", "resample_filter"}
    assert list(frozen.parameters()) == []
    assert {name for name, _ in frozen.named_buffers()} == {"weight", "bias", "resample_filter"}


# --- Mapping --------------------------------------------------------------------------------------------------------


def mapping(**kwargs) -> MappingNetwork:
    return MappingNetwork(**{"z_dim": 8, "c_dim": 3, "w_dim": 6, "num_ws": 5, "num_layers": 2, **kwargs})


def latents(number: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(number, 8), torch.eye(3)[torch.arange(number) % 3]


def test_mapping_repeats_w():
    ws = mapping()(*latents())
    assert ws.shape == (4, 5, 6)
    assert torch.equal(ws, ws[:, :1].expand(-1, 5, -1))
    assert mapping(num_ws=None).eval()(*latents()).shape == (4, 6)


def test_mapping_without_repetition_trains():
    assert mapping(num_ws=None).train()(*latents()).shape == (4, 6)


def test_only_the_direction_of_z_matters():
    network, (z, c) = mapping(), latents()
    torch.testing.assert_close(network(z * 3, c), network(z, c))
    assert not torch.allclose(network(-z, c), network(z, c))


def test_the_label_matters():
    network, (z, c) = mapping(), latents()
    assert not torch.allclose(network(z, c.roll(1, dims=0)), network(z, c))


def test_mapping_of_the_label_alone():
    network = mapping(z_dim=0, num_ws=None, w_avg_beta=None)
    assert network(None, torch.eye(3)).shape == (3, 6)
    assert "w_avg" not in network.state_dict()


def test_mapping_without_label():
    network = mapping(c_dim=0)
    z, _ = latents()
    assert not hasattr(network, "embed")
    assert torch.equal(network(z, None), network(z, torch.zeros(4, 0)))


def test_truncation():
    network, (z, c) = mapping().eval(), latents()
    network.w_avg.normal_()
    ws = network(z, c)
    assert torch.equal(network(z, c, truncation_psi=1, truncation_cutoff=2), ws)
    torch.testing.assert_close(network(z, c, truncation_psi=0), network.w_avg.expand(4, 5, -1))
    half = network(z, c, truncation_psi=0.5)
    torch.testing.assert_close(half, (ws + network.w_avg) / 2)
    cut = network(z, c, truncation_psi=0.5, truncation_cutoff=2)
    assert torch.equal(cut[:, :2], half[:, :2])
    assert torch.equal(cut[:, 2:], ws[:, 2:])
    assert torch.equal(network(z, c, truncation_psi=0.5, truncation_cutoff=0), ws)


def test_average_of_w_moves_in_training_only():
    network, (z, c) = mapping(w_avg_beta=0.9).eval(), latents()
    network(z, c)
    assert network.w_avg.abs().max() == 0
    network.train()
    network(z, c, skip_w_avg_update=True)
    assert network.w_avg.abs().max() == 0
    ws = network(z, c)
    torch.testing.assert_close(network.w_avg, 0.1 * ws[:, 0].mean(dim=0))
    again = network(z, c)
    torch.testing.assert_close(network.w_avg, 0.19 * again[:, 0].mean(dim=0))
    assert not network.w_avg.requires_grad


def test_truncation_passes_gradients():
    network, (z, c) = mapping().eval(), latents()
    z.requires_grad_()
    network(z, c, truncation_psi=0.5, truncation_cutoff=2).square().sum().backward()
    assert z.grad.abs().max() > 0


@pytest.mark.parametrize("kwargs", [{"w_avg_beta": None}, {"num_ws": None}])
def test_truncation_without_an_average(kwargs):
    with pytest.raises(ValueError, match="truncation needs the average of w"):
        mapping(**kwargs).eval()(*latents(), truncation_psi=0.7)


@pytest.mark.parametrize("shape", [(4, 7), (8,), (4, 8, 1), None])
def test_z_of_another_shape(shape):
    z = None if shape is None else torch.zeros(shape)
    with pytest.raises(ValueError, match=r"z must have the shape \[N, 8\], got"):
        mapping()(z, latents()[1])


@pytest.mark.parametrize("shape", [(4, 2), (4,), None])
def test_c_of_another_shape(shape):
    c = None if shape is None else torch.zeros(shape)
    with pytest.raises(ValueError, match=r"c must have the shape \[N, 3\], got"):
        mapping()(latents()[0], c)


@pytest.mark.parametrize("number", [1, 2])
def test_number_of_z_and_c_differ(number):
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)size|batch|number|shape"):
        mapping()(torch.zeros(4, 8), torch.zeros(number, 3))
