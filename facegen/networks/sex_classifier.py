"""The sex classifier: whether a face looks like a woman's or a man's, as aging must not change it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIZE = 32  # side of the pictures that it looks at
MARGIN = 0.05  # of an aligned picture's side is cut off: it was trained on tighter crops
MEAN = (122.782, 117.001, 104.298)  # of the levels 0..255 that it was trained on
WIDTHS = (32, 32, 64, 64)


class SexClassifier(nn.Module):
    """Faces `[N, 3, H, W]` in -1..1, aligned as UTKFace's, to logits `[N, 2]`: woman, man.

    Four 3x3 convolutions, averaged to half the side after each second one, and two linear layers. The weights in the
    package are those of dlib-models' gender classifier (public domain), see `scripts/convert_sex_classifier.py`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.init_kwargs: dict[str, int] = {}
        inputs = (3, *WIDTHS[:-1])
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(inputs, WIDTHS, strict=True))
        self.hidden = nn.Linear(WIDTHS[-1] * (SIZE // 4) ** 2, 16)
        self.output = nn.Linear(16, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `[N, 2]`; has a gradient."""
        rows, columns = (round(MARGIN * side) for side in images.shape[2:])
        inner = images[:, :, rows : images.shape[2] - rows, columns : images.shape[3] - columns]
        x = functional.interpolate(inner, (SIZE, SIZE), mode="bilinear", antialias=True)
        mean = torch.tensor(MEAN, dtype=x.dtype, device=x.device)[:, None, None]
        x = ((x + 1) * 127.5 - mean) / 256
        for index, conv in enumerate(self.convs):
            x = functional.relu(conv(x))
            if index % 2:
                x = functional.avg_pool2d(x, 2)
        return self.output(functional.relu(self.hidden(x.flatten(1))))

    def men(self, images: torch.Tensor) -> torch.Tensor:
        """Return how surely faces `[N, 3, H, W]` in -1..1 look like men's: `[N]`, 0..1; has a gradient."""
        return self(images).softmax(dim=1)[:, 1]
