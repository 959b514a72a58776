"""How much of a person is lost, as a network sees it that tells people."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from facegen.faces.template import AlignmentTemplate, alignment_matrix, invert_matrix
from facegen.weights.face_network import FaceNetwork


class IdentityLoss(nn.Module):
    """1 - cosine of two pictures' features (Richardson et al. 2021, equation 4), differentiable in the first.

    Args:
        face_network: Tells people; `load_face_network` returns one.
        template: Where the landmarks lie in the pictures.
        resolution: Side of the pictures.
    """

    grid: torch.Tensor

    def __init__(self, face_network: FaceNetwork, template: AlignmentTemplate, resolution: int) -> None:
        super().__init__()
        self.network = face_network.network.eval().requires_grad_(False)
        size = face_network.size
        landmarks = np.asarray(template.points) * resolution
        to_picture = torch.from_numpy(invert_matrix(alignment_matrix(landmarks, face_network.template, size)))
        pixels = torch.arange(size) + 0.5
        y, x = torch.meshgrid(pixels, pixels, indexing="ij")
        grid = torch.stack([x, y, torch.ones_like(x)], dim=-1).double() @ to_picture.T
        step = float(to_picture[:, 0].norm())  # in pixels of the picture, of one of the network's
        self.side = min(resolution, round(resolution / step))
        self.register_buffer("grid", (grid / resolution * 2 - 1).float(), persistent=False)

    def forward(self, images: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
        """Mean over pictures `[N, 3, H, H]` in -1..1."""
        return (1 - self.similarity(images, originals)).mean()

    def similarity(self, images: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
        """The cosines of pictures `[N, 3, H, H]` in -1..1 and of those that they were made of: `[N]`."""
        with torch.no_grad():
            wanted = self.features(originals)
        return functional.cosine_similarity(self.features(images), wanted)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Faces placed as the network knows them, and what it sees: `[N, F]`."""
        if self.side < images.shape[-1]:  # else most pixels of a large picture would be skipped
            images = functional.interpolate(images, (self.side, self.side), mode="bicubic", antialias=True)
        grid = self.grid.expand(len(images), -1, -1, -1)
        placed = functional.grid_sample(images, grid, "bicubic", padding_mode="border", align_corners=False)
        return self.network(placed * (127.5 / 128)).float()  # its pictures are (level - 127.5) / 128
