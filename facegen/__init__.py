"""Change the apparent age of a face: a class-conditional StyleGAN2-ADA generator and a latent encoder."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Resolved on first use, so that `import facegen` stays fast and pulls in neither torchvision,
# facenet-pytorch, matplotlib nor huggingface_hub.
_LAZY = {
    "AgeGroups": "facegen.ages",
    "AgeTransfer": "facegen.transfer",
    "Discriminator": "facegen.networks.discriminator",
    "Encoder": "facegen.networks.encoder",
    "Generator": "facegen.networks.generator",
    "load_discriminator": "facegen.weights.load",
    "load_encoder": "facegen.weights.load",
    "load_generator": "facegen.weights.load",
}

__all__ = [
    "AgeGroups",
    "AgeTransfer",
    "Discriminator",
    "Encoder",
    "Generator",
    "__version__",
    "load_discriminator",
    "load_encoder",
    "load_generator",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'facegen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
