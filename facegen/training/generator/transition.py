"""From unconditional to conditional training: labels that fade in.

Where classes have few pictures, a conditional GAN collapses on them, though an unconditional one would learn from all
pictures together. So train without labels at first and let them come in slowly (Shahbazi et al. 2022, "Collapse by
Conditioning", section 4). There the embedded label is multiplied by a weight, and D has a second output that never
hears of labels. Here the label itself is faded, between one that is the same for everybody and its own: networks keep
their shape, and files of the StyleGAN family start such a run as well as any other. Both networks normalize the
embedded label, and the one of everybody is short: half of what labels will do they do at about a quarter of the weight.
"""

from __future__ import annotations

import torch

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator


def label_weight(images_seen: int, t_start_kimg: float, t_end_kimg: float | None) -> float:
    """How much labels count after `images_seen` pictures: 0 until the start, 1 from the end on, evenly between.

    Without an end they count from the beginning.
    """
    if t_end_kimg is None or images_seen >= t_end_kimg * 1000:
        return 1.0
    start, end = t_start_kimg * 1000, t_end_kimg * 1000
    return max(images_seen - start, 0) / (end - start)


def fade_labels(c: torch.Tensor, weight: float) -> torch.Tensor:
    """Labels `[N, c_dim]` of a weight: at 0 all classes evenly, the same for everybody; at 1 as they are."""
    return c if weight == 1 else c * weight + (1 - weight) / max(c.shape[1], 1)


def effective_parameters(network: Generator | Discriminator, weight: float) -> dict[str, torch.Tensor]:
    """The parameters by name, in order, with which a network makes of plain labels what it now makes of faded ones.

    The embedding of labels is linear, so fading can be a part of it.
    """
    parameters: dict[str, torch.Tensor] = dict(network.named_parameters())
    if weight < 1 and network.c_dim:
        embed = network.mapping.embed
        everybody = embed.weight.mean(dim=1) * (embed.weight_gain / embed.bias_gain)
        parameters["mapping.embed.weight"] = embed.weight * weight
        parameters["mapping.embed.bias"] = embed.bias + everybody * (1 - weight)
    return parameters
