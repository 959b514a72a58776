"""The networks that look at pictures for the metrics, and where their weights come from."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from facegen import beside
from facegen.errors import FacegenError
from facegen.weights.cache import download, removed_if_damaged
from facegen.weights.read import read_state_dict

if TYPE_CHECKING:
    from facegen.metrics.names import Metric
    from facegen.metrics.path_length import Distance
    from facegen.metrics.perceptual import PerceptualDistance

BATCH = 32  # pictures that a network looks at at a time
_RELEASE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
INCEPTION_URL = f"{_RELEASE}weights-inception-2015-12-05-6726825d.pth"
LPIPS_URL = f"{_RELEASE}weights-vgg16-lpips.pth"
VGG_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"


@dataclass(frozen=True)
class Extractor:
    """A network that turns pictures into features.

    Attributes:
        name: Names the network and its weights; cached features are kept under it.
        features: From uint8 `[N, 3, H, W]` to float32 `[N, D]`.
        logits: From features to logits of classes `[N, K]`; only the inception score needs it.
    """

    name: str
    features: Callable[[torch.Tensor], torch.Tensor]
    logits: Callable[[torch.Tensor], torch.Tensor] | None = None


@dataclass(frozen=True)
class Detectors:
    """What the metrics look with; each may be None where no metric asks for it.

    Attributes:
        inception: For fid, kid and is.
        vgg: For pr.
        distance: For ppl.
    """

    inception: Extractor | None = None
    vgg: Extractor | None = None
    distance: Distance | None = None

    def of(self, metric: Metric) -> Extractor:
        """Return the extractor that a metric looks with.

        Raises:
            FacegenError: it is not there.
        """
        name = "vgg" if metric.kind == "pr" else "inception"
        extractor = getattr(self, name)
        if extractor is None:
            raise FacegenError(f"{metric.name}: needs the {name} extractor, which was not given")
        if metric.kind == "is" and extractor.logits is None:
            raise FacegenError(f"{metric.name}: {extractor.name} gives no logits, which the inception score needs")
        return extractor


def load_detectors(
    metrics: Iterable[Metric],
    *,
    inception: str | os.PathLike[str] | None = None,
    vgg: str | os.PathLike[str] | None = None,
    lpips: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Detectors:
    """Load what these metrics need: from the given files, else downloaded once.

    Args:
        metrics: As returned by `parse_metrics`.
        inception, vgg, lpips: Weight files; None downloads what is needed.
        device: Where the networks compute.
        progress: Show a bar while downloading.

    Raises:
        FileNotFoundError, FacegenError: a file is missing, damaged, holds another network or cannot be downloaded
            (the line names the address and the option), or torch-fidelity is not installed.
    """
    kinds = {metric.kind for metric in metrics}
    found: dict[str, Any] = {}
    if kinds - {"ppl"}:
        try:
            import torch_fidelity  # noqa: F401
        except ImportError as error:
            raise FacegenError(
                "these metrics need torch-fidelity: pip install torch-fidelity (or facegen[metrics])"
            ) from error
    if kinds & {"fid", "kid", "is"}:
        found["inception"] = load_inception(locate_weights(inception, INCEPTION_URL, "--inception", progress), device)
    if kinds & {"pr", "ppl"}:
        vgg_file = locate_weights(vgg, VGG_URL, "--vgg", progress)
    if "pr" in kinds:
        found["vgg"] = load_vgg(vgg_file, device)
    if "ppl" in kinds:
        found["distance"] = load_distance(vgg_file, locate_weights(lpips, LPIPS_URL, "--lpips", progress), device)
    return Detectors(**found)


def check_given_files(
    metrics: Iterable[Metric],
    inception: str | os.PathLike[str] | None,
    vgg: str | os.PathLike[str] | None,
    lpips: str | os.PathLike[str] | None,
) -> None:
    """Raise a FileNotFoundError for a file given to `load_detectors` that these metrics need and that is not there."""
    kinds = {metric.kind for metric in metrics}
    if inception is not None and kinds & {"fid", "kid", "is"}:
        locate_weights(inception, INCEPTION_URL, "--inception")
    if vgg is not None and kinds & {"pr", "ppl"}:
        locate_weights(vgg, VGG_URL, "--vgg")
    if lpips is not None and "ppl" in kinds:
        locate_weights(lpips, LPIPS_URL, "--lpips")


def locate_weights(given: str | os.PathLike[str] | None, url: str, option: str, progress: bool = True) -> Path:
    """Return the given file, or a copy of the file at `url`.

    Raises:
        FileNotFoundError, FacegenError: no such file, or no download; the line names the option.
    """
    if given is not None:
        if not Path(given).is_file():
            raise FileNotFoundError(f"{given}: there is no such file ({option}); it is published as {url}")
        return Path(given)
    try:
        return download(url, progress=progress)
    except FacegenError as error:
        raise FacegenError(f"{error} ({option} FILE)") from error


def load_inception(path: Path, device: torch.device | str = "cpu") -> Extractor:
    """Load the Inception network of the FID (TensorFlow's of 2015, ported by torch-fidelity): features `[N, 2048]`.

    Pictures are enlarged to 299x299 as TensorFlow 1 did, so the numbers fit those of papers.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception

    network = _build(lambda file: Inception("inception", ["2048"], feature_extractor_weights_path=file), path, device)

    # Without the bias, as the published scores are computed.
    def logits(features: torch.Tensor) -> torch.Tensor:
        return features.to(network.fc.weight) @ network.fc.weight.T

    return Extractor(f"inception-{file_fingerprint(path)}", lambda images: _run(network, images, device), logits)


def load_vgg(path: Path, device: torch.device | str = "cpu") -> Extractor:
    """Load torchvision's VGG16, whose last hidden layer `[N, 4096]` defines the manifolds of precision and recall."""
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16 as Vgg

    network = _build(lambda file: Vgg("vgg", ["fc2_relu"], feature_extractor_weights_path=file), path, device)
    return Extractor(f"vgg-{file_fingerprint(path)}", lambda images: _run(network, images, device))


def load_distance(vgg: Path, lpips: Path, device: torch.device | str = "cpu") -> PerceptualDistance:
    """Load LPIPS on VGG16 from the weights of both."""
    from facegen.metrics.perceptual import PerceptualDistance

    try:
        return PerceptualDistance(_state_dict(vgg), _state_dict(lpips)).to(device)
    except FacegenError as error:
        raise FacegenError(f"{vgg}, {lpips}: {error}") from error


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    with removed_if_damaged(path):
        return read_state_dict(path)


def _build(make: Callable[[io.BytesIO], Any], path: Path, device: torch.device | str) -> Any:
    """Build a network of torch-fidelity from a file, which is read safely first: torch-fidelity would run it."""
    safe = io.BytesIO()
    torch.save(_state_dict(path), safe)
    safe.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn, only to be replaced
            return make(safe).to(device)
    except RuntimeError as error:
        raise FacegenError(f"{path}: holds the weights of another network ({str(error).splitlines()[0]})") from error


@torch.no_grad()
def _run(network: nn.Module, images: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    (features,) = network(images.to(device))
    return features


def file_fingerprint(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    return beside.download.sha256_of(path)[:16]
