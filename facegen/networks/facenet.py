"""facenet-pytorch's network that tells people: where it wants their faces, and its weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from facegen.errors import FacegenError
from facegen.faces.template import AlignmentTemplate
from facegen.metrics.features import read_weights

# Where the landmarks of `facegen.faces.template` lie in its training pictures: MTCNN's box with its margin, squeezed
# to a square; the box was measured on 59 faces of UTKFace.
FACENET_TEMPLATE = AlignmentTemplate(((0.292, 0.421), (0.723, 0.422), (0.509, 0.613), (0.310, 0.744), (0.697, 0.745)))
FACENET_SIZE = 160

VGGFACE2_URL = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"


def load_facenet(path: Path) -> nn.Module:
    """Load facenet-pytorch's InceptionResnetV1 from a state dict, of which nothing is run; its classes are left out.

    Args:
        path: A safetensors file, or a torch file of tensors alone; `locate_weights` finds or downloads it.

    Raises:
        FileNotFoundError, FacegenError: no such file, or not the weights of this network.
    """
    from facenet_pytorch import InceptionResnetV1

    state = {name: tensor for name, tensor in _read_state(path).items() if not name.startswith("logits.")}
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn, only to be replaced
        network = InceptionResnetV1()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise FacegenError(
            f"{path}: not the weights of facenet-pytorch's InceptionResnetV1 ({VGGFACE2_URL})"
        ) from error
    return network.eval().requires_grad_(False)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix.lower() != ".safetensors":
        return read_weights(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise FacegenError(f"{path}: not a readable safetensors file ({error})") from error
