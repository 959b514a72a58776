"""The four configurations of the golden numbers, built and loaded."""

from __future__ import annotations

from typing import Any

import torch
from golden_numbers import golden

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator

CONFIGS = ("skip_resnet_cond32", "orig_orig_cond16_clamp", "resnet_skip_uncond16", "gray_nonoise8")


def generator(config: str, **synthesis_kwargs: Any) -> Generator:
    """Return the generator of a configuration in evaluation mode, with its weights; keywords change it."""
    file = golden(f"networks_{config}")
    about = file.about["G"]
    G = Generator(**{**about, "synthesis_kwargs": {**about["synthesis_kwargs"], **synthesis_kwargs}})
    G.load_state_dict(file.under("G"), strict=True)
    return G.eval()


def discriminator(config: str, **kwargs: Any) -> Discriminator:
    """Return the discriminator of a configuration in evaluation mode, with its weights; keywords change it."""
    file = golden(f"networks_{config}")
    D = Discriminator(**{**file.about["D"], **kwargs})
    D.load_state_dict(file.under("D"), strict=True)
    return D.eval()


def inputs(config: str, *names: str) -> list[torch.Tensor]:
    """Return stored inputs: `z`, `c`, `ws`, `x`."""
    return [golden(f"networks_{config}")[name] for name in names]
