"""Networks that tell people, of files that others have trained: for a loss while training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from facegen.errors import FacegenError, one_line
from facegen.faces.template import AlignmentTemplate
from facegen.networks import mobile_facenet
from facegen.networks.mobile_facenet import MobileFaceNet
from facegen.weights.facenet import FACENET_SIZE, FACENET_TEMPLATE, load_facenet
from facegen.weights.read import check_finite
from facegen.weights.tensors.mxnet_file import is_mxnet_file, read_mxnet_file

# Where InsightFace places the landmarks, in 112 pixels.
_POINTS = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
INSIGHTFACE_TEMPLATE = AlignmentTemplate(tuple((x / 112, y / 112) for x, y in _POINTS))
# The convolutions of `MobileFaceNet`, in its order, as InsightFace names them.
BLOCKS = ("dconv_23", *(f"res_3_block{i}" for i in range(4)), "dconv_34", *(f"res_4_block{i}" for i in range(6)))
BLOCKS += ("dconv_45", *(f"res_5_block{i}" for i in range(2)))
PARTS = [f"{block}_conv_{part}" for block in BLOCKS for part in ("sep", "dw", "proj")]
CONVS = ("conv_1", "conv_2_dw", *PARTS, "conv_6sep", "conv_6dw7_7")
EPS, LAST_EPS = 1e-3, 2e-5  # of the batch normalizations, and of the last one


@dataclass(frozen=True)
class FaceNetwork:
    """A network that tells people, frozen, and the faces that it takes.

    network: Pictures `[N, 3, size, size]`, (level - 127.5) / 128, to features `[N, F]`, compared by their cosine.
    template: Where the landmarks lie in them.
    """

    network: nn.Module
    template: AlignmentTemplate
    size: int


def load_face_network(path: Path) -> FaceNetwork:
    """Load facenet-pytorch's InceptionResnetV1 or InsightFace's MobileFaceNet; the file's content tells which it is.

    Args:
        path: As `load_facenet` takes it, or MXNet's `mobilefacenet_y1.params`. Nothing of it is run.

    Raises:
        FileNotFoundError, FacegenError: no such file, or not the weights of such a network.
    """
    if path.exists() and is_mxnet_file(path):
        return FaceNetwork(load_mobile_facenet(path), INSIGHTFACE_TEMPLATE, mobile_facenet.SIZE)
    return FaceNetwork(load_facenet(path), FACENET_TEMPLATE, FACENET_SIZE)


def load_mobile_facenet(path: Path) -> MobileFaceNet:
    """Load InsightFace's MobileFaceNet from its `.params` file, batch normalizations folded into convolutions.

    Raises:
        FileNotFoundError, FacegenError: no such file, damaged, or not the weights of this network.
    """
    arrays = {name: array.double() for name, array in read_mxnet_file(path).items()}
    network, names = MobileFaceNet(), iter(CONVS)
    state: dict[str, torch.Tensor] = {}
    try:
        for key, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                name = next(names)
                weight, bias = _folded(arrays[f"{name}_conv2d_weight"], 0, arrays, f"{name}_batchnorm", EPS)
                state |= {f"{key}.weight": weight, f"{key}.bias": bias}
            elif isinstance(module, nn.PReLU):  # comes after its convolution
                state[f"{key}.weight"] = arrays[f"{name}_relu_gamma"]
        weight, bias = _folded(arrays["fc1_weight"], arrays["pre_fc1_bias"], arrays, "fc1", LAST_EPS)
        network.load_state_dict({**state, "last.weight": weight, "last.bias": bias})
    except (KeyError, RuntimeError) as error:
        words = one_line(error, 200)
        raise FacegenError(f"{path}: not the weights of InsightFace's MobileFaceNet ({words})") from error
    check_finite(network.state_dict(), str(path))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # a tenth faster on CPUs


def _folded(
    weight: torch.Tensor, bias: torch.Tensor | float, arrays: Mapping[str, torch.Tensor], norm: str, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a layer together with the batch normalization after it."""
    mean, variance, gamma, beta = (arrays[f"{norm}_{x}"] for x in ("moving_mean", "moving_var", "gamma", "beta"))
    gain = gamma / (variance + eps).sqrt()
    return weight * gain.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * gain + beta
