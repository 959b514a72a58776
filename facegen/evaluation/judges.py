"""The networks that judge: how old a face looks, who it is, and of which sex.

None of them took part in any training of facegen, with one exception: where dlib does not judge identities, the sex is
judged by the classifier with which aging holds it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from facegen.errors import FacegenError
from facegen.evaluation.reconstruction import Distance
from facegen.faces.align import align_face
from facegen.faces.template import AlignmentTemplate
from facegen.images import to_float
from facegen.metrics.features import BATCH, Extractor, file_fingerprint, locate_weights
from facegen.parallel import map_in_order
from facegen.weights.facenet import FACENET_SIZE, FACENET_TEMPLATE, VGGFACE2_URL, load_facenet

# Where the landmarks of `facegen.faces.template` lie in the pictures that each network was trained on.
# dlib: its own `get_face_chip_details` (150 pixels, padding 0.25) on 144 faces of UTKFace covers a square of 1.0916
# of the aligned picture's side (standard deviation 0.05) about (0.500, 0.504), upright.
DLIB_TEMPLATE = AlignmentTemplate(((0.317, 0.305), (0.678, 0.306), (0.498, 0.525), (0.331, 0.674), (0.656, 0.675)))
DLIB_SIZE = 150
DLIB_FILE = "dlib_face_recognition_resnet_model_v1.dat"
INSTALL_DLIB = 'pip install "facegen[evaluate]" (or pip install dlib-bin face_recognition_models)'


@dataclass(frozen=True)
class AgeJudge:
    """Tells ages.

    Attributes:
        name: The weight file and the beginning of its SHA-256.
        predict: From uint8 `[N, 3, H, W]`, aligned, to years `[N]` (float64).
    """

    name: str
    predict: Callable[[torch.Tensor], np.ndarray]


@dataclass(frozen=True)
class Judges:
    """The networks that judge.

    Attributes:
        age: Tells ages.
        identity: Tells people; features of length 1. None leaves identity out, and realism by its features.
        sex: Tells women from men; None leaves out whether they stay so.
        inception: For the realism that papers measure; None to leave it out.
        lpips: Perceptual distance; None to leave it out.
    """

    age: AgeJudge
    identity: Extractor | None
    sex: SexJudge | None = None
    inception: Extractor | None = None
    lpips: Distance | None = None


@dataclass(frozen=True)
class SexJudge:
    """Tells women from men by their looks.

    Attributes:
        name: The weight file and the beginning of its SHA-256.
        men: How surely each looks like a man: `[N]`, 0..1, from uint8 `[N, 3, H, W]`, aligned, or from features.
        takes_features: Whether `men` is asked about the features `[N, D]` of the judge of identities.
    """

    name: str
    men: Callable[[torch.Tensor], np.ndarray]
    takes_features: bool = False


def load_sex_judge(identity: Extractor | None, *, device: torch.device | str = "cpu") -> SexJudge:
    """Load the judge of the sex.

    dlib's features tell it by a plane between women's and men's (`scripts/fit_sex_judge.py`), which was not used in any
    training. For other judges of identities there is none, and the classifier by which aging holds the sex must do.

    Raises:
        FileNotFoundError, FacegenError: the file is missing or damaged.
    """
    from facegen.weights.load import load_sex_classifier
    from facegen.weights.locate import shipped_file
    from facegen.weights.tensors.safetensors_file import open_safetensors

    if identity is not None and identity.name.startswith("dlib"):
        path = shipped_file("sex_judge")
        with open_safetensors(path) as file:
            weight, bias = file.tensor("weight"), file.tensor("bias")
        name = f"{path.name} ({file_fingerprint(path)})"
        return SexJudge(name, lambda features: (features @ weight + bias).sigmoid().numpy(), takes_features=True)
    path = shipped_file("sex")
    network = load_sex_classifier(path)[0].to(device).eval()

    @torch.no_grad()
    def men(images: torch.Tensor) -> np.ndarray:
        parts = [network.men(to_float(part.to(device))).cpu() for part in images.split(BATCH)]
        return torch.cat(parts).double().numpy()

    return SexJudge(f"{path.name} ({file_fingerprint(path)})", men)


def load_age_judge(reference: str | os.PathLike[str] | None = None, *, device: torch.device | str = "cpu") -> AgeJudge:
    """Load the judge of ages; None for the one that comes with facegen, which no loss and no transfer ever uses.

    Raises:
        FileNotFoundError, FacegenError: the file is missing, damaged, or holds no age estimator.
    """
    from facegen.weights.load import load_age_estimator
    from facegen.weights.locate import locate, shipped_file

    path = locate(shipped_file("age_judge") if reference is None else reference)
    network, _ = load_age_estimator(path)
    network = network.to(device).eval()

    @torch.no_grad()
    def predict(images: torch.Tensor) -> np.ndarray:
        parts = [network.predict(to_float(part.to(device))).cpu() for part in images.split(BATCH)]
        return torch.cat(parts).double().numpy()

    return AgeJudge(f"{path.name} ({file_fingerprint(path)})", predict)


def load_identity_judge(
    reference: str | os.PathLike[str] | None,
    template: AlignmentTemplate,
    *,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Extractor:
    """Load the judge of identities.

    Args:
        reference: `dlib` (face recognition ResNet, 128 numbers), `vggface2` (facenet-pytorch's InceptionResnetV1, 512
            numbers; downloaded once), or a file with a state dict of an InceptionResnetV1. None takes dlib where it is
            installed, else vggface2.
        template: Where the landmarks lie in the pictures that will be judged.
        device: Where the network computes; dlib's is always a CPU.
        progress: Show a bar while downloading.

    Returns:
        An extractor whose features have length 1.

    Raises:
        FileNotFoundError, FacegenError: it cannot be had; the line says what to install or which file to give.
    """
    if reference is None:
        reference = "dlib" if dlib_weights() is not None else "vggface2"
        if reference == "vggface2":
            try:
                return load_identity_judge(reference, template, device=device, progress=progress)
            except FacegenError as error:
                raise FacegenError(f"no judge of identities: {INSTALL_DLIB}; or: {error}") from error
    if reference == "dlib":
        return _dlib(template)
    if reference == "vggface2":
        path = locate_weights(None, VGGFACE2_URL, "--id-judge", progress)
    else:
        # The message names the judges, too: a mistyped name ends here.
        path = locate_weights(reference, VGGFACE2_URL, "--id-judge is dlib, vggface2 or a file")
    return _facenet(path, template, device)


def dlib_weights() -> Path | None:
    """The file of dlib's face recognition network; None where it or dlib is not installed."""
    # Only found, not imported: face_recognition_models imports pkg_resources, which newer setuptools lack.
    package = importlib.util.find_spec("face_recognition_models")
    if importlib.util.find_spec("dlib") is None or package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "models" / DLIB_FILE
    return path if path.is_file() else None


