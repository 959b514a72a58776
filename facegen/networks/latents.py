"""From latents to pictures: where an encoder's latent lies in w, and the picture of a w.

An encoder of z that was trained with squared error predicts the mean of all latents that are possible, so the less it
knows, the shorter its answer: for a standard normal z, a guess with cosine r has about r times the full length. The
mapping network scales every z to full length, which would exaggerate the little that is known, far beyond anything seen
in training. So the length is applied afterward: w is moved from the group's mean toward mapping(z, c) by that fraction.
"""

from __future__ import annotations

import torch

from facegen.networks.generator import Generator

MEAN_SAMPLES = 1000


def draw(generator: Generator, ws: torch.Tensor) -> torch.Tensor:
    """The pictures of ws `[N, num_ws, w_dim]`: float32 RGB `[N, 3, H, W]`, about -1..1, with constant noise."""
    return generator.synthesis(ws, noise_mode="const").expand(-1, 3, -1, -1)


def group_means(generator: Generator, *, samples: int = MEAN_SAMPLES, seed: int = 0) -> torch.Tensor:
    """Return the mean w of every class over `samples` random z: float32 `[c_dim, w_dim]`, `[1, w_dim]` without classes.

    `mapping.w_avg` is one mean over all classes; drawing w toward it would draw every face to a middle age.
    """
    device = next(generator.parameters()).device
    random = torch.Generator().manual_seed(seed)
    z = torch.randn([samples, generator.z_dim], generator=random, dtype=torch.float32, device="cpu").to(device)
    labels = torch.eye(max(generator.c_dim, 1), generator.c_dim, dtype=torch.float32, device=device)
    with torch.no_grad():
        ws = (generator.mapping(z, label.expand(samples, -1), skip_w_avg_update=True)[:, 0] for label in labels)
        return torch.stack([w.mean(dim=0) for w in ws])


def sureness(z: torch.Tensor) -> torch.Tensor:
    """Return the length of encoded latents `[N, z_dim]` relative to that of random ones, at most 1: `[N]`."""
    return z.square().mean(dim=1).sqrt().clamp(max=1)


def place_latents(
    generator: Generator, z: torch.Tensor, c: torch.Tensor, means: torch.Tensor, psi: float = 1.0
) -> torch.Tensor:
    """Return the w `[N, num_ws, w_dim]` of encoded z: as far from their groups' means as the encoder was sure.

    Args:
        generator: in evaluation mode.
        z: `[N, z_dim]`, from an encoder; its length counts.
        c: one-hot `[N, c_dim]`.
        means: as returned by `group_means`.
        psi: factor on the distance to the group's mean: below 1 faces become more average.
    """
    mean = (c @ means if generator.c_dim else means)[:, None, :]
    return mean.lerp(generator.mapping(z, c), (psi * sureness(z))[:, None, None])
