"""The loss of identity: where it places faces, and what it is of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from matplotlib.cbook import get_sample_data
from PIL import Image

from facegen.evaluation.judges import place
from facegen.faces.align import align_face
from facegen.faces.find import find_faces
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.training.encoder.identity_loss import IdentityLoss
from facegen.weights.face_network import INSIGHTFACE_TEMPLATE, FaceNetwork
from facegen.weights.facenet import FACENET_SIZE, FACENET_TEMPLATE


class SeesAll(torch.nn.Module):
    """Features that are the pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


FACENET = FaceNetwork(SeesAll(), FACENET_TEMPLATE, FACENET_SIZE)


def hopper(size: int) -> torch.Tensor:
    with get_sample_data("grace_hopper.jpg") as file:
        photo = Image.open(file).convert("RGB")
    aligned = align_face(photo, find_faces(photo)[0], UTKFACE_TEMPLATE, size)
    return torch.from_numpy(np.array(aligned)).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    return hopper(64)


# Two kinds of bicubic: a level apart on average. Two low-pass filters leave more of the noise apart; without one 12.
@pytest.mark.parametrize(("size", "levels"), [(64, 1.5), (512, 7)])
@pytest.mark.parametrize("network", [FACENET, FaceNetwork(SeesAll(), INSIGHTFACE_TEMPLATE, 112)])
def test_faces_are_placed_as_the_judge_places_them(size: int, levels: float, network: FaceNetwork):
    face = hopper(size)
    if size > network.size:  # texture that must be averaged, not sampled
        noise = torch.randint(-40, 41, face.shape, generator=torch.Generator().manual_seed(0))
        face = (face + noise).clamp(0, 255).to(torch.uint8)
    loss = IdentityLoss(network, UTKFACE_TEMPLATE, size)
    ours = loss.features(face.float() / 127.5 - 1).unflatten(1, (3, network.size, network.size))[0]
    judges = np.asarray(place(face, UTKFACE_TEMPLATE, network.template, network.size)[0]).astype(np.float32)
    wanted = (torch.from_numpy(judges).permute(2, 0, 1) - 127.5) / 128
    assert float((ours - wanted).abs().mean()) * 128 < levels
    assert float((ours[:, :, 1:] - wanted[:, :, :-1]).abs().mean()) * 128 > 4  # moved by a pixel


def test_it_is_nothing_for_the_same_face_and_grows_with_the_difference(face: torch.Tensor):
    torch.manual_seed(0)
    loss = IdentityLoss(FaceNetwork(InceptionResnetV1(), FACENET_TEMPLATE, FACENET_SIZE), UTKFACE_TEMPLATE, 64)
    image = face.float() / 127.5 - 1
    noise = torch.randn_like(image)
    values = [float(loss(image + level * noise, image)) for level in (0, 0.1, 0.4)]
    assert values[0] == pytest.approx(0, abs=1e-5)
    assert values[0] < values[1] < values[2] < 2


def test_it_reaches_the_picture_and_not_the_network(face: torch.Tensor):
    loss = IdentityLoss(FaceNetwork(InceptionResnetV1(), FACENET_TEMPLATE, FACENET_SIZE), UTKFACE_TEMPLATE, 64)
    original = face.float() / 127.5 - 1
    image = (original * 0.9).requires_grad_()
    loss(image, original).backward()
    assert image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in loss.network.parameters())
