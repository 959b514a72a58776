"""What the networks do on a GPU and not on the CPU: the same numbers, and the layouts and types that it is fast in."""

from __future__ import annotations

import pytest
import torch
from facegen.beside.torch_utils.ops import convolution, reference, upfirdn2d

from facegen.networks import discriminator, generator, layers
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator, modulated_conv2d

ARCHITECTURES = ("orig", "skip", "resnet")


def networks(architecture: str = "resnet", **shared) -> tuple[Generator, Discriminator]:
    shared = {"channel_base": 256, "channel_max": 32, "conv_clamp": 256, **shared}
    generator_architecture = "skip" if architecture == "resnet" else architecture
    synthesis = {"architecture": generator_architecture, **shared}
    G = Generator(8, 3, 12, 32, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=synthesis)
    return G.train(), Discriminator(3, 32, 3, architecture=architecture, **shared).train()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("noise_mode", ["const", "none"])
def test_bias_after_the_convolution_gives_the_same_numbers(architecture, noise_mode, monkeypatch):
    torch.manual_seed(0)
    G, D = networks(architecture)
    parameters = [*G.synthesis.parameters(), *D.parameters()]
    with torch.no_grad():
        for parameter in parameters:
            if parameter.ndim < 2:  # biases and strengths of noise start at 0
                parameter.normal_()
    ws, c = torch.randn(4, G.num_ws, 12), torch.eye(3)[[0, 1, 2, 0]]
    results = []
    for bias_last in (False, True):
        for module in (layers, generator):
            monkeypatch.setattr(module, "bias_comes_last", lambda device, answer=bias_last: answer)
        images = G.synthesis(ws, noise_mode=noise_mode)
        logits = D(images, c)
        gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
        results.append((images, logits, [g for g in gradients if g is not None]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("b", [True, False])
def test_fused_and_shared_convolutions_add_noise_and_bias_alike(demodulate, up, b):
    torch.manual_seed(0)
    x, weight, styles = torch.randn(3, 6, 8, 8), torch.randn(5, 6, 3, 3), torch.randn(3, 6) + 1
    shared = {"demodulate": demodulate, "up": up, "padding": 1, "resample_filter": upfirdn2d.setup_filter([1, 3, 3, 1])}
    shared |= {"b": torch.randn(5) if b else None}
    noise = torch.randn(3, 1, 8 * up, 8 * up)
    plain = modulated_conv2d(x, weight, styles, **shared)
    for fused in (False, True):
        # The same order of summation but for the filter, of numbers up to about 50.
        actual = modulated_conv2d(x, weight, styles, fused_modconv=fused, noise=noise, **shared)
        torch.testing.assert_close(actual, plain + noise, atol=1e-5, rtol=1e-5)


class Calls:
    """Records what convolutions and filters get, in the forward pass and in all derivatives."""

    def __init__(self, monkeypatch) -> None:
        self.convolutions: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = []
        self.weight_gradients: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.filters: list[torch.Tensor] = []
        convolve, weight_gradient = convolution._convolve, convolution._weight_gradient
        channels = reference._convolve_channels

        def record_convolution(x, w, b, geometry):
            self.convolutions.append((x, w, b))
            return convolve(x, w, b, geometry)

        def record_gradient(x, grad, shape, geometry):
            self.weight_gradients.append((x, grad))
            return weight_gradient(x, grad, shape, geometry)

        def record_filter(x, *others):
            self.filters.append(x)
            return channels(x, *others)

        monkeypatch.setattr(convolution, "_convolve", record_convolution)
        monkeypatch.setattr(convolution, "_weight_gradient", record_gradient)
        monkeypatch.setattr(reference, "_convolve_channels", record_filter)


def is_channels_last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Networks that take the paths of a GPU, float16 included: PyTorch keeps layouts there as it does on the CPU."""
    dtypes = {True: torch.float16, False: torch.float32}
    for module in (generator, discriminator):
        monkeypatch.setattr(module, "working_dtype", lambda use_fp16, *_: dtypes[use_fp16])
    for module in (layers, generator):
        monkeypatch.setattr(module, "bias_comes_last", lambda device: True)
    return *networks(num_fp16_res=2), Calls(monkeypatch)


def test_float16_is_channels_last_wherever_it_convolves(as_on_gpu):
    G, D, calls = as_on_gpu
    ws, c = torch.randn(4, G.num_ws, 12), torch.zeros(4, 3)
    D(G.synthesis(ws), c).sum().backward()
    halves = [(x, w) for x, w, _ in calls.convolutions if x.dtype == torch.float16]
    assert len(halves) >= 2 * (4 + 6)  # forward, and the gradients of pictures
    for x, w in halves:
        assert w.dtype == torch.float16
        assert is_channels_last(x), (x.shape, x.stride())
        assert is_channels_last(w), (w.shape, w.stride())
    halves = [pair for pair in calls.weight_gradients if pair[0].dtype == torch.float16]
    assert len(halves) >= 4 + 6
    for x, grad in halves:
        assert is_channels_last(x), (x.shape, x.stride())
        assert is_channels_last(grad), (grad.shape, grad.stride())
    halves = [x for x in calls.filters if x.dtype == torch.float16]
    assert len(halves) >= 2 * (2 + 4)
    for x in halves:
        assert is_channels_last(x), (x.shape, x.stride())


def test_second_derivatives_stay_channels_last(as_on_gpu):
    G, D, calls = as_on_gpu
    real, c = torch.randn(4, 3, 32, 32, requires_grad=True), torch.zeros(4, 3)
    (gradient,) = torch.autograd.grad(D(real, c).sum(), real, create_graph=True)
    gradient.square().sum().backward()
    ws = torch.randn(4, G.num_ws, 12, requires_grad=True)
    images = G.synthesis(ws)
    (gradient,) = torch.autograd.grad((images * torch.randn_like(images)).sum(), ws, create_graph=True)
    gradient.square().sum().backward()
    found = [x for x, *_ in calls.convolutions if x.dtype == torch.float16]
    found += [x for pair in calls.weight_gradients for x in pair if x.dtype == torch.float16]
    assert len(found) > 60
    strayed = [(x.shape, x.stride()) for x in found if not is_channels_last(x)]
    assert strayed == []


def test_half_precision_is_for_the_last_resolutions(as_on_gpu):
    G, D, calls = as_on_gpu
    D(G.synthesis(torch.randn(4, G.num_ws, 12)), torch.zeros(4, 3))
    # Two resolutions of 32 are 16 and 32; the first layer of 16 still works on 8.
    sizes = {
        dtype: {x.shape[3] for x, *_ in calls.convolutions if x.dtype == dtype}
        for dtype in (torch.float16, torch.float32)
    }
    assert max(sizes[torch.float32]) <= 11
    assert min(sizes[torch.float16]) >= 8


def test_no_convolution_of_a_gpu_adds_a_bias(as_on_gpu):
    G, D, calls = as_on_gpu
    D(G.synthesis(torch.randn(4, G.num_ws, 12)), torch.zeros(4, 3))
    assert calls.convolutions
    assert all(b is None for _, _, b in calls.convolutions)


@pytest.mark.parametrize(("training", "dtype", "batch", "fused"), [
    (True, torch.float32, 1, False),
    (True, torch.float16, 1, False),
    (False, torch.float32, 8, True),
    (False, torch.float16, 8, False),
    (False, torch.float16, 1, True),
])  # fmt: skip
def test_which_convolution_a_gpu_gets(training, dtype, batch, fused):
    assert generator.fuses_modulation(training, dtype, batch, torch.device("cuda")) is fused
    assert not generator.fuses_modulation(training, dtype, batch, torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gpu_computes_what_the_cpu_does(architecture, fused, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    G, D = networks(architecture)
    ws, c = torch.randn(4, G.num_ws, 12), torch.eye(3)[[0, 1, 2, 0]]
    results = []
    for device in ("cpu", "cuda"):
        G, D = G.to(device), D.to(device)
        parameters = [*G.synthesis.parameters(), *D.parameters()]
        images = G.synthesis(ws.to(device), noise_mode="const", fused_modconv=fused, force_fp32=True)
        logits = D(images, c.to(device), force_fp32=True)
        gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
        results.append([t.detach().cpu() for t in (images, logits, *gradients) if t is not None])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)
