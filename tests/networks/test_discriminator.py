import pytest
import torch
from golden_networks import CONFIGS, discriminator, inputs
from golden_numbers import assert_golden, golden

from facegen.networks.discriminator import Discriminator, append_minibatch_std

EXTRA = golden("networks_extra")


SMALL = {"channel_base": 128, "channel_max": 16, "mapping_kwargs": {"num_layers": 2}}


def tiny(**kwargs) -> Discriminator:
    return Discriminator(**{"c_dim": 3, "img_resolution": 16, "img_channels": 3, **SMALL, **kwargs}).eval()


def pictures(number: int = 4, channels: int = 3, resolution: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(number, channels, resolution, resolution) * 2 - 1, torch.eye(3)[torch.arange(number) % 3]


# --- Golden numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS)
def test_names_of_parameters_and_buffers(config):
    file, D = golden(f"networks_{config}"), discriminator(config)  # which loads with strict=True
    # The frozen layers of gray_nonoise8 are among the buffers.
    assert {name for name, _ in D.named_buffers()} == set(file.about["D_buffers"])
    # The mapping is built before the last block, the frozen layers are buffers: the order of a file of the family.
    assert list(D.state_dict()) == list(file.under("D"))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("config", CONFIGS)
def test_logits(config, training):
    D = discriminator(config).train(training)
    assert_golden(D(*inputs(config, "x", "c")), golden(f"networks_{config}")["logits"])


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("config", EXTRA.about)
def test_smaller_batches(config, number):
    D, (x, c) = discriminator(config), inputs(config, "x", "c")
    stored = f"{config}/logits_first{number}"
    if stored in EXTRA:
        assert_golden(D(x[:number], c[:number]), EXTRA[stored])
    else:
        assert number == 3
        assert "batch3_error" in EXTRA.about[config]
        with pytest.raises(ValueError, match="a batch of 3 cannot be split into minibatch-stddev groups of 2"):
            D(x[:number], c[:number])


@pytest.mark.parametrize("config", EXTRA.about)
def test_clamp_that_acts(config):
    about, D = EXTRA.about[config], discriminator(config, conv_clamp=EXTRA.about[config]["clamp"])
    logits = D(*inputs(config, "x", "c")).detach()
    assert_golden(logits, EXTRA[f"{config}/clamp0.3/logits"])
    change = (logits - golden(f"networks_{config}")["logits"]).abs().max()
    assert float(change) == pytest.approx(about["clamp_changes_logits"], rel=1e-3)


def test_every_golden_number_of_the_extra_file_is_tested():
    tested = {"img_none_fused", "img_random_seed123", "logits_first2", "logits_first3", "clamp0.3/img_const"}
    tested.add("clamp0.3/logits")
    assert {key.split("/", 1)[1] for key in EXTRA} == tested


# --- Minibatch standard deviation -----------------------------------------------------------------------------------


def test_minibatch_std_of_equal_pictures_is_nearly_0():
    x = torch.randn(1, 4, 3, 3).expand(6, -1, -1, -1)
    y = append_minibatch_std(x, 3, 1)
    assert torch.equal(y[:, :4], x)
    assert y[:, 4].abs().max() == pytest.approx(1e-4, rel=1e-3)  # the square root of its epsilon


def test_minibatch_std_groups_pictures_that_are_apart():
    # Of 4 pictures in groups of 2, 0 and 2 form one and 1 and 3 the other.
    x = torch.tensor([0.0, 10, 2, 16]).reshape(4, 1, 1, 1)
    std = append_minibatch_std(x, 2, 1)[:, 1].flatten()
    assert std.tolist() == pytest.approx([1, 3, 1, 3])


def test_minibatch_std_of_channels_by_themselves():
    x = torch.zeros(2, 4, 3, 5)
    x[1, 2:] = 4
    std = append_minibatch_std(x, None, 2)
    assert std.shape == (2, 6, 3, 5)
    assert std[:, 4].max() == pytest.approx(1e-4, rel=1e-3)
    torch.testing.assert_close(std[:, 5], torch.full([2, 3, 5], 2.0))


def test_a_batch_smaller_than_the_group_is_one_group():
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(append_minibatch_std(x, 8, 1), append_minibatch_std(x, None, 1))


# --- What it does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
@pytest.mark.parametrize("resolution", [8, 16, 64])
def test_shapes(architecture, resolution):
    D = tiny(architecture=architecture, img_resolution=resolution)
    assert D(*pictures(resolution=resolution)).shape == (4, 1)


def test_gray_pictures_and_no_label():
    D = tiny(c_dim=0, img_channels=1)
    x, _ = pictures(channels=1)
    assert D(x, None).shape == (4, 1)
    assert not hasattr(D, "mapping")


def test_the_label_matters():
    D, (x, c) = tiny(), pictures()
    assert not torch.allclose(D(x, c.roll(1, dims=1)), D(x, c))


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_leaves_inputs_and_weights_alone(architecture):
    D, (x, c) = tiny(architecture=architecture, conv_clamp=0.3), pictures()
    before, state = x.clone(), {name: tensor.clone() for name, tensor in D.state_dict().items()}
    with torch.no_grad():
        first = D(x, c)
        assert torch.equal(D(x, c), first)
    assert torch.equal(x, before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in D.state_dict().items())


def test_layout_of_the_picture_does_not_matter():
    D, (x, c) = tiny(), pictures()
    torch.testing.assert_close(D(x.to(memory_format=torch.channels_last), c), D(x, c), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_gradient_penalty_reaches_every_weight(architecture):
    D, (x, c) = tiny(architecture=architecture).train(), pictures()
    (gradient,) = torch.autograd.grad(D(x.requires_grad_(), c).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    weights = {name: p.grad for name, p in D.named_parameters() if name.endswith("weight")}
    assert [name for name, grad in weights.items() if grad is None or not grad.isfinite().all()] == []
    assert [name for name, grad in weights.items() if grad.abs().max() == 0] == []


@pytest.mark.parametrize("freeze_layers", [0, 1, 4, 99])
def test_frozen_layers_count_from_the_picture(freeze_layers):
    D = tiny(block_kwargs={"freeze_layers": freeze_layers})
    order = ["b16.fromrgb", "b16.conv0", "b16.conv1", "b16.skip", "b8.conv0", "b8.conv1", "b8.skip"]
    trained = {name.rsplit(".", 1)[0] for name, _ in D.named_parameters()}
    assert [layer for layer in order if layer not in trained] == order[:freeze_layers]
    assert {"b4.conv", "b4.fc", "b4.out"} <= trained
    D.load_state_dict(tiny().state_dict(), strict=True)  # same names, frozen or not
    D(*pictures()).sum().backward()


def test_constructor_arguments_are_kept_for_weight_files():
    D = tiny(architecture="skip", cmap_dim=5, epilogue_kwargs={"mbstd_group_size": 2})
    again = Discriminator(**D.init_kwargs).eval()
    again.load_state_dict(D.state_dict(), strict=True)
    x, c = pictures()
    assert torch.equal(again(x, c), D(x, c))


# --- Half precision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_float16_is_near_float32(architecture):
    D, (x, c) = tiny(architecture=architecture, num_fp16_res=2, conv_clamp=256), pictures()
    types = []
    for name in ("b16", "b8"):
        getattr(D, name).register_forward_hook(lambda _, args, out: types.append(out[0].dtype))
    with torch.no_grad():
        half = D(x, c, force_fp32=False)
        assert types == [torch.float16, torch.float16]
        single, default = D(x, c, force_fp32=True), D(x, c)
    assert half.dtype == torch.float32
    assert half.isfinite().all()
    # Logits of 0.05 to 0.6 behind five to seven layers, each rounded to 2^-11: measured up to 0.0004.
    torch.testing.assert_close(half, single, atol=0.003, rtol=0)
    assert not torch.equal(half, single)
    assert torch.equal(default, single)  # the CPU gains nothing from float16


def test_float16_clamps_what_would_overflow():
    D, (x, c) = tiny(num_fp16_res=2, conv_clamp=256), pictures()
    with torch.no_grad():
        assert D(x * 1e4, c, force_fp32=False).isfinite().all()


# --- Mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [3, 5, 7])
def test_group_that_does_not_divide_the_batch(number):
    D = tiny(epilogue_kwargs={"mbstd_group_size": 2})
    with pytest.raises(ValueError, match=f"a batch of {number} cannot be split into minibatch-stddev groups of 2"):
        D(*pictures(number))


def test_resolution_without_a_block_to_read_the_picture():
    with pytest.raises(ValueError, match="resolution"):
        tiny(img_resolution=4)(*pictures(resolution=4))


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 1, 16, 16), (4, 16, 16, 3), (3, 16, 16)])
def test_pictures_of_another_shape(shape):
    with pytest.raises(ValueError, match="pictures must have the shape"):
        tiny()(torch.zeros(shape), torch.zeros(4, 3))


@pytest.mark.parametrize("c", [None, torch.zeros(4, 2), torch.zeros(4)])
def test_labels_of_another_shape(c):
    with pytest.raises(ValueError, match=r"c must have the shape \[N, 3\], got"):
        tiny()(pictures()[0], c)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("config", CONFIGS)
def test_gpu(config, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    x, c = (tensor.cuda() for tensor in inputs(config, "x", "c"))
    logits = discriminator(config).cuda()(x, c, force_fp32=True)
    assert_golden(logits, golden(f"networks_{config}")["logits"])