def _dlib(template: AlignmentTemplate) -> Extractor:
    path = dlib_weights()
    if path is None:
        raise FacegenError(f"dlib's face recognition network is not installed: {INSTALL_DLIB}")
    import dlib

    network = dlib.face_recognition_model_v1(str(path))

    def features(images: torch.Tensor) -> torch.Tensor:
        found = network.compute_face_descriptor(list(place(images, template, DLIB_TEMPLATE, DLIB_SIZE)))
        return functional.normalize(torch.tensor(np.array(found), dtype=torch.float32))

    return Extractor(f"dlib-{dlib.__version__}-{_template_name(template)}", features)


def _facenet(path: Path, template: AlignmentTemplate, device: torch.device | str) -> Extractor:
    network = load_facenet(path).to(device)

    @torch.no_grad()
    def features(images: torch.Tensor) -> torch.Tensor:
        chips = torch.from_numpy(place(images, template, FACENET_TEMPLATE, FACENET_SIZE))
        pixels = chips.to(device).permute(0, 3, 1, 2)
        return functional.normalize(network((pixels.float() - 127.5) / 128)).float().cpu()

    return Extractor(f"facenet-{file_fingerprint(path)}-{_template_name(template)}", features)


def place(images: torch.Tensor, template: AlignmentTemplate, wanted: AlignmentTemplate, size: int) -> np.ndarray:
    """Warp aligned pictures to another network's alignment, uint8 `[N, size, size, 3]`; their edge pixels are repeated.

    Args:
        images: uint8 `[N, 3, H, H]`, aligned to `template`.
        wanted: Where the landmarks are to lie.
    """
    landmarks = np.asarray(template.points) * images.shape[-1]
    pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
    return np.stack(list(map_in_order(lambda x: np.asarray(align_face(x, landmarks, wanted, size)), pictures)))


def _template_name(template: AlignmentTemplate) -> str:
    """Cached features of real faces depend on how they were placed."""
    return hashlib.sha256(repr(template.to_json()).encode()).hexdigest()[:8]
