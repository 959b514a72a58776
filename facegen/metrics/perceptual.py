"""LPIPS, a perceptual distance of pictures (Zhang et al. 2018, "The Unreasonable Effectiveness ..."), on VGG16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from facegen.errors import FacegenError

# Index in torchvision's VGG16 of the last ReLU of each of its five blocks, and its channels.
BLOCK_ENDS = (3, 8, 15, 22, 29)
BLOCK_CHANNELS = (64, 128, 256, 512, 512)
SMALLEST = 16  # pixels that four halvings leave one of


class PerceptualDistance(nn.Module):
    """Squared distances of VGG16 features, weighted per channel as people judge (equation 1).

    Args:
        vgg: State dict of torchvision's VGG16.
        heads: `lin0.model.1.weight` to `lin4.model.1.weight`, `[1, C, 1, 1]` each.

    Raises:
        FacegenError: a weight is missing or has another shape.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, vgg: Mapping[str, torch.Tensor], heads: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        from torchvision.models import vgg16

        with torch.device("meta"):  # without drawing 138 million weights, only to replace them
            layers = vgg16(weights=None).features
        layers = layers.to_empty(device="cpu")
        try:
            # torchvision's own names; the classifier at the end has no part in this.
            prefix = "features."
            layers.load_state_dict({k.removeprefix(prefix): v for k, v in vgg.items() if k.startswith(prefix)})
        except RuntimeError as error:
            raise FacegenError("these are not the weights of torchvision's VGG16 (vgg16-397923af.pth)") from error
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # what a block ends with is still needed
        self.layers = layers[: BLOCK_ENDS[-1] + 1]
        for index, channels in enumerate(BLOCK_CHANNELS):
            weight = heads.get(f"lin{index}.model.1.weight")
            if weight is None or weight.shape != (1, channels, 1, 1):
                raise FacegenError(
                    f"these are not the weights of LPIPS on VGG16: no lin{index} with {channels} channels"
                )
            self.register_buffer(f"head{index}", weight.detach().clone())
        # What LPIPS takes from pictures in -1..1 before VGG16 sees them.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, images1: torch.Tensor, images2: torch.Tensor) -> torch.Tensor:
        """Map two stacks of pictures, float32 `[N, 3, H, W]` in -1..1, to distances `[N]`.

        Raises a FacegenError for pictures that are too small for VGG16.
        """
        if min(images1.shape[-2:]) < SMALLEST:
            height, width = images1.shape[-2:]
            raise FacegenError(
                f"LPIPS needs pictures of at least {SMALLEST}x{SMALLEST} pixels, not {width}x{height}; "
                "ppl_w and ppl_z look at half a picture's width, ppl2_wend at all of it"
            )
        maps = self.features(torch.cat([images1, images2]))
        first, second = zip(*(part.chunk(2) for part in maps), strict=True)
        return self.between(first, second)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """What is compared of pictures `[N, 3, H, W]` in -1..1: five maps, whose channels have length 1 everywhere."""
        x = (images - self.shift) / self.scale
        maps = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in BLOCK_ENDS:
                maps.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return maps

    def between(self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
        """Distances `[N]` of N pictures to N others, from the `features` of both."""
        total = torch.zeros(len(first[0]), device=first[0].device)
        for block, (one, other) in enumerate(zip(first, second, strict=True)):
            weighted = (one - other).square() * getattr(self, f"head{block}")
            total += weighted.sum(dim=1).mean(dim=(1, 2))
        return total
