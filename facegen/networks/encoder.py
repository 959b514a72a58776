"""The encoder: a picture of a face in, the generator's latent out. InceptionResnetV1 of facenet-pytorch, wrapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from facegen.errors import FacegenError

MAX_BLOCKS = (5, 10, 5)  # residual blocks in repeat_1, repeat_2, repeat_3 of the whole InceptionResnetV1
MIN_INPUT_SIZE = 75  # below this its unpadded convolutions run out of pixels
MAX_INPUT_SIZE = 1024  # no weight says how large the pictures are, so a tiny file could ask for any memory
MAX_WS = 100
FEATURES = 1792  # channels that the trunk ends with
TARGETS = ("z", "w", "w+")


class Encoder(nn.Module):
    """Faces `[N, 3, H, W]` in -1..1 to latents. It never sees the age.

    Args:
        z_dim: Length of the latent, be it z or w.
        img_resolution: Side of the generator's pictures, for the record; any size is accepted.
        input_size: Side to which pictures are resized before the first convolution, 75 to 1024.
        blocks: How many residual blocks to keep of the trunk's three stages, at most (5, 10, 5). Fewer make a
            smaller, faster encoder; pretrained weights fit by name all the same.
        target: What it predicts. `z`: the mapping network's input, `[N, z_dim]`. `w`: what the mapping network makes
            of z and the age, `[N, num_ws, z_dim]`, the same for every layer. `w+`: a w for each layer (Abdal et al.
            2019, section 5), which says more of a face.
        num_ws: Layers of the generator that take a w; only for the targets w and w+.
        head_rank: Rank of the head's matrix, which is then kept as a product of two (see `shorten_head`); None keeps
            it whole.

    Its parameters are `trunk.*`, named as in facenet-pytorch, and `head.*`. Without dropout: this is a regression.
    """

    w_mean: torch.Tensor

    def __init__(
        self,
        z_dim: int,
        img_resolution: int = 64,
        input_size: int = 96,
        blocks: Sequence[int] = MAX_BLOCKS,
        target: str = "z",
        num_ws: int = 1,
        head_rank: int | None = None,
    ) -> None:
        super().__init__()
        blocks = tuple(int(count) for count in blocks)
        if len(blocks) != 3 or any(not 0 <= n <= most for n, most in zip(blocks, MAX_BLOCKS, strict=True)):
            raise FacegenError(f"the encoder's blocks are three numbers of at most {MAX_BLOCKS}, got {blocks}")
        if not MIN_INPUT_SIZE <= input_size <= MAX_INPUT_SIZE:
            raise FacegenError(
                f"the encoder's input size is from {MIN_INPUT_SIZE} to {MAX_INPUT_SIZE} pixels, got {input_size}"
            )
        if not 1 <= num_ws <= MAX_WS:
            raise FacegenError(f"the encoder's num_ws is from 1 to {MAX_WS}, got {num_ws}")
        if z_dim < 1:
            raise FacegenError(f"the encoder's z_dim is at least 1, got {z_dim}")
        if target not in TARGETS:
            raise FacegenError(f"the encoder's target is one of {', '.join(TARGETS)}, got {target!r}")
        self.init_kwargs: dict[str, Any] = {
            "z_dim": z_dim,
            "img_resolution": img_resolution,
            "input_size": input_size,
            "blocks": list(blocks),
        }
        if target != "z":
            self.init_kwargs |= {"target": target, "num_ws": num_ws}
        outputs = z_dim * (num_ws if target == "w+" else 1)
        if head_rank is not None:
            if not 1 <= head_rank <= min(FEATURES, outputs):
                raise FacegenError(f"the encoder's head_rank is from 1 to {min(FEATURES, outputs)}, got {head_rank}")
            self.init_kwargs["head_rank"] = head_rank
        self.z_dim = z_dim
        self.img_resolution = img_resolution
        self.input_size = input_size
        self.trunk = _build_trunk(blocks)
        self.target = target
        self.num_ws = num_ws
        self.head: nn.Module = nn.Linear(FEATURES, outputs)
        if head_rank is not None:
            self.head = nn.Sequential(nn.Linear(FEATURES, head_rank, bias=False), nn.Linear(head_rank, outputs))
        if target != "z":
            self.register_buffer("w_mean", torch.zeros(z_dim))
        # Start close to the mean of all latents: an untrained guess of full length is worse than no guess.
        for layer in self.head.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=1e-3)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return z `[N, z_dim]`, or w `[N, num_ws, z_dim]`, of pictures `[N, 3, H, W]` in -1..1."""
        size = (self.input_size, self.input_size)
        if images.shape[-2:] != size:
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        # The trunk was made for (x - 127.5) / 128, which is -1..1 to half a percent.
        latents = self.head(self.trunk(images).flatten(1))
        if self.target == "z":
            return latents
        return self.w_mean + latents.unflatten(1, (-1, self.z_dim)).expand(-1, self.num_ws, -1)


@torch.no_grad()
def shorten_head(encoder: Encoder, rank: int) -> Encoder:
    """Return the encoder with the closest head of that rank (Eckart and Young 1936), for a smaller file.

    The head of an encoder of w+ has more weights than its trunk, and most of its singular values are small.

    Raises:
        FacegenError: the head is of a lower rank, or was shortened before.
    """
    if not isinstance(encoder.head, nn.Linear):
        raise FacegenError("the encoder's head was shortened before")
    shorter = Encoder(**{**encoder.init_kwargs, "head_rank": rank}).eval()
    left, values, right = torch.linalg.svd(encoder.head.weight.double(), full_matrices=False)
    roots = values[:rank].sqrt()  # in both, so that float16 suits both
    state = {name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("head.")}
    state["head.0.weight"] = (roots[:, None] * right[:rank]).float()
    state["head.1.weight"] = (left[:, :rank] * roots).float()
    state["head.1.bias"] = encoder.head.bias
    shorter.load_state_dict(state)
    return shorter


def _build_trunk(blocks: tuple[int, ...]) -> nn.Sequential:
    """The layers of InceptionResnetV1 up to its average pooling, with shortened stages."""
    with torch.device("cpu"):  # the import computes (in PyTorch 2.6), which the meta device of `native.py` cannot
        from facenet_pytorch import InceptionResnetV1

    whole = InceptionResnetV1()
    for name, count in zip(("repeat_1", "repeat_2", "repeat_3"), blocks, strict=True):
        setattr(whole, name, getattr(whole, name)[:count])
    trunk = nn.Sequential()
    for name, layer in whole.named_children():
        trunk.add_module(name, layer)
        if name == "avgpool_1a":
            break
    return trunk
