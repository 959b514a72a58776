"""facenet-pytorch's network that tells people: its weights, and where it wants their faces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facegen.errors import FacegenError, one_line
from facegen.faces.template import AlignmentTemplate
from facegen.networks.encoder import Encoder
from facegen.weights.cache import removed_if_damaged
from facegen.weights.read import read_state_dict

# Where the landmarks of `facegen.faces.template` lie in its training pictures: MTCNN's box with its margin, squeezed
# to a square; the box was measured on 59 faces of UTKFace.
FACENET_TEMPLATE = AlignmentTemplate(((0.292, 0.421), (0.723, 0.422), (0.509, 0.613), (0.310, 0.744), (0.697, 0.745)))
FACENET_SIZE = 160
CLASSES = (8631, 10575)  # people that the published networks tell apart: VGGFace2's, CASIA-WebFace's
BATCH_NORM_EPS = 0.001  # of its last batch normalization

PRETRAINED = ("vggface2", "casia-webface")
RELEASES = "https://github.com/timesler/facenet-pytorch/releases/tag/v2.2.9"
VGGFACE2_URL = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"


def load_facenet(path: Path) -> nn.Module:
    """Load facenet-pytorch's InceptionResnetV1 from a state dict, of which nothing is run; its classes are left out.

    Args:
        path: A safetensors file, or a torch file of tensors alone; `locate_weights` finds or downloads it.

    Raises:
        FileNotFoundError, FacegenError: no such file, or not the weights of this network.
    """
    from facenet_pytorch import InceptionResnetV1

    with removed_if_damaged(path):
        state = {name: tensor for name, tensor in read_state_dict(path).items() if not name.startswith("logits.")}
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn, only to be replaced
        network = InceptionResnetV1()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise FacegenError(
            f"{path}: not the weights of facenet-pytorch's InceptionResnetV1 ({VGGFACE2_URL})"
        ) from error
    return network.eval().requires_grad_(False)


def is_facenet(tensors: Mapping[Any, Any]) -> bool:
    """Whether tensors by name are those of an InceptionResnetV1 as facenet-pytorch names them."""
    return {"conv2d_1a.conv.weight", "last_linear.weight", "last_bn.weight"} <= tensors.keys()


def encoder_of(state: Mapping[str, torch.Tensor], where: str) -> Encoder:
    """Return the encoder of z that a whole InceptionResnetV1 is which was trained to be one.

    Its last layers (a linear one, batch normalization and, with `classify`, another linear one) become a single one.
    Without `classify` it ends by scaling to length 1, which is left out: a generator does not see how long z is.

    Args:
        state: its state dict.
        where: the file, for messages.

    Raises:
        FacegenError: it tells people, not latents, or tensors are missing or of other shapes.
    """
    last = {name: x.double() for name, x in state.items() if name.startswith(("last_", "logits.")) and x.ndim > 0}
    trunk = {f"trunk.{name}": tensor for name, tensor in state.items() if not name.startswith(("last_", "logits."))}
    try:
        gain = last["last_bn.weight"] / (last["last_bn.running_var"] + BATCH_NORM_EPS).sqrt()
        weight = gain[:, None] * last["last_linear.weight"]
        bias = last["last_bn.bias"] - last["last_bn.running_mean"] * gain
        if "logits.weight" in last:
            weight, bias = last["logits.weight"] @ weight, last["logits.weight"] @ bias + last["logits.bias"]
        if len(bias) in CLASSES:
            raise FacegenError(
                f"{where}: a network that recognizes {len(bias):,} people, not an encoder; `facegen train-encoder "
                "--init` can start one from it"
            )
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn, only to be replaced
            encoder = Encoder(len(bias), input_size=FACENET_SIZE)
        encoder.load_state_dict({**trunk, "head.weight": weight, "head.bias": bias})
    except (KeyError, RuntimeError) as error:
        words = one_line(error, 200)
        raise FacegenError(f"{where}: not all the weights of a facenet-pytorch InceptionResnetV1 ({words})") from error
    return encoder.eval().requires_grad_(False)


def load_trunk(encoder: Encoder, init: str | os.PathLike[str]) -> None:
    """Start the encoder from trained weights; layers that it does not have are left out.

    Args:
        init: `none` leaves it as it is. `vggface2` and `casia-webface` are facenet-pytorch's face recognition
            weights, downloaded on first use. Anything else is a file: a state dict of facenet-pytorch (`.pt` or
            `.safetensors`) or one of facegen's encoders, whose head comes along when its z_dim is the same.

    Raises:
        FileNotFoundError, FacegenError: no such file, no network, or weights that do not fit; one line.
    """
    init = str(init)
    if init == "none":
        return
    if init in PRETRAINED:
        state = _download(init)
    elif Path(init).exists():
        state = read_state_dict(init)
    else:
        names = ", ".join((*PRETRAINED, "none"))
        raise FileNotFoundError(f"{init}: no such file to start the encoder from (or one of {names})")
    # facegen's own files say `encoder.trunk.` and `encoder.head.`, facenet-pytorch's have no prefix.
    state = {name.removeprefix("encoder."): tensor for name, tensor in state.items()}
    if not any(name.startswith("trunk.") for name in state):
        state = {f"trunk.{name}": tensor for name, tensor in state.items()}

    narrow, wide, bias = (state.get(f"head.{name}") for name in ("0.weight", "1.weight", "1.bias"))
    if narrow is not None and wide is not None and bias is not None and wide.shape[1:] == narrow.shape[:1]:
        # A shortened head: a whole one starts from the product.
        state |= {"head.weight": wide.float() @ narrow.float(), "head.bias": bias}

    # The mean of w is the generator's, whatever the weights were trained with.
    own = {name: tensor for name, tensor in encoder.state_dict().items() if name.startswith(("trunk.", "head."))}
    for name, tensor in own.items():
        in_head = name.startswith("head.")
        if name not in state and not in_head:
            raise FacegenError(f"{init}: not weights of an InceptionResnetV1 for this encoder: {name} is missing")
        if name in state and state[name].shape != tensor.shape and not in_head:
            raise FacegenError(
                f"{init}: {name} has shape {list(state[name].shape)}, the encoder needs {list(tensor.shape)}"
            )
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    encoder.load_state_dict(fitting, strict=False)


def _download(name: str) -> Mapping[str, torch.Tensor]:
    """facenet-pytorch's weights by name; it keeps them in torch's cache."""
    from facenet_pytorch import InceptionResnetV1

    try:
        return InceptionResnetV1(pretrained=name).state_dict()
    except Exception as error:  # no network, no space, a damaged cache: each with an exception of its own
        raise FacegenError(
            f"cannot get the {name} weights of facenet-pytorch ({one_line(error)}): download them from {RELEASES} "
            "and pass --init FILE, or start untrained with --init none"
        ) from error
