"""The golden numbers' generator and discriminator of each configuration, with their constructor arguments."""

from __future__ import annotations

from typing import Any

from golden_numbers import golden

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator

CONFIGS = ("skip_resnet_cond32", "orig_orig_cond16_clamp", "resnet_skip_uncond16", "gray_nonoise8")


def golden_pair(config: str) -> tuple[Generator, Discriminator, dict[str, Any]]:
    """Return both networks in evaluation mode and `{"G": arguments, "D": arguments}`."""
    file = golden(f"networks_{config}")
    G, D = Generator(**file.about["G"]), Discriminator(**file.about["D"])
    G.load_state_dict(file.under("G"))
    D.load_state_dict(file.under("D"))
    return G.eval(), D.eval(), {"G": file.about["G"], "D": file.about["D"]}
