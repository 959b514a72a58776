"""From one of our networks to its counterpart that needs nothing of facegen."""

from __future__ import annotations

import torch
from torch import nn

from facegen.weights.export import embedded_networks


def embedded(network: nn.Module) -> nn.Module:
    """Return a `Generator` or `Discriminator` of `embedded_networks` with copies of the weights of ours.

    It is in evaluation mode, on the CPU and without gradients. No random number is used up.
    """
    with torch.random.fork_rng(devices=[]):  # building draws weights, which nobody gets to see
        counterpart = getattr(embedded_networks, type(network).__name__)(**network.init_kwargs)
    counterpart.load_state_dict(network.state_dict(), strict=True)
    return counterpart.eval().requires_grad_(False)
