"""The judging networks, with random weights: the published ones cannot be had in a test."""

from __future__ import annotations

import pickle
import sys

import pytest
import torch
from refusals import assert_refused

from facegen.errors import FacegenError
from facegen.metrics import features
from facegen.metrics.features import load_detectors, load_inception, locate_weights
from facegen.metrics.names import parse_metrics
from facegen.metrics.perceptual import BLOCK_CHANNELS, PerceptualDistance
from facegen.weights.read import read_state_dict


@pytest.fixture(scope="module")
def vgg_weights():
    """torchvision's VGG16 with random weights; its classifier, 120 of 138 million, is left out."""
    from torchvision.models import vgg16

    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in vgg16(weights=None).features.state_dict().items()}
    return {f"features.{name}": torch.randn(shape) * 0.05 for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def lpips_weights():
    torch.manual_seed(1)
    return {f"lin{i}.model.1.weight": torch.rand([1, c, 1, 1]) for i, c in enumerate(BLOCK_CHANNELS)}


def that_see(weights):
    """Weights of a size at which pictures that differ still do so at the end of a deep network."""
    convolutions = {name: w for name, w in weights.items() if name.endswith("conv.weight")}
    return weights | {name: torch.randn_like(w) * (2 / w[0].numel()) ** 0.5 for name, w in convolutions.items()}


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    original = Inception.load_state_dict
    try:  # its constructor insists on a file
        Inception.load_state_dict = lambda self, state: torch.save(that_see(self.state_dict()), path)
        torch.save({}, path)
        Inception("inception", ["2048"], feature_extractor_weights_path=path)
    finally:
        Inception.load_state_dict = original
    return path


# --- Inception ------------------------------------------------------------------------------------------------------


def test_inception_from_a_file_is_that_of_torch_fidelity(inception_file):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception

    images = torch.randint(0, 256, [2, 3, 32, 32], dtype=torch.uint8)
    theirs = Inception("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=inception_file)
    pooled, logits = theirs(images)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    (metric,) = parse_metrics("fid5k")
    extractor = load_detectors([metric], inception=inception_file).of(metric)
    assert torch.equal(torch.get_rng_state(), before)  # a training's random numbers stay what they were
    ours = extractor.features(images)
    assert ours.shape == (2, 2048)
    assert torch.equal(ours, pooled)
    assert (ours[0] - ours[1]).abs().max() > 1e-3
    assert torch.allclose(extractor.logits(ours), logits)
    assert extractor.name.startswith("inception-")


def test_inception_offline_names_address_and_option(monkeypatch):
    pytest.importorskip("torch_fidelity")
    with pytest.raises(FacegenError) as error:
        load_detectors(parse_metrics("fid5k"))
    assert features.INCEPTION_URL in str(error.value)
    assert "--inception FILE" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("metric", "option"), [("pr5k3", "--vgg FILE"), ("ppl2_wend5k", "--vgg FILE")])
def test_vgg_offline(metric, option):
    pytest.importorskip("torch_fidelity")
    with pytest.raises(FacegenError, match=option) as error:
        load_detectors(parse_metrics(metric))
    assert features.VGG_URL in str(error.value)


def test_lpips_offline(tmp_path):
    (tmp_path / "vgg.pth").touch()
    with pytest.raises(FacegenError, match="--lpips FILE") as error:
        load_detectors(parse_metrics("ppl2_wend5k"), vgg=tmp_path / "vgg.pth")
    assert features.LPIPS_URL in str(error.value)


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth.*--inception"):
        locate_weights(tmp_path / "nowhere.pth", features.INCEPTION_URL, "--inception")


def test_weights_of_another_network(tmp_path):
    pytest.importorskip("torch_fidelity")
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    assert_refused("other.pth: holds the weights of another network", load_inception, path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    for name, content in {
        "pickle.pth": pickle.dumps({"weight": Evil()}),
        "empty.pth": b"",
        "text.pth": b"<html>not found</html>",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FacegenError, match=f"{name}: "):
            read_state_dict(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    assert_refused("not a state dict", read_state_dict, tmp_path / "list.pth")


def test_without_torch_fidelity(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    assert_refused("pip install torch-fidelity", load_detectors, parse_metrics("fid5k"))


def test_nothing_is_loaded_for_nothing():
    assert load_detectors([]) == features.Detectors()


# --- LPIPS ----------------------------------------------------------------------------------------------------------


def test_lpips_is_that_of_torch_fidelity(vgg_weights, lpips_weights, monkeypatch):
    theirs = pytest.importorskip("torch_fidelity.sample_similarity_lpips")
    from torchvision.models import vgg16

    with torch.device("meta"):
        network = vgg16(weights=None)
    layers = network.features.to_empty(device="cpu")
    layers.load_state_dict({name.removeprefix("features."): value for name, value in vgg_weights.items()})
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *args, **kwargs: lpips_weights)
    monkeypatch.setattr(theirs, "torchvision_load_pretrained_vgg16", lambda **kwargs: network)
    reference = theirs.SampleSimilarityLPIPS("lpips")
    images = torch.rand([2, 2, 3, 32, 32]) * 2 - 1
    expected = reference(*((images + 1) * 127.5))
    found = PerceptualDistance(vgg_weights, lpips_weights)(*images)
    assert found.shape == (2,)
    assert torch.allclose(found, expected.view(2), rtol=1e-4)


def test_lpips_of_the_same_picture_is_zero(vgg_weights, lpips_weights):
    distance = PerceptualDistance(vgg_weights, lpips_weights)
    image = torch.rand([1, 3, 32, 32]) * 2 - 1
    assert float(distance(image, image)) == 0
    assert float(distance(image, -image)) > 0


def test_pictures_too_small_for_lpips(vgg_weights, lpips_weights):
    distance = PerceptualDistance(vgg_weights, lpips_weights)
    assert distance(*torch.zeros([2, 1, 3, 16, 16])).shape == (1,)
    assert_refused("16x16 pixels, not 8x8", distance, *torch.zeros([2, 1, 3, 8, 8]))


def test_wrong_weights_of_lpips(vgg_weights, lpips_weights):
    assert_refused("VGG16", PerceptualDistance, {"weight": torch.zeros(1)}, lpips_weights)
    with pytest.raises(FacegenError, match="no lin4 with 512 channels"):
        PerceptualDistance(vgg_weights, {k: v for k, v in lpips_weights.items() if "lin4" not in k})
